import Bpf

/// Whether the tp_btf programs are right for this kernel: they take their fields from the tracepoints' arguments and from
/// KVM's own structures, both of which have changed over time.
enum TypedPrograms {
  static func check(layouts: Layouts) -> Check {
    func unfit(_ why: String) -> Check {
      .limited("fast path", "not used: \(why)", "the classic tracepoints are used, at about twice the cost")
    }
    guard KernelBtf.isPresent else { return unfit("the kernel has no BTF") }
    do {
      let btf = try KernelBtf()
      if let problem = problem(in: btf) { return unfit(problem) }
      // what BTF describes, the verifier can still refuse, and a lockdown or a module's BTF that does not match too
      try Session.try(attach: .btf, layouts: layouts, proxy: false)
      return .fine("fast path", "tp_btf")
    } catch {
      return unfit(error.description)
    }
  }

  private static func problem(in btf: borrowing KernelBtf) -> String? {
    guard let exit = btf.typedTracepoint("kvm_exit"), let entry = btf.typedTracepoint("kvm_entry") else {
      return "kvm's module BTF is absent or refused"
    }
    // until about 5.16 kvm_exit took (exit_reason, vcpu, isa)
    guard exit == [.structPointer("kvm_vcpu"), .integer(byteCount: 4)] else {
      return "kvm_exit has other arguments in this kernel"
    }
    guard entry.first == .structPointer("kvm_vcpu") else { return "kvm_entry has other arguments in this kernel" }
    guard btf.typedTracepoint("kvm_userspace_exit") != nil else { return "kvm_userspace_exit is not described" }
    guard
      btf.typedTracepoint("kvm_vcpu_wakeup") == [
        .integer(byteCount: 8), .integer(byteCount: 1), .integer(byteCount: 1),
      ]
    else { return "kvm_vcpu_wakeup has other arguments in this kernel" }
    let svm = btf.hasMember("vmcb", of: "vcpu_svm")
    let vmx = btf.hasMember("exit_reason", of: "vcpu_vmx") || btf.hasMember("vt", of: "vcpu_vmx")
    guard svm || vmx else { return "neither vcpu_svm nor vcpu_vmx is described in BTF" }
    return nil
  }
}
