import Testing

@testable import TestSupport

@Suite struct RequirementTests {
  @Test(arguments: [false, true]) func whatIsThereIsMet(inCI: Bool) throws {
    #expect(try Requirement.tool("sh").isMet(inCI: inCI))
    #expect(try Requirement.kernel(3, 2).isMet(inCI: inCI))
  }

  @Test(arguments: [false, true]) func whatNoMachineHasIsSkippedEverywhere(inCI: Bool) throws {
    #expect(try !Requirement.kernel(999, 0).isMet(inCI: inCI))
  }

  @Test func whatWasForgottenIsSkippedAtHomeAndFailsInCI() throws {
    let absent = Requirement.tool("kvmtax-no-such-program")
    #expect(try !absent.isMet(inCI: false))
    #expect(throws: MissingRequirement.self) { try absent.isMet(inCI: true) }
  }
}
