import Attribution
import Testing

/// Expects the same ledger twice, and names the first difference rather than printing two pages of numbers.
public func expectSame(_ found: Ledger, _ expected: Ledger) throws {
  #expect(found.vms.map(\.pid) == expected.vms.map(\.pid))
  try #require(found.vcpus.map(\.thread) == expected.vcpus.map(\.thread))
  for (vcpu, other) in zip(found.vcpus, expected.vcpus) {
    #expect(vcpu.states == other.states, "thread \(vcpu.thread)")
    try #require(vcpu.accounts.map(\.reason) == other.accounts.map(\.reason), "thread \(vcpu.thread)")
    for (account, expected) in zip(vcpu.accounts, other.accounts) {
      let isSame = account == expected
      try #require(isSame, "thread \(vcpu.thread), isa \(account.isa), reason \(account.reason)")
    }
    var (rest, otherRest) = (vcpu, other)
    (rest.accounts, otherRest.accounts) = ([], [])
    let differences = zip(Mirror(reflecting: rest).children, Mirror(reflecting: otherRest).children)
      .map { ($0.label ?? "", "\($0.value)", "\($1.value)") }
      .filter { $0.1 != $0.2 }
    try #require(differences.isEmpty, "thread \(vcpu.thread): \(differences)")
  }
}
