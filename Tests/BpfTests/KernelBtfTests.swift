import Bpf
import Glibc
import TestSupport
import Testing

@Suite struct KernelBtfTests {
  @Test func anAbsentModuleHasNone() {
    #expect(!KernelBtf.isPresent(module: "kvmtax_no_such_module"))
  }

  @Test func readsTheArgumentsOfTypedTracepoints() throws {
    guard KernelBtf.isPresent else { return }
    let btf = try KernelBtf()
    // sched_process_exit(struct task_struct *, [bool]); sys_enter(struct pt_regs *, long)
    #expect(btf.typedTracepoint("sched_process_exit")?.first == .structPointer("task_struct"))
    #expect(btf.typedTracepoint("sys_enter") == [.structPointer("pt_regs"), .integer(byteCount: 8)])
    #expect(btf.typedTracepoint("kvmtax_no_such_event") == nil)
  }

  @Test func knowsStructsAndTheirMembers() throws {
    guard KernelBtf.isPresent else { return }
    let btf = try KernelBtf()
    #expect(btf.hasStruct("task_struct") == true)
    #expect(btf.hasStruct("kvmtax_no_such_struct") == false)
    #expect(btf.hasMember("tgid", of: "task_struct") == true)
    #expect(btf.hasMember("kvmtax_no_such_member", of: "task_struct") == false)
    #expect(btf.hasMember("tgid", of: "kvmtax_no_such_struct") == false)
    // in an unnamed union of every kernel's struct page
    #expect(btf.hasMember("compound_head", of: "page") == true)
  }

  @Test func findsKvmWhereverItIs() throws {
    guard KernelBtf.isPresent, access("/sys/kernel/tracing/events/kvm/kvm_exit", F_OK) == 0 else { return }
    let btf = try KernelBtf()
    // a module without BTF is possible; then nothing is known of it
    guard let arguments = btf.typedTracepoint("kvm_exit") else { return }
    #expect(btf.hasStruct("kvm_vcpu") == true)
    #expect(btf.describesIoeventfds == btf.hasStruct("_ioeventfd"))
    // (vcpu, isa), before 5.16 (exit_reason, vcpu, isa)
    #expect(arguments.suffix(2) == [.structPointer("kvm_vcpu"), .integer(byteCount: 4)])
  }
}
