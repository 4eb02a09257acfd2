import Formats

/// The part that trace.dat and perf.data have in common: the texts of tracefs that tell how records are laid out.
struct TracingFormats {
  /// The offset and size of a ring-buffer page's commit count, from the `header_page` text.
  private(set) var commit: FieldPlace
  /// Where a page's records begin.
  private(set) var pageDataOffset: Int
  /// The kvm events.
  private(set) var events = KvmEventTable()

  /// The usual layout of a page, until a text says otherwise.
  init(longSize: Int) {
    commit = FieldPlace(offset: 8, size: longSize)
    pageDataOffset = 8 + longSize
  }

  /// "header_page", its text, "header_event", its text.
  mutating func readPageFormat(_ cursor: inout ByteCursor) -> Bool {
    guard cursor.takes("header_page\0"), let pageSize = cursor.u64(), let page = cursor.take(pageSize),
      cursor.takes("header_event\0"), let eventSize = cursor.u64(), cursor.take(eventSize) != nil
    else { return false }
    guard page.count < 4096, let format = try? EventFormat(text: "name: page\nID: 0\n" + page.text, system: "ftrace")
    else { return true }
    if let field = format.field(named: "commit")?.place, field.size >= 4, field.offset >= 8,
      let data = format.field(named: "data")?.offset, data >= field.offset + field.size, data < 1024
    {
      commit = field
      pageDataOffset = data
    }
    return true
  }

  /// A count of texts, each with its size, that are not needed.
  static func skipTexts(_ cursor: inout ByteCursor) -> Bool {
    guard let count = cursor.u32() else { return false }
    for _ in 0..<count {
      guard let size = cursor.u64(), cursor.take(size) != nil else { return false }
    }
    return true
  }

  /// The event formats, system by system.
  mutating func readEventFormats(_ cursor: inout ByteCursor) -> Bool {
    guard let systems = cursor.u32() else { return false }
    for _ in 0..<systems {
      guard let system = cursor.text()?.text, let count = cursor.u32() else { return false }
      for _ in 0..<count {
        guard let size = cursor.u64(), let text = cursor.take(size) else { return false }
        events.add(text: text, system: system)
      }
    }
    return true
  }

  /// perf's HEADER_TRACING_DATA: the head of an old trace.dat. Nil if it is damaged before the end of the formats.
  init?(perfTracingData bytes: UnsafeRawBufferPointer) {
    guard var cursor = ByteCursor(bytes), cursor.takes("\u{17}\u{08}\u{44}tracing"), cursor.text(limit: 8) != nil,
      cursor.u8() == 0, let longSize = cursor.u8(), longSize == 4 || longSize == 8, cursor.u32() != nil
    else { return nil }
    self.init(longSize: Int(longSize))
    guard readPageFormat(&cursor), TracingFormats.skipTexts(&cursor), readEventFormats(&cursor) else { return nil }
  }
}
