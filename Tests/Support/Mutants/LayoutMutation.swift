/// Changes of one event's layout as kernels make them: fields added, moved, resized, other holes between them.
extension EventText {
  /// Puts a common field behind the others and all own fields 8 bytes further back.
  mutating func addCommonField() {
    let end = common.map { $0.offset + $0.size }.max() ?? 8
    common.append(
      Field(
        type: "unsigned char", name: "common_preempt_lazy_count", brackets: "", offset: end, size: 1, signed: false))
    for index in fields.indices { fields[index].offset += 8 }
  }

  /// One to three changes at random; says which.
  mutating func changeLayout(using random: inout MutantRandom) -> String {
    var done: [String] = []
    let first = common.map { $0.offset + $0.size }.max() ?? 8
    repeat {
      if random.oneIn(2) {
        let place = random.oneIn(2) ? fields.count : random.below(fields.count + 1)
        add(at: place, using: &random)
        done.append(place == fields.count - 1 ? "field added at the end" : "field added before no. \(place + 1)")
      }
      if random.oneIn(2) {
        // a __data_loc field may move as well: it names its place itself
        fields.shuffle(using: &random)
        done.append("fields moved")
      }
      if random.oneIn(2) {
        for index in fields.indices where fields[index].isScalar && random.oneIn(2) { resize(index, using: &random) }
        done.append("fields resized")
      }
    } while done.isEmpty
    place(from: first, holes: random.oneIn(3), using: &random)
    return done.joined(separator: ", ")
  }

  private mutating func add(at place: Int, using random: inout MutantRandom) {
    let kinds = [
      ("u8", "", 1), ("u16", "", 2), ("u32", "", 4), ("u64", "", 8), ("char", "[16]", 16), ("u64", "[12]", 96),
    ]
    let kind = kinds[random.below(kinds.count)]
    fields.insert(
      Field(
        type: kind.0, name: "added_\(random.below(100_000))", brackets: kind.1, offset: 0, size: kind.2, signed: false),
      at: place)
  }

  /// 4 to 8 bytes, or fewer for what is known to be small: no value may be cut.
  private mutating func resize(_ index: Int, using random: inout MutantRandom) {
    let small = ["isa": [1, 2, 8], "vcpu_id": [2, 8], "immediate_exit": [2, 4]][fields[index].name]
    let sizes = small ?? (fields[index].size == 4 ? [8] : [fields[index].size])
    let size = sizes[random.below(sizes.count)]
    if size == fields[index].size { return }
    fields[index].size = size
    fields[index].type = "\(fields[index].signed ? "s" : "u")\(size * 8)"
  }

  /// Lays the fields out one after the other, each aligned to its size.
  private mutating func place(from start: Int, holes: Bool, using random: inout MutantRandom) {
    var at = start
    for index in fields.indices {
      if holes, random.oneIn(3) { at += 8 * (1 + random.below(2)) }
      let element = fields[index].brackets.isEmpty ? min(fields[index].size, 8) : fields[index].type == "char" ? 1 : 8
      at = (at + element - 1) / element * element
      fields[index].offset = at
      at += fields[index].size
    }
  }
}
