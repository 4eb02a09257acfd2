import Attribution
import CKvmtax
import Foundation
import TestSupport
import Testing

@Suite struct TaxonomyTests {
  @Test func everyKeyOfTheReviewedTableHasItsClassAndItsName() throws {
    for row in try TaxonomyRow.all() {
      #expect(classify(row.key).rawValue == row.exitClass, "\(row)")
      #expect(describe(row.key) == row.text, "\(row)")
      if row.key.isa == 1 || row.key.isa == 2, let name = row.kernelName {
        #expect(ReasonNames().name(isa: row.key.isa, reason: row.key.reason) == name, "\(row)")
      }
    }
  }

  /// All numbers that the kernel names, and those around them.
  @Test func theTableHasEveryReason() throws {
    let rows = try TaxonomyRow.all()
    let reasons: [UInt32] = Array(0...0x500) + Array(0x8000_0000...0x8000_ffff) + [.max]
    for isa in [1, 2] as [UInt8] {
      let bare = Set(rows.filter { $0.key == Key(isa: isa, reason: $0.key.reason) }.map(\.key.reason))
      for reason in reasons where isa == 2 || reason <= 0xffff {
        let isNamed = !ReasonNames().name(isa: isa, reason: reason).hasPrefix("reason ")
        if isNamed { #expect(bare.contains(reason), "isa \(isa), reason \(reason)") }
      }
    }
  }

  /// Two keys with the same facts but another class cannot be in the table, and no class may be merged into another:
  /// each has keys of its own there.
  @Test func everyClassHasKeysOfItsOwn() throws {
    let rows = try TaxonomyRow.all()
    let classes = Dictionary(grouping: rows, by: \.key).mapValues { Set($0.map(\.exitClass)) }
    #expect(classes.values.allSatisfy { $0.count == 1 })
    let found = Dictionary(grouping: rows, by: \.exitClass)
    #expect(Set(found.keys) == Set(ExitClass.allCases.map(\.rawValue)))
    // and on both sides, but for what one side alone can have
    let onlyVmx: Set<ExitClass> = [.dirtyPml, .notify]
    for exitClass in ExitClass.allCases {
      let isas = Set((found[exitClass.rawValue] ?? []).map(\.key.isa))
      #expect(isas.contains(1), "\(exitClass.rawValue)")
      #expect(isas.contains(2) != onlyVmx.contains(exitClass), "\(exitClass.rawValue)")
    }
  }

  @Test func namesAndSummariesTellClassesApart() {
    #expect(Set(ExitClass.allCases.map(\.rawValue)).count == ExitClass.allCases.count)
    #expect(Set(ExitClass.allCases.map(\.summary)).count == ExitClass.allCases.count)
    for exitClass in ExitClass.allCases {
      #expect(
        !exitClass.summary.isEmpty && exitClass.rawValue.count + 2 + exitClass.summary.count <= 44, "\(exitClass)")
      #expect(exitClass.summary.utf8.allSatisfy { 0x20 <= $0 && $0 < 0x7f })
    }
    #expect(ExitClass.eptPopulate.summary.contains("populate or refault"))
  }

  /// What each share is made of, by the beginning of the class's name.
  @Test func everyClassBelongsToOneShare() {
    for exitClass in ExitClass.allCases {
      let expected: Share =
        switch exitClass.rawValue.split(separator: ".")[0] {
        case "TIMER": .timerTicks
        case "EPT", "DIRTY": .nestedFaults
        case "VIRTIO": .virtio
        default: .exitClasses
        }
      #expect(exitClass.share == expected, "\(exitClass.rawValue)")
    }
    #expect(Set(ExitClass.allCases.map(\.share)) == Set(Share.allCases))
    #expect(Set(Share.allCases.map(\.rawValue)).count == 4 && Set(Share.allCases.map(\.summary)).count == 4)
  }

  /// VMX's numbers mean something else on other CPUs, and SVM's too.
  @Test func otherCpusAreNeverMisnamed() {
    for isa in [0, 3, 4, 200, 255] as [UInt8] {
      for reason in Array(0...0x500) + [0x0400_0001, 0x8000_0021, .max] as [UInt32] {
        #expect(classify(Key(isa: isa, reason: reason, traits: Key.Traits(rawValue: .max), userspace: 17)) == .other)
      }
    }
  }

  /// Facts that a class has no use for do not move it: bits that no version has, and the size.
  @Test func whatIsUnknownChangesNothing() throws {
    for row in try TaxonomyRow.all() {
      var key = row.key
      key.size = 255
      key.traits.insert(Key.Traits(rawValue: 0xfffe_0000))
      #expect(classify(key) == classify(row.key), "\(row)")
    }
  }

  /// Records of random bytes, and records of the table with a byte or two changed: nothing traps, every answer is the
  /// same again, from a copy, after other keys.
  @Test func hostileKeysAreClassifiedAndNamedAllTheSame() throws {
    var numbers = SeededNumbers(seed: 11)
    let table = try TaxonomyRow.all().map(\.key.record)
    var records: [kt_key] = []
    for round in 0..<100_000 {
      var record = round % 4 == 0 ? kt_key() : table[Int.random(in: table.indices, using: &numbers)]
      withUnsafeMutableBytes(of: &record) { bytes in
        for index in bytes.indices where round % 4 == 0 || Int.random(in: 0..<16, using: &numbers) == 0 {
          bytes[index] = UInt8.random(in: 0...255, using: &numbers)
        }
      }
      records.append(record)
    }
    let first = records.map { (classify(Key($0)), describe(Key($0))) }
    for (record, (exitClass, text)) in zip(records, first).reversed() {
      #expect(classify(Key(Key(record).record)) == exitClass)
      #expect(describe(Key(record)) == text)
      #expect(text.utf8.count <= 80 && text.utf8.allSatisfy { 0x20 <= $0 && $0 < 0x7f }, "\(text)")
    }
    #expect(Set(first.map(\.0)) == Set(ExitClass.allCases))
  }
}

@Suite struct KeyNamesTests {
  func mmio(_ page: UInt64, size: UInt8, traits: Key.Traits = .write) -> Key {
    Key(isa: 1, reason: 49, kind: .mmio, subject: page, traits: traits, size: size, userspace: 6)
  }

  @Test func accessesToDevicesSayTheirSize() {
    #expect(describe(mmio(0xfed0_0000, size: 4)) == "write 0xfed00000 HPET, 4 bytes")
    #expect(describe(mmio(0xfed0_0000, size: 1, traits: [])) == "read 0xfed00000 HPET, 1 byte")
    #expect(describe(mmio(0xfebf_0000, size: 0)) == "write 0xfebf0000")
    #expect(describe(mmio(.max - 1, size: 255)) == "write 0xfffffffffffffffe, 255 bytes")
  }

  @Test func rowsOfRegistersAreNumbered() {
    let names: [UInt64: String] = [
      0x200: "IA32_MTRR_PHYSBASE0", 0x268: "IA32_MTRR_FIX4K_C0000", 0x26f: "IA32_MTRR_FIX4K_F8000",
      0x20f: "IA32_MTRR_PHYSMASK7", 0x401: "IA32_MC0_STATUS", 0x47f: "IA32_MC31_MISC",
      0x4000_00b5: "HV_STIMER2_COUNT", 0x4000_009f: "HV_SINT15", 0x4000_0104: "HV_CRASH_P4",
      0xc001_0201: "AMD_CORE_PERFCTR0",
      0xc5: "IA32_PMC4", 0x4c8: "IA32_A_PMC7", 0x831: "0x831",
    ]
    for (index, name) in names {
      #expect(describe(Key(isa: 1, reason: 31, kind: .msr, subject: index)) == "read \(name)")
    }
  }

  /// The header of the machine that compiles this, which may know fewer reasons than we do, or more.
  @Test func userSpaceReasonsAreSpeltAsTheKernels() throws {
    let header = try String(contentsOfFile: "/usr/include/linux/kvm.h", encoding: .utf8)
    let begin = try #require(header.range(of: "#define KVM_EXIT_UNKNOWN"))
    let end = try #require(header.range(of: "/* For KVM_EXIT_INTERNAL_ERROR */"))
    var count = 0
    for line in header[begin.lowerBound..<end.lowerBound].split(separator: "\n") {
      let words = line.split { $0 == " " || $0 == "\t" }
      guard words.count >= 3, words[1].hasPrefix("KVM_EXIT_"), let number = Int(words[2]), number < 40 else { continue }
      #expect(UserspaceReasons.name(number) == words[1].dropFirst("KVM_EXIT_".count))
      count += 1
    }
    #expect(count > 30)
    for number in [-1, 99, 255, .max, .min] { #expect(UserspaceReasons.name(number) == "reason \(number)") }
  }
}
