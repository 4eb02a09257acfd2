/// Exit reasons as the kernel spells them in kvm_exit's text, for traces that carry no names of their own.
enum ReasonTables {
  /// The name of a reason in the ISA's table; nil for other ISAs and for reasons that are in no table.
  static func name(isa: UInt8, reason: UInt32) -> String? {
    switch isa {
    case 1: vmx[reason]
    case 2: svm[reason]
    default: nil
    }
  }
}
