import Attribution
import CKvmtax
import TestSupport
import Testing

@Suite struct KeyTests {
  @Test func kindsAndTraitsHaveTheirNumbers() {
    #expect(Key.Kind.allCases.count == Int(KT_KEY_KINDS.rawValue) + 1)
    for kind in Key.Kind.allCases where kind != .unknown { #expect(kind.rawValue < KT_KEY_KINDS.rawValue) }
    #expect(
      Key.Kind.msr.rawValue == UInt8(KT_KEY_MSR.rawValue) && Key.Kind.fault.rawValue == UInt8(KT_KEY_FAULT.rawValue))
    #expect(Key.Kind.irq.rawValue == UInt8(KT_KEY_IRQ.rawValue) && Key.Kind.dr.rawValue == UInt8(KT_KEY_DR.rawValue))
    #expect(Key.Kind.vmgexit.rawValue == UInt8(KT_KEY_VMGEXIT.rawValue))
    // one bit each, none twice, none left out
    let bits = TaxonomyRow.traits.values.map(\.rawValue)
    #expect(bits.allSatisfy { $0.nonzeroBitCount == 1 } && Set(bits).count == bits.count)
    #expect(bits.reduce(0, |) == KT_TIMER_KNOWN.rawValue * 2 - 1)
  }

  @Test func recordsAndKeysSayTheSame() {
    let record = kt_key(
      subject: 0x6e0, reason: 32, traits: KT_WRITE.rawValue, isa: 1, kind: UInt8(KT_KEY_MSR.rawValue), size: 8,
      userspace: 3, reserved: 0)
    let key = Key(record)
    #expect(key == Key(isa: 1, reason: 32, kind: .msr, subject: 0x6e0, traits: .write, size: 8, userspace: 2))
    #expect(Key(key.record) == key)
    // nothing seen, nothing done: not zero
    let empty = Key(isa: 2, reason: 0x60)
    #expect(empty.record.subject == UInt64(KT_NO_SUBJECT) && empty.record.userspace == 0)
    #expect(Key(empty.record) == empty)
    #expect(Key(kt_key()).subject == 0)
  }

  @Test func userSpaceReasonsOutOfRangeStayInIt() {
    for (userspace, expected) in [(-1, 0), (254, 254), (255, 254), (Int.max, 254), (Int.min, 0)] {
      #expect(Key(Key(isa: 1, reason: 1, userspace: userspace).record).userspace == expected)
    }
  }

  @Test func aKindOfALaterVersionIsKnownToBeUnknown() {
    for kind in UInt8(KT_KEY_KINDS.rawValue)...255 {
      let key = Key(
        kt_key(subject: 5, reason: 1, traits: 0, isa: 1, kind: kind, size: 0, userspace: 0, reserved: 0))
      #expect(key.kind == .unknown && key.subject == 5)
      #expect(describe(key) == "")
    }
  }

  /// Every field decides, and nothing but the order of the fields does.
  @Test func theOrderIsTotal() {
    let base = Key(isa: 1, reason: 30, kind: .port, subject: 0x70, traits: .write, size: 1, userspace: 2)
    var later: [Key] = [base]
    for change: (inout Key) -> Void in [
      { $0.userspace = 3 }, { $0.size = 2 }, { $0.traits = .present }, { $0.subject = 0x71 }, { $0.subject = nil },
      { $0.kind = .mmio }, { $0.reason = 31 }, { $0.isa = 2 },
    ] as [(inout Key) -> Void] {
      var key = base
      change(&key)
      later.append(key)
    }
    var numbers = SeededNumbers(seed: 5)
    #expect(later.shuffled(using: &numbers).sorted() == later)
    for (index, left) in later.enumerated() {
      for (other, right) in later.enumerated() { #expect((left < right) == (index < other)) }
    }
    var noUserspace = base
    noUserspace.userspace = nil
    #expect(noUserspace < base && !(base < noUserspace))
  }

  @Test func accountsAdd() {
    let key = Key(isa: 1, reason: 12)
    var row = kt_key_row()
    row.key = key.record
    row.finished = 3
    row.total_ns = 600
    row.max_ns = 400
    row.state_ns.2 = 500
    row.state_ns.11 = 100
    var account = KeyAccount(&row)
    #expect(account.key == key && account.finished == 3 && account.maxNanoseconds == 400)
    #expect(account.states[.kernel] == 500 && account.states[.stopped] == 100)
    #expect(account.states.total == account.totalNanoseconds)
    account.add(account)
    #expect(account.finished == 6 && account.totalNanoseconds == 1200 && account.maxNanoseconds == 400)
    #expect(account.states[.kernel] == 1000)
    // a damaged file's numbers wrap
    row.finished = .max
    row.total_ns = .max
    account.add(KeyAccount(&row))
    #expect(account.finished == 5)
    #expect(KeyAccount(key).states.total == 0)
  }
}
