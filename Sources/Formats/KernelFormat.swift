import CTraceEvent

extension EventFormat {
  /// Parses a text of the running kernel through libtraceevent. For nothing else: on damaged texts libtraceevent reads
  /// through wild pointers.
  public init(kernelText: [UInt8], system: String) throws(FormatError) {
    guard kernelText.count <= EventFormat.maximumTextSize else {
      throw FormatError(found: "format text of \(kernelText.count) bytes")
    }
    guard let handle = tep_alloc() else { throw FormatError(found: "no memory") }
    defer { tep_free(handle) }
    tep_set_loglevel(TEP_LOG_NONE)
    // a broken print fmt is an error of its own, and the fields are there all the same
    _ = kernelText.withUnsafeBytes { bytes in
      tep_parse_event(handle, bytes.baseAddress?.assumingMemoryBound(to: CChar.self), UInt(bytes.count), system)
    }
    guard let event = tep_get_first_event(handle), let name = event.pointee.name else {
      throw FormatError(found: "format text that libtraceevent cannot read")
    }
    self.init(
      name: String(cString: name), system: system, id: Int(event.pointee.id),
      fields: EventFormat.layouts(event.pointee.format.common_fields)
        + EventFormat.layouts(event.pointee.format.fields),
      printFormat: [])
    // libtraceevent keeps the parsed print fmt only
    let plain = kernelText.withUnsafeBytes { bytes in
      Result { () throws(FormatError) in try EventFormat(text: bytes, system: system) }
    }
    printFormat = (try? plain.get())?.printFormat ?? []
  }

  private static func layouts(_ first: UnsafeMutablePointer<tep_format_field>?) -> [FieldLayout] {
    var layouts: [FieldLayout] = []
    var next = first
    while let field = next {
      let flags = field.pointee.flags
      layouts.append(
        FieldLayout(
          name: String(cString: field.pointee.name), offset: Int(field.pointee.offset), size: Int(field.pointee.size),
          isSigned: flags & UInt(TEP_FIELD_IS_SIGNED.rawValue) != 0,
          isArray: flags & UInt(TEP_FIELD_IS_ARRAY.rawValue) != 0,
          isDynamicArray: flags & UInt(TEP_FIELD_IS_DYNAMIC.rawValue) != 0))
      next = field.pointee.next
    }
    return layouts
  }
}
