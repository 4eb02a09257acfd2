/// Rewrites records of one event from one layout to another; fields are matched by name, what is new holds noise.
public struct RecordRewriter: Sendable {
  private struct Move: Sendable {
    var from: Int
    var fromSize: Int
    var to: Int
    var toSize: Int
    var signed: Bool
  }
  private var moves: [Move] = []
  private var locations: [Int] = []
  private let newSize: Int
  private let id: Int

  /// From the layout in which records are to the one in which they shall be.
  public init(from old: EventText, to new: EventText) {
    newSize = new.fixedSize
    id = new.id
    let previous = old.common + old.fields
    for field in new.common + new.fields {
      guard let source = previous.first(where: { $0.name == field.name }) else { continue }
      moves.append(
        Move(
          from: source.offset, fromSize: source.size, to: field.offset, toSize: field.size,
          signed: source.signed && source.isScalar))
      if field.isDataLocation { locations.append(field.offset) }
    }
  }

  /// One record in its new layout. Data that `__data_loc` fields point to moves behind the new fixed part.
  public func rewrite(_ record: [UInt8], noise: inout MutantRandom) -> [UInt8] {
    var result = [UInt8](repeating: 0, count: newSize)
    for index in result.indices { result[index] = UInt8(truncatingIfNeeded: noise.next()) }
    for move in moves {
      let negative = move.signed && record[move.from + move.fromSize - 1] & 0x80 != 0
      for byte in 0..<move.toSize {
        let known = byte < move.fromSize && move.from + byte < record.count
        result[move.to + byte] = known ? record[move.from + byte] : negative ? 0xff : 0
      }
    }
    appendData(of: record, to: &result)
    result[0] = UInt8(truncatingIfNeeded: id)
    result[1] = UInt8(truncatingIfNeeded: id >> 8)
    return result
  }

  private func appendData(of record: [UInt8], to result: inout [UInt8]) {
    for location in locations {
      let offset = Int(result[location]) | Int(result[location + 1]) << 8
      let length = Int(result[location + 2]) | Int(result[location + 3]) << 8
      guard offset + length <= record.count else { continue }
      result[location] = UInt8(truncatingIfNeeded: result.count)
      result[location + 1] = UInt8(truncatingIfNeeded: result.count >> 8)
      result += record[offset..<offset + length]
    }
  }
}
