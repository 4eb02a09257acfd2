import Attribution
import Formats
import Testing

enum ReasonNamesProbe {
  static func count(_ format: EventFormat) -> Int {
    ReasonNames(kvmExitFormat: format).names.values.reduce(0) { $0 + $1.count }
  }
}

@Suite struct ReasonNameTests {
  private func exitFormat(_ printFormat: String) throws -> EventFormat {
    try EventFormat(text: "name: kvm_exit\nID: 1\nformat:\n\nprint fmt: \(printFormat)\n", system: "kvm")
  }

  @Test(arguments: Fixture.kernels) func theTextNamesEveryReasonOfBothIsas(kernel: String) throws {
    let text = try Fixture.text(kernel, "kvm_exit")
    let names = ReasonNames(kvmExitFormat: try EventFormat(text: text, system: "kvm"))
    // each "{ value, "name" }" of the text is in one of the tables, but the flag's
    let pairs = text.split(separator: "{ ").dropFirst().count
    #expect((names.names[1]?.count ?? 0) + (names.names[2]?.count ?? 0) == pairs - 1)
    #expect(names.names.keys.sorted() == [1, 2])
    #expect(names.names[1]?[48] == "EPT_VIOLATION" && names.names[2]?[0x400] == "npf")
    #expect(names.names[2]?[0x4e] == "PF excp" && names.names[2]?[0xffff_ffff] == "invalid_guest_state")
  }

  @Test(arguments: Fixture.kernels) func ourTablesAreSpeltAsTheKernels(kernel: String) throws {
    let format = try EventFormat(text: Fixture.text(kernel, "kvm_exit"), system: "kvm")
    for (isa, table) in ReasonNames(kvmExitFormat: format).names {
      for (reason, name) in table {
        #expect(ReasonNames().name(isa: isa, reason: reason) == name, "isa \(isa), reason \(reason)")
      }
    }
  }

  @Test func theTablesKnowWhatNewerKernelsAdded() {
    let names = ReasonNames()
    #expect(names.name(isa: 1, reason: 76) == "SEAMCALL")
    #expect(names.name(isa: 1, reason: 85) == "MSR_WRITE_IMM")
    #expect(names.name(isa: 2, reason: 0xa6) == "idle-halt")
    #expect(names.name(isa: 1, reason: 48 | 1 << 31) == "EPT_VIOLATION (failed entry)")
    #expect(names.name(isa: 2, reason: 0x12345) == "reason 0x12345")
    #expect(names.name(isa: 7, reason: 0x78) == "reason 0x78, isa 7")
  }

  @Test func theConditionDecidesWhoseTableItIs() throws {
    let cases: [(String, vmx: String?, svm: String?)] = [
      (
        #"(REC->isa == 1) ? __print_symbolic(REC->exit_reason, { 5, "V" }) : __print_symbolic(REC->exit_reason, { 5, "S" })"#,
        "V", "S"
      ),
      (
        #"(REC->isa == 2) ? __print_symbolic(REC->exit_reason, { 5, "S" }) : __print_symbolic(REC->exit_reason, { 5, "V" })"#,
        "V", "S"
      ),
      (
        #"REC->isa != 1 ? __print_symbolic(REC->exit_reason, { 5, "S" }) : __print_symbolic(REC->exit_reason, { 5, "V" })"#,
        "V", "S"
      ),
      (
        #"(REC->isa == 1) ? __print_symbolic(REC->exit_reason, { 5, "V" }) : (REC->isa == 2) ? __print_symbolic(REC->exit_reason, { 5, "S" }) : __print_symbolic(REC->exit_reason, { 5, "P" })"#,
        "V", "S"
      ),
      (#"__print_symbolic(REC->exit_reason, { 5, "X" })"#, nil, nil),
      (#"(REC->isa == 1) ? __print_symbolic(REC->other, { 5, "X" }) : """#, nil, nil),
      (
        #"(REC->isa == 3) ? __print_symbolic(REC->exit_reason, { 5, "X" }) : __print_symbolic(REC->exit_reason, { 5, "Y" })"#,
        nil, nil
      ),
      (#"REC->isa == 1 ? "a" : "b", __print_symbolic(REC->exit_reason, { 5, "X" })"#, nil, nil),
      (#"(REC->isa == 1) ? __print_symbolic(REC->exit_reason, { 4 + 1, "V" }, { SOME_ENUM, "E" }, { 6"#, "V", nil),
    ]
    for (text, vmx, svm) in cases {
      let names = ReasonNames(kvmExitFormat: try exitFormat("\"%s\", " + text)).names
      #expect(names[1]?[5] == vmx, "\(text)")
      #expect(names[2]?[5] == svm, "\(text)")
      let count = names.values.reduce(0) { $0 + $1.count }
      #expect(count == [vmx, svm].compactMap { $0 }.count, "\(text)")
    }
  }

  @Test func aBrokenPrintFmtLosesNoField() throws {
    let text = try Fixture.text("6.18", "kvm_exit")
    let whole = try EventFormat(text: text, system: "kvm")
    let cut = try EventFormat(
      text: text.replacing("{ 9, \"TASK_SWITCH\" }", with: "{ 9, \"TASK_SW"), system: "kvm")
    #expect(cut.fields == whole.fields)
    #expect(ReasonNames(kvmExitFormat: cut).name(isa: 1, reason: 1) == "EXTERNAL_INTERRUPT")
  }

  @Test func deeplyNestedTextCostsNothing() throws {
    let nested = String(repeating: "(REC->isa == 1 ? ", count: 3000)
    #expect(ReasonNames(kvmExitFormat: try exitFormat("\"\", " + nested)).names.isEmpty)
  }
}
