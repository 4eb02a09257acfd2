import Bpf
import Testing

@Suite struct Base64Tests {
  @Test(
    arguments: [
      ("", ""), ("Zg==", "f"), ("Zm8=", "fo"), ("Zm9v", "foo"), ("Zm9vYg==", "foob"), ("Zm9v\nYmE=", "fooba"),
      ("Zm9vYmFy", "foobar"),
    ] as [(StaticString, String)])
  func decodesTheStandardsExamples(text: StaticString, expected: String) {
    #expect(decodeBase64(text) == Array(expected.utf8))
  }

  @Test func decodesEveryLetter() {
    let bytes = decodeBase64("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")
    #expect(bytes.count == 48)
    #expect(bytes.prefix(3) == [0x00, 0x10, 0x83])
    #expect(bytes.suffix(3) == [0xf3, 0xdf, 0xbf])
  }

  @Test func theImagesAreElf() {
    for image in [feedObject, fixtureObject, refusedObject] {
      #expect(decodeBase64(image).prefix(4) == [0x7f, 0x45, 0x4c, 0x46])
    }
  }
}

@Suite struct VerifierLogTests {
  @Test func keepsSourceInstructionAndReason() {
    let log = VerifierLog(messages: [
      "libbpf: prog 'on_exit': BPF program load failed: Permission denied\n",
      """
      libbpf: prog 'on_exit': -- BEGIN PROG LOAD LOG --
      R1 type=ctx expected=fp
      0: R1=ctx(off=0,imm=0) R10=fp0
      ; slot->exits++;
      0: (79) r2 = *(u64 *)(r1 +8)
      ; total = *(u64 *)(slot + 400);
      17: (79) r3 = *(u64 *)(r7 +400)
      R7 invalid mem access 'map_value_or_null'
      processed 18 insns (limit 1000000) max_states_per_insn 0 total_states 1 peak_states 1 mark_read 1
      -- END PROG LOAD LOG --

      """,
      "libbpf: prog 'on_exit': failed to load: -13\n", "libbpf: failed to load object 'kvm'\n",
    ])
    #expect(log.program == "on_exit")
    #expect(
      log.essentialLines == [
        "; total = *(u64 *)(slot + 400);", "17: (79) r3 = *(u64 *)(r7 +400)",
        "R7 invalid mem access 'map_value_or_null'",
      ])
  }

  @Test func keepsLibbpfsWordsWhereTheVerifierSaidNothing() {
    let log = VerifierLog(messages: [
      "libbpf: map 'slots': failed to create: Operation not permitted(-1)\n", "libbpf: failed to load object 'kvm'\n",
    ])
    #expect(log.program == nil)
    #expect(log.essentialLines == ["map 'slots': failed to create: Operation not permitted(-1)"])
  }

  @Test(arguments: [0, 1, 40]) func staysShort(count: Int) {
    let reason = (0..<count).map { "reason \($0)\n" }.joined()
    let log = VerifierLog(messages: [
      "prog 'x': -- BEGIN PROG LOAD LOG --\n1: (95) exit\n\(reason)-- END PROG LOAD LOG --\n"
    ])
    #expect(log.essentialLines.count <= 8)
    #expect(log.essentialLines.last == (count == 0 ? "1: (95) exit" : "reason \(count - 1)"))
  }
}
