import Attribution
import CKvmtax
import Testing

@testable import TraceFile

/// Nothing in a file may make the reader trap, hang or take much memory; what is not ours is refused in words.
@Suite struct HostileInputTests {
  @Test func whatIsNoTraceIsRefused() {
    let samples: [([UInt8], String)] = [
      (
        Array("hello, this is no trace file, but a text of more than sixty-four bytes in one line".utf8),
        "is not a kvmtax trace"
      ),
      (Array("short text".utf8), "is not a kvmtax trace: 10 bytes long"),
      (Array(BuiltFile().bytes.prefix(10)), "cut short"),
      (Array(BuiltFile().bytes.prefix(63)), "cut short"),
      ([UInt8](repeating: 0, count: 4096), "is not a kvmtax trace"),
    ]
    for (bytes, found) in samples {
      let error = #expect(throws: InputError.self) { try bytes.trace(.accounts) }
      #expect(error?.found == found)
      #expect(error?.remedy != nil && error?.file == "test.kvmtax")
      if found == "cut short" { #expect(error?.offset == UInt64(bytes.count)) }
    }
  }

  @Test func anEmptyTraceIsReadable() throws {
    let contents = try BuiltFile().bytes.trace(.exits)
    #expect(contents.evidence.ledger.vms.isEmpty && !contents.evidence.trust.isComplete)
  }

  @Test func lengthsThatClaimGigabytesAreNotBelieved() throws {
    var file = BuiltFile()
    let payload = [UInt8](repeating: 0xff, count: 200)
    // stored longer than the file, unpacked to more than allowed, packed and too tight, not packed but unequal
    file.add(BlockType.note.rawValue, payload, rawLength: .max)
    file.add(BlockType.note.rawValue, payload, rawLength: 16 << 20, flags: 1)
    file.add(BlockType.note.rawValue, payload, rawLength: 201)
    file.add(BlockType.exits.rawValue, payload, schema: RecordSchema.exitId, rawLength: 1 << 30, flags: 1)
    file.add(BlockType.note.rawValue, payload, storedLength: .max)
    file.add(BlockType.capture, [ByteWriter()])
    let contents = try file.bytes.trace(.exits)
    #expect(contents.evidence.trust.damage.count == 5)
    #expect(contents.facts == [CaptureFact(key: "", value: "")])
  }

  @Test func anyPayloadUnderACorrectChecksumIsSurvived() throws {
    var random = Random(state: 9)
    let valid = try RecoveryTests.trace.get()
    let schemas = [RecordSchema.exitId, RecordSchema.eventId, 1]
    let rungs = [TraceRung.accounts, .exits, .events]
    for round in 0..<600 {
      var file = BuiltFile()
      for _ in 0..<6 {
        let type = UInt16.random(in: 1...14, using: &random)
        var payload = (0..<Int.random(in: 0...300, using: &random)).map { _ in UInt8.random(in: 0...255, using: &random)
        }
        if round % 2 == 0 { payload = payload.map { $0 & 3 == 0 ? $0 : $0 & 0x1f } }
        file.add(type, payload, schema: schemas.randomElement(using: &random) ?? 0)
      }
      check(try file.bytes.trace(rungs[round % 3]))
    }
    // valid payloads with a few bytes changed
    for round in 0..<600 {
      var file = BuiltFile()
      for block in valid.blocks.shuffled(using: &random).prefix(12) {
        let type = UInt16(valid.bytes[block.start + 4])
        let stored = TraceBlocks.only(valid.bytes, block.start)
        var payload = stored
        for _ in 0..<Int.random(in: 0...3, using: &random) where !payload.isEmpty {
          payload[Int.random(in: 0..<payload.count, using: &random)] = UInt8.random(in: 0...255, using: &random)
        }
        file.add(type, payload, schema: type == 7 ? RecordSchema.exitId : type == 12 ? RecordSchema.eventId : 0)
      }
      check(try file.bytes.trace(rungs[round % 3]))
    }
  }

  /// Whatever a file says, every vCPU's states sum to its wall time where it claims any.
  private func check(_ contents: TraceContents) {
    for vcpu in contents.evidence.ledger.vcpus where vcpu.states.total != vcpu.wallNanoseconds {
      Issue.record("\(vcpu.states.total) ns in states, \(vcpu.wallNanoseconds) ns of wall")
      return
    }
  }

  @Test func schemasThatMakeNoSenseAreIgnored() {
    for text in [
      "", "exit", "exit 0\n", "exit -8\n", "exit 99999999999999999999\n", "exit 5000\n", "exit x\nstart_ns 0 8 ns\n",
    ] {
      #expect(RecordSchema(parsing: text) == nil, "\(text)")
    }
    let odd = RecordSchema(
      parsing: "exit 16\na 0 8 ns\nb 9 8 ns\nc -1 4 ns\nd 9223372036854775807 8 ns\ne 8 3 ns\nf 8\ng 8 8 ns more\n")
    #expect(odd?.fields.map(\.name) == ["a", "g"])
    #expect(RecordSchema(parsing: RecordSchema.exit.text) == RecordSchema.exit)
  }

  @Test func aFileOfNothingButBlockStartsIsWalkedInTime() throws {
    // headers that each claim to reach to the end of the file, with a payload checksum that fails
    var bytes = BuiltFile().bytes
    let count = 4_000
    for index in 0..<count {
      let header = BlockHeader(
        type: 10, storedLength: UInt32((count - index - 1) * 40), rawLength: 1, sequence: UInt64(index),
        payloadChecksum: 1)
      header.write(to: &bytes)
    }
    let contents = try bytes.trace(.accounts)
    #expect(contents.blockCount <= 1 && !contents.evidence.trust.damage.isEmpty)
    #expect(contents.evidence.trust.damage.count <= 1000)
  }
}

extension TraceBlocks {
  /// The unpacked payload of the block at an offset.
  static func only(_ bytes: [UInt8], _ offset: Int) -> [UInt8] {
    bytes.withUnsafeBytes { file in
      guard let block = TraceBlocks(file).first(where: { $0.offset == offset }) else { return [] }
      return PayloadReader().payload(of: block, in: file).map { [UInt8]($0) } ?? []
    }
  }
}
