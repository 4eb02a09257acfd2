import BpfImages
import CBpf
import CKvmtax
import Glibc
import TestSupport
import Testing

@testable import Bpf

@Suite struct FieldPatchTests {
  /// dst = *(size *)(src + off)
  static func load(_ code: UInt8, _ offset: Int16) -> bpf_insn {
    bpf_insn(code: code, dst_reg: 3, src_reg: 6, off: offset, imm: 0)
  }
  static let (byte, half, word, double): (UInt8, UInt8, UInt8, UInt8) = (0x71, 0x69, 0x61, 0x79)

  func patch(_ instructions: [bpf_insn], _ place: FieldPlacement?) throws -> [bpf_insn] {
    var copy = instructions
    _ = try copy.withUnsafeMutableBufferPointer { try patchFields(in: $0) { _ in place } }
    return copy
  }

  @Test(
    arguments: [
      (double, 8, double), (double, 4, word), (double, 2, half), (double, 1, byte),
      // the compiler counts on zeros above a narrower load, so a wider field gives its low bytes
      (word, 8, word), (word, 4, word), (word, 2, half), (word, 1, byte),
    ] as [(UInt8, UInt32, UInt8)])
  func takesTheKernelsSize(code: UInt8, size: UInt32, expected: UInt8) throws {
    let patched = try patch([FieldPatchTests.load(code, 0x4000)], FieldPlacement(offset: 24, size: size))
    #expect(patched[0].code == expected)
    #expect(patched[0].off == 24)
    #expect(patched[0].dst_reg == 3 && patched[0].src_reg == 6)
  }

  @Test func readsZeroWhereTheKernelHasNoSuchField() throws {
    let patched = try patch([FieldPatchTests.load(FieldPatchTests.word, 0x4010)], nil)
    // r3 = 0 as a 64-bit move
    #expect(patched[0].code == 0xb7 && patched[0].dst_reg == 3 && patched[0].src_reg == 0)
    #expect(patched[0].off == 0 && patched[0].imm == 0)
  }

  @Test func namesTheFieldByItsPlaceholder() throws {
    var asked: [UInt32] = []
    var instructions = [
      FieldPatchTests.load(FieldPatchTests.word, 0x4000), FieldPatchTests.load(FieldPatchTests.double, 0x4030),
      FieldPatchTests.load(FieldPatchTests.word, 0x7ff0),
    ]
    let count = try instructions.withUnsafeMutableBufferPointer { buffer in
      try patchFields(in: buffer) { field in
        asked.append(field)
        return nil
      }
    }
    #expect(asked == [0, 3, 1023])
    #expect(count == 3)
  }

  @Test func leavesEverythingElseAlone() throws {
    let others = [
      FieldPatchTests.load(FieldPatchTests.word, 0x3ff0),
      // a store, and the second half of a 64-bit constant that looks like a load
      bpf_insn(code: 0x7b, dst_reg: 3, src_reg: 6, off: 0x4000, imm: 0),
      bpf_insn(code: 0x18, dst_reg: 3, src_reg: 0, off: 0, imm: 1),
      FieldPatchTests.load(FieldPatchTests.word, 0x4000),
    ]
    let patched = try patch(others, FieldPlacement(offset: 8, size: 4))
    for (before, after) in zip(others, patched) {
      #expect(before.code == after.code && before.off == after.off && before.imm == after.imm)
    }
  }

  @Test(arguments: [(24, 3), (24, 16), (24, 0), (26, 4), (4, 4), (0x4000, 8), (.max, 1)] as [(UInt32, UInt32)])
  func refusesWhatTheVerifierWould(offset: UInt32, size: UInt32) {
    let place = FieldPlacement(offset: offset, size: size)
    #expect(throws: FieldPatchError.unreadable(field: 0, place)) {
      try patch([FieldPatchTests.load(FieldPatchTests.word, 0x4000)], place)
    }
  }

  @Test func refusesALoadBetweenPlaceholders() {
    #expect(throws: FieldPatchError.strayOffset(0x4004)) {
      try patch([FieldPatchTests.load(FieldPatchTests.word, 0x4004)], nil)
    }
  }

  /// A load far into a map's value would look like a placeholder: the product's programs have none, and read every field.
  @Test func theTracersProgramsReadTheirFieldsAndNothingElseSoFarAway() throws {
    let object = try BpfObject(base64: kvmObject, name: "kvm")
    var read: Set<UInt32> = []
    for program in object.programs {
      try object.patchFields(program: program) { field in
        read.insert(field)
        return nil
      }
    }
    #expect(read == Set(0..<UInt32(KT_FIELDS.rawValue)))
  }

  /// raw_sys_enter: `long id` at 8, `unsigned long args[6]` from 16 on, in every kernel.
  @Test(.needsBpf) func programsReadTheKernelsFields() throws {
    let object = try BpfObject.fixture(loading: "reads_fields")
    let places: [FieldPlacement?] = [
      FieldPlacement(offset: 8, size: 8), FieldPlacement(offset: 24, size: 8), FieldPlacement(offset: 24, size: 4),
      FieldPlacement(offset: 24, size: 2), FieldPlacement(offset: 24, size: 1), nil,
      FieldPlacement(offset: 24, size: 8),
      FieldPlacement(offset: 32, size: 8),
    ]
    let patched = try object.patchFields(program: "reads_fields") { places[Int($0)] }
    #expect(patched == places.count)
    try object.load()
    let link = try object.attach("reads_fields")
    // args[1] and args[2]; the call fails for want of a file, which does not matter
    let bytes = Int(bitPattern: 0xfedc_ba98_8765_4321)
    _ = lseek(-1, off_t(bytes), 0x5ca1_ab1e)
    _ = consume link
    let globals = try object.globals()
    let fields = try globals.value("fields", like: Fields())
    #expect(try globals.value("matches", like: UInt64(0)) == 1)
    #expect(fields.call == 8)  // lseek on x86-64
    #expect(fields.whole == 0xfedc_ba98_8765_4321)
    #expect(fields.word == 0x8765_4321)
    #expect(fields.half == 0x4321)
    #expect(fields.byte == 0x21)
    #expect(fields.missing == 0)
    #expect(fields.low == 0x8765_4321)
  }

  struct Fields: BitwiseCopyable {
    var call: UInt64 = 0
    var whole: UInt64 = 0
    var word: UInt64 = 0
    var half: UInt64 = 0
    var byte: UInt64 = 0
    var missing: UInt64 = 0
    var low: UInt64 = 0
    var unused: UInt64 = 0
  }
}

extension BpfObject {
  /// fixture.bpf.c, opened for one of its programs.
  static func fixture(loading program: String) throws(BpfError) -> BpfObject {
    let object = try BpfObject(base64: fixtureObject, name: "fixture")
    for name in object.programs { try object.setAutoload(name, name == program) }
    let pattern = try BpfMap.ring(name: "pattern", byteCount: 4096)
    try object.setInnerMap("rings", like: pattern)
    try object.setConstant("own_tgid", UInt32(getpid()))
    if program != "shovel" { return object }
    try object.setConstant("factor", UInt64(3))
    return object
  }
}
