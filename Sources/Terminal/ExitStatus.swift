import ArgumentParser
import Attribution
import Glibc

/// What a program's exit status means; both programs use no others.
public enum ExitStatus: Int32, Error, Sendable {
  /// It did what was asked.
  case success = 0
  /// A gate that the user set (`--fail-on`) was not passed; thrown by a verb that has printed its reasons.
  case gate = 1
  /// The command line cannot be understood.
  case usage = 2
  /// An input or this machine does not allow what was asked.
  case environment = 3
}

/// Parses the command line, runs the command and ends the process: the one place that maps errors to exit status.
///
/// `ExitStatus` ends with that status and prints nothing, `InputError` is printed with its remedy and ends with 3, the
/// argument parser's own errors end with 2 (it would take 64), help and version go to standard output.
public func runToExit<Root: ParsableCommand>(_ root: Root.Type, arguments: [String]? = nil) -> Never {
  runToExit {
    do {
      var command = try root.parseAsRoot(arguments)
      try command.run()
    } catch let error as InputError {
      throw error
    } catch let status as ExitStatus {
      throw status
    } catch {
      throw endOfParsing(root, error)
    }
  }
}

/// Does what has no command line to parse, and ends the process by the same rules.
public func runToExit(_ body: () throws -> Void) -> Never {
  // a reader that goes away is seen as EPIPE by whoever writes
  signal(SIGPIPE, SIG_IGN)
  do {
    try body()
    exit(ExitStatus.success.rawValue)
  } catch let status as ExitStatus {
    exit(status.rawValue)
  } catch let error as InputError {
    standardError(message(for: error))
  } catch {
    standardError(sanitized("\(error)"))
  }
  exit(ExitStatus.environment.rawValue)
}

/// Prints what the argument parser has to say: help and version are what was asked for, anything else is wrong usage.
private func endOfParsing<Root: ParsableCommand>(_ root: Root.Type, _ error: any Error) -> ExitStatus {
  let text = root.fullMessage(for: error, columns: outputColumns())
  if root.exitCode(for: error) == .success {
    do { try standardOutput(text + "\n") } catch {
      standardError(message(for: error))
      return .environment
    }
    return .success
  }
  // its text begins with "Error: " and repeats untrusted arguments
  let line = text.hasPrefix("Error: ") ? String(text.dropFirst("Error: ".count)) : text
  standardError(
    line.split(separator: "\n", omittingEmptySubsequences: false).map { sanitized($0) }.joined(separator: "\n"))
  return .usage
}

/// An input error as the user sees it: what and where, then what was expected and what to do, indented and wrapped.
/// File names and what was found are untrusted and made harmless here.
public func message(for error: InputError) -> String {
  var first = "\(sanitized(error.file)): \(sanitized(error.found))"
  if let offset = error.offset { first += " at byte \(grouped(offset))" }
  var lines = [first]
  for text in [error.expected, error.remedy] {
    guard let text else { continue }
    for line in text.split(separator: "\n") { lines += wrapped(sanitized(line), width: maximumColumns, indent: 2) }
  }
  return lines.joined(separator: "\n")
}
