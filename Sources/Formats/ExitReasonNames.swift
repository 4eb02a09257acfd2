import Attribution

extension ReasonNames {
  /// The names in kvm_exit's print fmt; what it does not name keeps the name of the kernel's headers.
  public init(kvmExitFormat format: EventFormat) {
    self.init()
    add(kvmExitFormat: format)
  }

  /// Adds the names in kvm_exit's print fmt: the tables of `(REC->isa == N) ? __print_symbolic(REC->exit_reason, …) : …`.
  /// Which table is whose follows from the condition; a table that no condition gives to VMX or SVM is left out.
  public mutating func add(kvmExitFormat format: EventFormat) {
    guard format.name == "kvm_exit" else { return }
    var tables = ReasonTableParser(tokens: PrintToken.tokens(of: format.printFormat))
    for (isa, reason, name) in tables.parse() { set(isa: isa, reason: reason, name: name) }
  }
}

/// Finds the reason tables in the tokens of kvm_exit's print fmt. One pass, no recursion: hostile nesting costs nothing.
struct ReasonTableParser {
  private let tokens: [PrintToken]
  private var position = 0
  private var found: [(UInt8, UInt32, String)] = []
  /// Longer names are cut: they are table cells.
  private static let maximumNameLength = 64

  init(tokens: [PrintToken]) { self.tokens = tokens }

  /// One `condition ? … : …` whose end has not been reached.
  private struct Choice {
    /// The ISAs of its two branches; nil where the condition is about something else.
    var isas: (UInt8?, UInt8?)
    var isInElse = false
    /// Nesting of parentheses where it stands.
    var depth: Int
  }

  mutating func parse() -> [(isa: UInt8, reason: UInt32, name: String)] {
    var choices: [Choice] = []
    var depth = 0
    while position < tokens.count {
      switch tokens[position] {
      case .mark("("): depth += 1
      case .mark(")"), .mark(","):
        if tokens[position] == .mark(")") { depth -= 1 }
        // a parenthesis or a comma ends the choices that began inside it
        while let last = choices.last, last.depth > depth || (last.depth == depth && tokens[position] == .mark(",")) {
          choices.removeLast()
        }
      case .mark("?"): choices.append(Choice(isas: isas(before: position), depth: depth))
      case .mark(":"):
        while let last = choices.last, last.isInElse, last.depth == depth { choices.removeLast() }
        if choices.last?.depth == depth { choices[choices.count - 1].isInElse = true }
      case .word("__print_symbolic"):
        // of several conditions all must agree
        let isas = choices.compactMap { $0.isInElse ? $0.isas.1 : $0.isas.0 }
        if let isa = isas.first, isas.allSatisfy({ $0 == isa }), isAboutReason(after: position) {
          readTable(isa: isa)
          continue
        }
      default: break
      }
      position += 1
    }
    return found
  }

  /// The ISAs of the branches behind `REC->isa == 1 ?`, with or without parentheses.
  private func isas(before question: Int) -> (UInt8?, UInt8?) {
    var end = question
    while end > 0, tokens[end - 1] == .mark(")") { end -= 1 }
    guard end >= 7, case .number(let value) = tokens[end - 1], tokens[end - 2] == .mark("="),
      tokens[end - 4] == .word("isa"), tokens[end - 5] == .mark(">"), tokens[end - 6] == .mark("-"),
      tokens[end - 7] == .word("REC"), value == 1 || value == 2
    else { return (nil, nil) }
    let isa = UInt8(value)
    switch tokens[end - 3] {
    case .mark("="): return (isa, 3 - isa)
    case .mark("!"): return (3 - isa, isa)
    default: return (nil, nil)
    }
  }

  private func isAboutReason(after position: Int) -> Bool {
    position + 5 < tokens.count && tokens[position + 1] == .mark("(") && tokens[position + 2] == .word("REC")
      && tokens[position + 5] == .word("exit_reason")
  }

  /// Reads `{ value, "name" }, …` up to the parenthesis that closes the call, which is left to the caller.
  private mutating func readTable(isa: UInt8) {
    position += 2
    var depth = 0
    while position < tokens.count {
      switch tokens[position] {
      case .mark("("): depth += 1
      case .mark(")"):
        if depth == 0 {
          position += 1
          return
        }
        depth -= 1
      case .mark("{"):
        position += 1
        let value = constant()
        if let value, position + 1 < tokens.count, tokens[position] == .mark(","),
          case .string(let name) = tokens[position + 1]
        {
          found.append((isa, UInt32(truncatingIfNeeded: value), String(name.prefix(Self.maximumNameLength))))
        }
        continue
      default: break
      }
      position += 1
    }
  }

  /// A sum such as `0x040 + 13` or `-1`; nil for anything else, as an enum's name that no one resolved.
  private mutating func constant() -> Int64? {
    var sum: Int64 = 0
    var sign: Int64 = 1
    var isComplete = false
    while position < tokens.count {
      switch tokens[position] {
      case .number(let value) where !isComplete:
        sum &+= sign &* value
        isComplete = true
      case .mark("-"): (sign, isComplete) = (isComplete ? -1 : -sign, false)
      case .mark("+"): (sign, isComplete) = (isComplete ? 1 : sign, false)
      case .mark("("), .mark(")"): break
      default: return isComplete ? sum : nil
      }
      position += 1
    }
    return nil
  }
}
