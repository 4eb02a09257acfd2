import Attribution

extension TraceDatHeader {
  /// Version 6: everything one after the other, then the table of per-CPU data.
  mutating func readVersion6(_ start: ByteCursor) throws(InputError) {
    var cursor = start
    guard formats.readPageFormat(&cursor) else { throw damaged("trace.dat header (page format)", at: cursor.position) }
    guard TracingFormats.skipTexts(&cursor) else {
      throw damaged("trace.dat header (ftrace formats)", at: cursor.position)
    }
    guard formats.readEventFormats(&cursor) else {
      throw damaged("trace.dat header (event formats)", at: cursor.position)
    }
    // kallsyms, then trace_printk's texts
    for what in ["kallsyms", "printk"] {
      guard let size = cursor.u32(), cursor.take(size) != nil else {
        throw damaged("trace.dat header (\(what))", at: cursor.position)
      }
    }
    guard let size = cursor.u64(), let names = cursor.take(size) else {
      throw damaged("trace.dat header (thread names)", at: cursor.position)
    }
    readThreadNames(names)
    guard let cpus = cursor.u32(), cpus <= TraceDatHeader.maximumCpus else {
      throw damaged("trace.dat header (number of CPUs)", at: cursor.position)
    }
    var instances: [(name: String, offset: UInt64)] = []
    try readBuffer(&cursor, name: "", cpus: cpus, instances: &instances)
    for instance in instances {
      guard var cursor = ByteCursor(bytes, at: instance.offset) else {
        throw damaged("the buffer of instance \(instance.name.debugDescription)", at: bytes.count)
      }
      var none: [(name: String, offset: UInt64)] = []
      try readBuffer(&cursor, name: instance.name, cpus: cpus, instances: &none)
    }
  }

  /// Options, then "flyrecord" and per CPU an offset and a size, then the clock if an option says so.
  private mutating func readBuffer(
    _ cursor: inout ByteCursor, name: String, cpus: UInt32, instances: inout [(name: String, offset: UInt64)]
  ) throws(InputError) {
    var hasClock = false
    if cursor.takes("options  \0") {
      while true {
        guard let id = cursor.u16() else { throw damaged("trace.dat options", at: cursor.position) }
        if id == 0 { break }
        guard let size = cursor.u32(), let content = cursor.take(size) else {
          throw damaged("trace.dat options", at: cursor.position)
        }
        if id == 3, var option = ByteCursor(content), let offset = option.u64(), let name = option.text()?.text,
          instances.count < 256
        {
          instances.append((name, offset))
        }
        if id == 4, content.isEmpty { hasClock = true }
        if !readOption(id, content) { notes.append("Option \(id) of the trace is damaged.") }
      }
    }
    if cursor.takes("latency  \0") {
      notes.append("A buffer of the trace holds the text of a latency tracer and was not read.")
      return
    }
    guard cursor.takes("flyrecord\0") else { throw damaged("trace.dat header (kind of data)", at: cursor.position) }
    var buffer = Buffer(name: name, pageSize: pageSize)
    let table = cursor.position
    for cpu in 0..<cpus {
      guard let offset = cursor.u64(), let size = cursor.u64() else {
        throw damaged("the table of per-CPU data is", at: cursor.position)
      }
      buffer.cpus.append(CpuData(cpu: cpu, offset: offset, size: size))
    }
    if hasClock, let size = cursor.u64(), size < 4096, let text = cursor.take(size) {
      clock = TraceDatHeader.selectedClock(text.text) ?? clock
    }
    buffer.clock = clock
    try add(buffer, at: table)
  }
}
