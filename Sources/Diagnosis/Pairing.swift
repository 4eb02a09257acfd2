import Attribution

/// Which VM of one recording is which of the other.
public struct Pairing: Equatable, Sendable {
  /// A VM in both recordings; one that was started anew within a recording has several processes there.
  public struct Pair: Equatable, Sendable {
    /// Its processes in the first recording.
    public var before: [VirtualMachine]
    /// In the second one.
    public var after: [VirtualMachine]
  }

  /// In the order of the first recording.
  public private(set) var pairs: [Pair] = []
  /// VMs that the second recording does not have.
  public private(set) var onlyBefore: [VirtualMachine] = []
  /// VMs that the first one does not have.
  public private(set) var onlyAfter: [VirtualMachine] = []

  /// Matches by VMID, then by name; else, where each recording has but one VM, those, unless they say that they are
  /// different ones. `filter` is a name, VMID or pid in both.
  public init(_ before: Evidence, _ after: Evidence, vm filter: String? = nil) throws(InputError) {
    let first = Pairing.groups(try Pairing.vms(before, filter))
    var second = Pairing.groups(try Pairing.vms(after, filter))
    var partners = [Int?](repeating: nil, count: first.count)
    var isTaken = [Bool](repeating: false, count: second.count)
    func match(_ isSame: (VirtualMachine, VirtualMachine) -> Bool) {
      for number in first.indices where partners[number] == nil {
        guard let place = second.indices.first(where: { !isTaken[$0] && isSame(first[number][0], second[$0][0]) })
        else { continue }
        partners[number] = place
        isTaken[place] = true
      }
    }
    match { $0.vmid != nil && $0.vmid == $1.vmid }
    match { $0.name != nil && $0.name == $1.name && Pairing.canBeSame($0, $1) }
    if first.count == 1, second.count == 1 { match(Pairing.canBeSame) }
    for (group, partner) in zip(first, partners) {
      if let partner {
        pairs.append(Pair(before: group, after: second[partner]))
      } else {
        onlyBefore += group
      }
    }
    second.removeAll { group in pairs.contains { $0.after == group } }
    onlyAfter = second.flatMap(\.self)
    if pairs.isEmpty { throw Pairing.refusal(before, after, filter) }
  }

  private static func vms(_ evidence: Evidence, _ filter: String?) throws(InputError) -> [VirtualMachine] {
    guard let filter else { return evidence.ledger.vms }
    let vms = evidence.ledger.vms(named: filter)
    guard !vms.isEmpty else {
      throw InputError(
        file: evidence.capture.file, found: "has no VM '\(filter)'", expected: evidence.ledger.listing,
        remedy: "Choose one that both traces have, by name or VMID, or leave --vm out.")
    }
    return vms
  }

  /// Processes of the same VM together.
  private static func groups(_ vms: [VirtualMachine]) -> [[VirtualMachine]] {
    var groups: [[VirtualMachine]] = []
    for vm in vms {
      let place = groups.firstIndex { group in
        vm.vmid != nil ? group[0].vmid == vm.vmid : vm.name != nil && group[0].vmid == nil && group[0].name == vm.name
      }
      if let place { groups[place].append(vm) } else { groups.append([vm]) }
    }
    return groups
  }

  /// False when a VMID or name of theirs says otherwise; a pid says nothing.
  private static func canBeSame(_ first: VirtualMachine, _ second: VirtualMachine) -> Bool {
    if let vmid = first.vmid, let other = second.vmid { return vmid == other }
    if let name = first.name, let other = second.name { return name == other }
    return true
  }

  private static func refusal(_ before: Evidence, _ after: Evidence, _ filter: String?) -> InputError {
    let files = [before.capture.file, after.capture.file]
    for evidence in [before, after] where evidence.ledger.vms.isEmpty {
      return InputError(
        file: evidence.capture.file, found: "holds no VM to compare",
        expected: "It has no VM exit and no VM entry.",
        remedy: "'kvmtax report' on it says what is the matter.")
    }
    return InputError(
      file: "\(files[0]) and \(files[1])", found: "cannot be compared: different VMs",
      expected: "\(files[0]) has \(before.ledger.vmNames); \(files[1]) has \(after.ledger.vmNames).",
      remedy: filter == nil
        ? "Compare two traces of the same VM; VMs are matched by VMID, then by name."
        : "Leave --vm out, or name a VM that both traces have.")
  }
}
