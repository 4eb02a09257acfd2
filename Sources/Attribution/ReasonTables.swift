/// Exit reasons as the kernel's headers name them, for traces that carry no names of their own.
enum ReasonTables {
  static func name(isa: UInt8, reason: UInt32) -> String? { nil }
}
