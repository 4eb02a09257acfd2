extension Ledger {
  /// The VMs that a user means: a name comes first, then Proxmox's number, then a pid; the same name or number twice
  /// means both.
  public func vms(named filter: String) -> [VirtualMachine] {
    let named = vms.filter { $0.name == filter }
    if !named.isEmpty { return named }
    let numbered = vms.filter { $0.vmid.map(String.init) == filter }
    return numbered.isEmpty ? vms.filter { $0.pid != 0 && String($0.pid) == filter } : numbered
  }

  /// The VMs as a sentence of an error: what there is to choose from. Names in it are untrusted.
  public var listing: String {
    if vms.isEmpty { return "It has none." }
    if vms.allSatisfy({ $0.pid == 0 && $0.name == nil && $0.vmid == nil }) {
      return "This kind of trace does not say which VM a thread belongs to."
    }
    return "It has: \(vmNames)."
  }

  /// "104 win-erp pid 4242, …", ten at most.
  public var vmNames: String {
    var names = vms.prefix(10).map { vm in
      [vm.vmid.map(String.init), vm.name, "pid \(vm.pid)"].compactMap(\.self).joined(separator: " ")
    }
    if vms.count > 10 { names.append("and \(vms.count - 10) more") }
    return names.joined(separator: ", ")
  }
}
