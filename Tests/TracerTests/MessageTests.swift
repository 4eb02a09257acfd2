import Terminal
import Testing

@testable import Tracer

@Suite struct MessageTests {
  @Test(arguments: [
    ("plain", "plain"), ("dir/a-1.kvmtax", "dir/a-1.kvmtax"), ("a b", "'a b'"), ("it's", "'it'\\''s'"), ("", "''"),
    ("$(reboot)", "'$(reboot)'"), ("ä", "ä"),
  ])
  func `A name in a command that is proposed can be pasted`(name: String, word: String) {
    #expect(shellWord(name) == word)
  }

  @Test func `The verifier's lines stay lines, harmless and not too long`() {
    let long = (1...40).map { "word\($0)" }.joined(separator: " ")
    let lines = sanitizedLines("load: refused\n; source\u{1b}[31m\n\(long)", indent: 4)
    #expect(lines[0] == "load: refused")
    #expect(lines[1] == "    ; source\\u{1b}[31m")
    #expect(lines.dropFirst().allSatisfy { $0.hasPrefix("    ") && $0.count <= maximumColumns })
  }
}
