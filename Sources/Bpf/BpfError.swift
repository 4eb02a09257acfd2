import CBpf
import Glibc

/// A failed call into libbpf or the kernel: which one, why, and what the verifier said.
public struct BpfError: Error, Equatable, Sendable, CustomStringConvertible {
  /// What was tried: "load kvm", "attach on_exit".
  public var call: String
  /// The errno it left (positive).
  public var code: Int32
  /// What libbpf and the verifier said meanwhile; no lines where they said nothing.
  public var log: VerifierLog

  /// Describes one failure.
  public init(call: String, code: Int32, messages: [String] = []) {
    self.call = call
    self.code = code
    log = VerifierLog(messages: messages)
  }

  /// The errno's text: "Permission denied".
  public var reason: String {
    withUnsafeTemporaryAllocation(of: CChar.self, capacity: 128) { text in
      text[0] = 0
      _ = libbpf_strerror(-code, text.baseAddress, text.count)
      return text.baseAddress.map { String(cString: $0) } ?? ""
    }
  }

  /// One line of call and reason, then the essential lines, indented.
  public var description: String {
    (["\(call): \(reason)"] + log.essentialLines.map { "  \($0)" }).joined(separator: "\n")
  }
}

/// Runs one call and turns a negative result into an error; `mark` is taken before the call.
@discardableResult
func check(_ call: @autoclosure () -> String, _ body: () -> Int32) throws(BpfError) -> Int32 {
  let mark = LibbpfMessages.mark
  errno = 0
  let result = body()
  // libbpf 1.x returns -errno, the plain system calls -1 with errno
  let code = result == -1 && errno != 0 ? errno : -result
  guard result >= 0 else { throw BpfError(call: call(), code: code, messages: LibbpfMessages.since(mark)) }
  return result
}

/// Runs one call that returns a handle, nil with errno on failure.
func checkHandle(_ call: @autoclosure () -> String, _ body: () -> OpaquePointer?) throws(BpfError) -> OpaquePointer {
  let mark = LibbpfMessages.mark
  errno = 0
  let handle = body()
  let code = errno
  guard let handle else {
    throw BpfError(call: call(), code: code == 0 ? ENOENT : code, messages: LibbpfMessages.since(mark))
  }
  return handle
}
