/// The processor, as `/proc/cpuinfo` describes it.
public struct CpuInfo: Equatable, Sendable {
  /// "GenuineIntel", "AuthenticAMD"…
  public var vendor: String?
  /// "Intel(R) Xeon(R) Gold 6230R CPU @ 2.10GHz"; inside a VM untrusted text.
  public var model: String?
  /// Family, model and stepping as they are numbered: "6-85-7".
  public var signature: String? {
    guard let family, let number, let stepping else { return nil }
    return "\(family)-\(number)-\(stepping)"
  }
  private var family: String?
  private var number: String?
  private var stepping: String?
  /// The microcode's revision, "0x5003707".
  public var microcode: String?
  /// Online logical CPUs.
  public var logicalCPUs = 0
  /// Hardware virtualization that the first CPU offers: "vmx", "svm", nil for neither.
  public var virtualization: String?

  /// Reads the text; what it does not have stays nil.
  public init(text: String) {
    for line in text.utf8.split(separator: UInt8(ascii: "\n")) {
      guard let colon = line.firstIndex(of: UInt8(ascii: ":")) else { continue }
      let value = Self.trimmed(line[line.index(after: colon)...])
      if value.isEmpty { continue }
      switch Self.trimmed(line[..<colon]) {
      case "processor": logicalCPUs += 1
      case "vendor_id": vendor = vendor ?? value
      case "model name": model = model ?? value
      case "cpu family": family = family ?? value
      case "model": number = number ?? value
      case "stepping": stepping = stepping ?? value
      case "microcode": microcode = microcode ?? value
      case "flags" where logicalCPUs <= 1:
        let flags = value.split(separator: " ")
        virtualization = flags.contains("vmx") ? "vmx" : flags.contains("svm") ? "svm" : nil
      default: continue
      }
    }
  }

  private static func trimmed(_ bytes: Substring.UTF8View.SubSequence) -> String {
    let isSpace: (UInt8) -> Bool = { $0 == 0x20 || $0 == 0x09 || $0 == 0x0d }
    var rest = bytes.drop(while: isSpace)
    while let last = rest.last, isSpace(last) { rest.removeLast() }
    // a bounded line: nobody's model name is longer; flags are
    return String(decoding: rest.prefix(8192), as: UTF8.self)
  }
}
