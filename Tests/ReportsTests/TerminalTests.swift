import Attribution
import Terminal
import Testing

@Suite struct NumberTests {
  @Test(arguments: [
    (0, "0 ns"), (1, "1 ns"), (812, "812 ns"), (999, "999 ns"), (1_000, "1.00 µs"), (4_550, "4.55 µs"),
    (9_994, "9.99 µs"), (9_996, "10.0 µs"), (31_000, "31.0 µs"), (999_400, "999 µs"), (999_600, "1.00 ms"),
    (31_000_000, "31.0 ms"), (999_999_999, "1.00 s"), (61_000_000_000, "61.0 s"), (1_234_000_000_000, "1,234 s"),
  ])
  func durationsHaveThreeDigitsAndAUnit(nanoseconds: UInt64, text: String) {
    #expect(duration(nanoseconds: nanoseconds) == text)
  }

  @Test(arguments: [
    (4_550, "4.6 µs"), (31_400, "31 µs"), (240_000, "240 µs"), (9_960, "10 µs"), (123, "123 ns"), (119_400, "119 µs"),
  ])
  func percentilesHaveTwo(nanoseconds: UInt64, text: String) {
    #expect(duration(nanoseconds: nanoseconds, digits: 2) == text)
  }

  @Test(arguments: [
    (250_000_000, "0.25 s"), (60_000_000_000, "60.0 s"), (725_000_000_000, "12 min 5 s"),
    (93_780_000_000_000, "26 h 3 min"), (45_000, "45.0 µs"), (0, "0 ns"),
  ])
  func spansReadLikeAClock(nanoseconds: UInt64, text: String) { #expect(timeSpan(nanoseconds: nanoseconds) == text) }

  @Test(arguments: [
    (0, "0"), (0.001, "<0.01"), (0.42, "0.42"), (0.018, "0.02"), (8.31, "8.3"), (57.14, "57.1"), (99.96, "100"),
    (740, "740"), (31_000.4, "31,000"), (.nan, "–"), (.infinity, "–"),
  ])
  func ratesFitTheirSize(value: Double, text: String) { #expect(rate(value) == text) }

  @Test(arguments: [(0, "0.0 %"), (0.131, "13.1 %"), (0.0004, "<0.1 %"), (0.0005, "0.1 %"), (1, "100.0 %")])
  func percentagesNeverHideWhatIsThere(value: Double, text: String) { #expect(percentage(value) == text) }

  @Test(arguments: [
    (0, "0 bytes"), (1, "1 byte"), (1023, "1023 bytes"), (1024, "1 KiB"), (421_888, "412 KiB"),
    (1_610_612_736, "1.5 GiB"), (1_048_575, "1.0 MiB"), (UInt64.max, "16 EiB"),
  ])
  func sizesAreBinary(bytes: UInt64, text: String) { #expect(byteCount(bytes) == text) }

  @Test(arguments: [
    (1234.5, 2, "1,234.50"), (0.999, 2, "1.00"), (-2.5, 1, "-2.5"), (1e18, 2, "1.00e18"), (0, 0, "0"),
    (.greatestFiniteMagnitude, 1, "1.80e308"),
  ])
  func decimalsAreFixed(value: Double, decimals: Int, text: String) {
    #expect(fixed(value, decimals: decimals) == text)
  }
}

@Suite struct SafeTextTests {
  @Test(arguments: [
    ("plain name-1", "plain name-1"), ("日本語 é ß 🐧", "日本語 é ß 🐧"), ("\u{1b}[31m", "\\u{1b}[31m"), ("a\nb", "a\\u{a}b"),
    ("\u{202e}gpj", "\\u{202e}gpj"), ("\u{9b}2J", "\\u{9b}2J"), ("a\u{200b}b", "a\\u{200b}b"), ("\u{7f}", "\\u{7f}"),
    ("\u{2028}", "\\u{2028}"), ("\u{2066}x", "\\u{2066}x"), ("\u{e000}", "\\u{e000}"), ("", ""),
  ])
  func whatMovesOrHidesIsEscaped(text: String, safe: String) { #expect(sanitized(text) == safe) }

  @Test func invalidUTF8IsEscapedByteByByte() {
    #expect(sanitized(bytes: [0x61, 0xff, 0xe4, 0xb8, 0x62]) == "a\\xff\\xe4\\xb8b")
    #expect(sanitized(bytes: Array("é日\u{1b}🐧".utf8)) == "é日\\u{1b}🐧")
    #expect(sanitized(bytes: [0xc0, 0x80, 0xed, 0xa0, 0x80]) == "\\xc0\\x80\\xed\\xa0\\x80")
    #expect(sanitized(bytes: [0xf0, 0x9f]) == "\\xf0\\x9f")
  }

  @Test func anyBytesComeOutHarmless() {
    for _ in 0..<2000 {
      let bytes = (0..<Int.random(in: 0...40)).map { _ in UInt8.random(in: 0...255) }
      let safe = sanitized(bytes: bytes)
      #expect(safe == sanitized(safe), "\(bytes)")
    }
  }
}

@Suite struct ColumnTests {
  @Test func widthsAreThoseOfATerminal() {
    #expect(displayWidth("abc") == 3)
    #expect(displayWidth("日本") == 4)
    #expect(displayWidth("e\u{301}") == 1)
    #expect(displayWidth("🐧") == 2)
    #expect(displayWidth("█▓░·µ–") == 6)
  }

  @Test func cutsFitAndShow() {
    #expect(truncated("abcdef", width: 6) == "abcdef")
    #expect(truncated("abcdef", width: 5) == "abcd…")
    #expect(truncated("日本語", width: 5) == "日本…")
    #expect(truncated("日本語", width: 4) == "日…")
    #expect(truncated("ab", width: 0) == "")
    #expect(padded("日本", width: 6, .right) == "  日本")
  }

  @Test func wrappingLosesNoWord() {
    for _ in 0..<300 {
      let words = (0..<Int.random(in: 0...30)).map { _ in
        String(repeating: Bool.random() ? "x" : "界", count: Int.random(in: 1...30))
      }
      let width = Int.random(in: 4...60)
      let lines = wrapped(words.joined(separator: " "), width: width, indent: 2)
      #expect(lines.allSatisfy { displayWidth($0) <= width && $0.hasPrefix("  ") })
      #expect(lines.joined().filter { $0 != " " } == words.joined())
    }
  }
}

@Suite struct StyleTests {
  private func style(_ choice: ColorChoice, terminal: Bool, _ environment: [String: String]) -> Style {
    Style(choice, isTerminal: terminal) { environment[$0] }
  }

  @Test func colorFollowsTheTerminalAndTheUser() {
    #expect(style(.auto, terminal: true, [:]).color)
    #expect(!style(.auto, terminal: false, [:]).color)
    #expect(!style(.auto, terminal: true, ["NO_COLOR": "1"]).color)
    #expect(style(.auto, terminal: true, ["NO_COLOR": ""]).color)
    #expect(!style(.auto, terminal: true, ["TERM": "dumb"]).color)
    #expect(style(.always, terminal: false, ["NO_COLOR": "1"]).color)
    #expect(!style(.never, terminal: true, [:]).color)
  }

  @Test(arguments: [
    ([:], false), (["LANG": "C"], false), (["LANG": "de_DE.UTF-8"], true), (["LANG": "C.utf8"], true),
    (["LANG": "C.UTF-8", "LC_ALL": "POSIX"], false), (["LANG": "C", "LC_CTYPE": "en_US.UTF-8"], true),
    (["LC_ALL": "", "LANG": "en_US.UTF-8"], true), (["LANG": "de_DE@euro"], false),
  ])
  func theLocaleDecidesAboutGlyphs(environment: [String: String], unicode: Bool) {
    #expect(style(.auto, terminal: false, environment).unicode == unicode)
  }
}

@Suite struct MessageTests {
  @Test func errorsSayWhatWhereAndWhatToDo() {
    let error = InputError(
      file: "a\nb\u{1b}.dat", offset: 8_388_608, found: "is cut short",
      expected: "The header promises 12,822,667 bytes.",
      remedy: String(repeating: "Copy the file again. ", count: 10))
    let lines = message(for: error).split(separator: "\n")
    #expect(lines[0] == "a\\u{a}b\\u{1b}.dat: is cut short at byte 8,388,608")
    #expect(lines[1] == "  The header promises 12,822,667 bytes.")
    #expect(lines.dropFirst(2).allSatisfy { $0.hasPrefix("  ") && $0.count <= 100 } && lines.count > 3)
  }
}
