import Attribution
import Glibc

/// The tracer, a program of its own: found beside this one or in libexec, never on PATH, as root runs it.
enum TracerProgram {
  /// What this program hands over.
  static let verbs: Set<String> = ["record", "doctor", "calibrate"]
  private static let name = "kvmtax-tracer"

  /// Becomes the tracer, with these arguments; returns only by an error.
  static func run(_ arguments: [String]) throws(InputError) {
    let places = places()
    guard let path = places.first(where: { access($0, X_OK) == 0 }) else {
      throw InputError(
        file: name, found: "not found; recording is a program of its own",
        expected: "Looked for: \(places.joined(separator: ", ")).",
        remedy: "Install or copy it there together with kvmtax, from the same release. Reading traces works without it."
      )
    }
    // whoever comes after us expects the default
    signal(SIGPIPE, SIG_DFL)
    var vector = ([path] + arguments).map { strdup($0) }
    vector.append(nil)
    execv(path, vector)
    throw InputError(file: path, found: "cannot be started: \(String(cString: strerror(errno)))")
  }

  private static func places() -> [String] {
    var buffer = [CChar](repeating: 0, count: Int(PATH_MAX))
    let length = readlink("/proc/self/exe", &buffer, buffer.count - 1)
    guard length > 0 else { return [] }
    let own = String(decoding: buffer.prefix(length).map(UInt8.init(bitPattern:)), as: UTF8.self)
    guard let slash = own.lastIndex(of: "/") else { return [] }
    let directory = String(own[..<slash])
    return ["\(directory)/\(name)", "\(directory)/../libexec/kvmtax/\(name)"]
  }
}
