/// What libbpf and the kernel's verifier said about a failed call, and the few lines of it that tell why.
public struct VerifierLog: Equatable, Sendable {
  /// The program that was refused, where one was.
  public private(set) var program: String?
  /// The lines to show: source line, instruction and reason of a refused program, else libbpf's last messages. At most
  /// eight; the text may quote names from the host, so it is to be escaped like any other untrusted text.
  public private(set) var essentialLines: [String] = []
  /// Everything that was said.
  public let text: String

  /// Sorts libbpf's messages of one call.
  public init(messages: [String]) {
    text = messages.joined()
    let lines = text.split(separator: "\n").map { line in
      String(line.hasPrefix("libbpf: ") ? line.dropFirst("libbpf: ".count) : line)
    }
    let begin = lines.lastIndex { $0.hasSuffix("-- BEGIN PROG LOAD LOG --") }
    let end = lines.lastIndex { $0.hasSuffix("-- END PROG LOAD LOG --") }
    program = lines.lazy.compactMap(VerifierLog.refusedProgram).first
    if let begin, let end, begin < end {
      essentialLines = VerifierLog.reason(in: lines[(begin + 1)..<end])
    }
    if essentialLines.isEmpty {
      // the last line only repeats that the object failed
      essentialLines = lines.filter { !$0.hasPrefix("failed to load object") }.suffix(4)
    }
  }

  /// "prog 'on_exit': BPF program load failed: …" names the program.
  private static func refusedProgram(_ line: String) -> String? {
    guard line.hasPrefix("prog '") else { return nil }
    let name = line.dropFirst("prog '".count).prefix { $0 != "'" }
    return name.isEmpty ? nil : String(name)
  }

  /// The refusal ends the verifier's log: a source line ("; …"), the instruction ("12: (71) …"), the reason, and
  /// statistics ("processed 12 insns …"), of which the last are of no use here.
  private static func reason(in log: ArraySlice<String>) -> [String] {
    let lines = log.filter { !$0.hasPrefix("processed ") && !$0.isEmpty }
    guard let instruction = lines.lastIndex(where: isInstruction) else { return lines.suffix(4) }
    var essential: [String] = []
    if let source = lines[..<instruction].last(where: { $0.hasPrefix("; ") }) { essential.append(source) }
    essential.append(lines[instruction])
    essential.append(contentsOf: lines[(instruction + 1)...].suffix(6))
    return essential
  }

  private static func isInstruction(_ line: String) -> Bool {
    let digits = line.prefix { $0.isASCII && $0.isNumber }
    return !digits.isEmpty && line.dropFirst(digits.count).hasPrefix(": (")
  }
}
