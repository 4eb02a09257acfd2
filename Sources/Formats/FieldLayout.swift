/// Where a field lies in an event's record, as the `format` text says.
public struct FieldLayout: Equatable, Sendable {
  /// The field's name, as "exit_reason".
  public var name: String
  /// Byte offset from the start of the record, common fields included.
  public var offset: Int
  /// Size in bytes: an array's is that of all its elements, a dynamic array's that of its descriptor.
  public var size: Int
  /// Whether the value is signed.
  public var isSigned: Bool
  /// `type name[N]` or a dynamic array.
  public var isArray: Bool
  /// `__data_loc` or `__rel_loc`: the record holds a descriptor of where the data lies.
  public var isDynamicArray: Bool

  /// One field.
  public init(
    name: String, offset: Int, size: Int, isSigned: Bool = false, isArray: Bool = false, isDynamicArray: Bool = false
  ) {
    self.name = name
    self.offset = offset
    self.size = size
    self.isSigned = isSigned
    self.isArray = isArray
    self.isDynamicArray = isDynamicArray
  }

  /// The place of an integer of 1, 2, 4 or 8 bytes, to be read without the name; nil for anything else.
  public var place: FieldPlace? {
    guard !isArray, [1, 2, 4, 8].contains(size) else { return nil }
    return FieldPlace(offset: offset, size: size, isSigned: isSigned)
  }
}

/// Where an integer lies in a record: a field's layout without its name, for use per event.
@frozen public struct FieldPlace: Equatable, Sendable {
  /// Byte offset from the start of the record.
  public let offset: Int
  /// 1, 2, 4 or 8 bytes.
  public let size: Int
  /// Whether the value is sign-extended.
  public let isSigned: Bool

  /// One place; `size` other than 1, 2, 4 or 8 reads nothing.
  @inlinable public init(offset: Int, size: Int, isSigned: Bool = false) {
    self.offset = offset
    self.size = size
    self.isSigned = isSigned
  }

  /// The little-endian integer in a record, sign-extended to 64 bits if signed; nil where the record is too short.
  @inlinable @inline(__always) public func load(from record: UnsafeRawBufferPointer) -> UInt64? {
    guard offset >= 0, offset <= record.count &- size else { return nil }
    switch size {
    case 4:
      let value = record.loadUnaligned(fromByteOffset: offset, as: UInt32.self)
      return isSigned ? UInt64(truncatingIfNeeded: Int32(bitPattern: value)) : UInt64(value)
    case 8: return record.loadUnaligned(fromByteOffset: offset, as: UInt64.self)
    case 2:
      let value = record.loadUnaligned(fromByteOffset: offset, as: UInt16.self)
      return isSigned ? UInt64(truncatingIfNeeded: Int16(bitPattern: value)) : UInt64(value)
    case 1:
      let value = record[offset]
      return isSigned ? UInt64(truncatingIfNeeded: Int8(bitPattern: value)) : UInt64(value)
    default: return nil
    }
  }
}
