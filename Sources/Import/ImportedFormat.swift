import Attribution
import Files

/// Formats of other recorders that can be read.
public enum ImportedFormat: Equatable, Sendable {
  /// trace-cmd's trace.dat.
  case traceDat
  /// perf's perf.data.
  case perfData

  /// Tells the format by content; nil if it is neither.
  public static func detect(_ bytes: UnsafeRawBufferPointer) -> ImportedFormat? {
    if bytes.starts(with: [0x17, 0x08, 0x44]), bytes.dropFirst(3).starts(with: "tracing".utf8) { return .traceDat }
    if bytes.starts(with: "PERFILE2".utf8) { return .perfData }
    return nil
  }

  /// Why bytes that are neither cannot be read: says what they are, where that can be told.
  public static func refusal(_ bytes: UnsafeRawBufferPointer, file: String) -> InputError {
    func refuse(_ found: String, _ remedy: String) -> InputError {
      InputError(file: file, found: found, remedy: remedy)
    }
    if bytes.starts(with: "2ELIFREP".utf8) {
      return refuse("is a perf.data of a big-endian machine", "Read it on a machine of that kind.")
    }
    if bytes.starts(with: "PERFFILE".utf8) {
      return refuse("is a perf.data of version 1, from before Linux 2.6.36", "Record it again with a newer perf.")
    }
    for (magic, name, tool) in compressors where bytes.starts(with: magic) {
      return refuse("is compressed with \(name)", "Decompress it first: \(tool)")
    }
    let head = UnsafeRawBufferPointer(rebasing: bytes.prefix(4096))
    if head.allSatisfy({ $0 >= 32 || (9...13).contains($0) || $0 == 27 }) {
      let text = head.text
      if text.contains("kvm_exit:") || text.contains("kvm_entry:") {
        return refuse(
          "is the text of a report", "Give the trace itself: the trace.dat or perf.data that the text was made from.")
      }
      return refuse("is a text file", "Name a trace file: one of kvmtax record, trace-cmd record or perf record.")
    }
    return InputError(
      file: file, offset: 0, found: "is no trace: unknown content", expected: nil,
      remedy: "Name a trace file: one of kvmtax record, trace-cmd record or perf record.")
  }

  private static let compressors: [([UInt8], String, String)] = [
    ([0x1f, 0x8b], "gzip", "gunzip"), ([0xfd, 0x37, 0x7a, 0x58, 0x5a], "xz", "unxz"),
    ([0x28, 0xb5, 0x2f, 0xfd], "zstd", "unzstd"), ([0x42, 0x5a, 0x68], "bzip2", "bunzip2"),
    ([0x50, 0x4b, 0x03, 0x04], "zip", "unzip"), ([0x04, 0x22, 0x4d, 0x18], "lz4", "unlz4"),
  ]
}
