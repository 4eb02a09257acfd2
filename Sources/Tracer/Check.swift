/// One thing that must hold before a recording can start, as `doctor` prints it and `record` enforces it.
struct Check: Equatable {
  enum Outcome: Equatable {
    /// Works.
    case fine
    /// Recording is possible, with less.
    case limited
    /// Recording is not possible.
    case blocked
  }

  /// What is looked at, in a word or two: "capabilities".
  var name: String
  var outcome: Outcome
  /// What was found.
  var found: String
  /// What to do about it; empty when fine.
  var remedy: String = ""

  static func fine(_ name: String, _ found: String) -> Check { Check(name: name, outcome: .fine, found: found) }
  static func limited(_ name: String, _ found: String, _ remedy: String) -> Check {
    Check(name: name, outcome: .limited, found: found, remedy: remedy)
  }
  static func blocked(_ name: String, _ found: String, _ remedy: String) -> Check {
    Check(name: name, outcome: .blocked, found: found, remedy: remedy)
  }
}
