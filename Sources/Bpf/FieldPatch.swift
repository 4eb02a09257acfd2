import CBpf

/// Where a tracepoint's record holds a field in the running kernel, as the event's `format` says. In bytes.
public struct FieldPlacement: Equatable, Sendable {
  /// Offset in the record; the first 8 bytes are not readable to BPF.
  public var offset: UInt32
  /// 1, 2, 4 or 8.
  public var size: UInt32

  /// One field's place.
  public init(offset: UInt32, size: UInt32) {
    self.offset = offset
    self.size = size
  }
}

/// Why a field cannot be read where it is.
public enum FieldPatchError: Error, Equatable, Sendable, CustomStringConvertible {
  /// A load between two placeholders: the program was not compiled as this file expects.
  case strayOffset(Int16)
  /// The field is not of 1, 2, 4 or 8 bytes, not aligned to its size, or out of reach of a BPF program.
  case unreadable(field: UInt32, FieldPlacement)

  /// One line.
  public var description: String {
    switch self {
    case .strayOffset(let offset): "a load at 0x\(String(offset, radix: 16)), which is no field"
    case .unreadable(let field, let place):
      "field \(field) of \(place.size) bytes at offset \(place.offset) cannot be read by a BPF program"
    }
  }
}

/// Placeholders of fields: field number n is a load at offset 0x4000 + 16 n, far beyond any real record.
public enum FieldPlaceholder {
  /// The offset of field 0.
  public static let first: Int16 = 0x4000
  /// From one field's placeholder to the next.
  public static let step: Int16 = 16
}

/// Rewrites every load from a field's placeholder to the kernel's real offset and size, or, when the kernel's record
/// lacks the field, to a zero. Values are zero-extended; a field wider than the C side reads it gives its low bytes
/// (the compiler counts on the upper half of a 32-bit load being zero). Returns the number of loads rewritten.
func patchFields(
  in instructions: UnsafeMutableBufferPointer<bpf_insn>, resolve: (UInt32) -> FieldPlacement?
) throws(FieldPatchError) -> Int {
  var count = 0
  var index = 0
  while index < instructions.count {
    let instruction = instructions[index]
    // a 64-bit constant takes two places, of which the second is no instruction
    index += instruction.code == Opcode.loadImmediate64 ? 2 : 1
    guard instruction.code & Opcode.classMask == Opcode.load, instruction.off >= FieldPlaceholder.first else {
      continue
    }
    let distance = instruction.off - FieldPlaceholder.first
    guard distance % FieldPlaceholder.step == 0, instruction.code & Opcode.modeMask == Opcode.memory else {
      throw .strayOffset(instruction.off)
    }
    let field = UInt32(distance / FieldPlaceholder.step)
    let position = index - 1
    count += 1
    guard let place = resolve(field) else {
      instructions[position].code = Opcode.moveImmediate64
      instructions[position].src_reg = 0
      instructions[position].off = 0
      instructions[position].imm = 0
      continue
    }
    // the verifier (tp_prog_is_valid_access) takes aligned loads only, from behind the common fields
    guard let size = Opcode.size(of: place.size), place.offset % place.size == 0, place.offset >= 8,
      place.offset < UInt32(FieldPlaceholder.first)
    else { throw .unreadable(field: field, place) }
    let isNarrower = Opcode.byteCount(instruction.code) < place.size
    if !isNarrower { instructions[position].code = instruction.code & ~Opcode.sizeMask | size }
    instructions[position].off = Int16(truncatingIfNeeded: place.offset)
  }
  return count
}

/// The few bits of BPF's instruction encoding that are needed (linux/bpf.h, bpf_common.h).
private enum Opcode {
  static let classMask: UInt8 = 0x07
  static let load: UInt8 = 0x01
  static let modeMask: UInt8 = 0xe0
  static let memory: UInt8 = 0x60
  static let sizeMask: UInt8 = 0x18
  static let moveImmediate64: UInt8 = 0xb7
  static let loadImmediate64: UInt8 = 0x18

  static func size(of byteCount: UInt32) -> UInt8? {
    switch byteCount {
    case 1: 0x10
    case 2: 0x08
    case 4: 0x00
    case 8: 0x18
    default: nil
    }
  }

  static func byteCount(_ code: UInt8) -> UInt32 {
    switch code & sizeMask {
    case 0x10: 1
    case 0x08: 2
    case 0x00: 4
    default: 8
    }
  }
}
