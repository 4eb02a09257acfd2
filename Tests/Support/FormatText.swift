/// Format texts as the kernel writes them, for layouts of which no kernel is at hand.
public enum FormatText {
  /// A field: its C type, its name and its size in bytes.
  public typealias Field = (type: String, name: String, size: Int)

  /// The usual common fields and the given ones, laid out as a C compiler does.
  public static func make(name: String, id: Int, fields: [Field]) -> String {
    var text = """
      name: \(name)
      ID: \(id)
      format:
      \tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;
      \tfield:unsigned char common_flags;\toffset:2;\tsize:1;\tsigned:0;
      \tfield:unsigned char common_preempt_count;\toffset:3;\tsize:1;\tsigned:0;
      \tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;


      """
    var offset = 8
    for field in fields {
      offset = (offset + field.size - 1) / field.size * field.size
      text += "\tfield:\(field.type) \(field.name);\toffset:\(offset);\tsize:\(field.size);\tsigned:0;\n"
      offset += field.size
    }
    return text + "\nprint fmt: \"%u\", REC->common_pid\n"
  }

  /// kvm_exit by kernel, as its sources had it.
  public static let kvmExits: [(kernel: String, fields: [Field])] = [
    ("5.2", [reason, rip, isa, info1, info2]),
    ("between 5.2 and 5.10", [reason, rip, isa, info1, info2, vcpu]),
    ("5.10, and Alibaba's 4.19", [reason, rip, isa, info1, info2, intrInfo, errorCode, vcpu]),
    ("6.14", [reason, rip, isa, info1, info2, intrInfo, errorCode, vcpu, ("u64", "requests", 8)]),
    ("arm64", [("int", "ret", 4), ("unsigned int", "esr_ec", 4), ("unsigned long", "vcpu_pc", 8)]),
  ]

  private static let reason: Field = ("unsigned int", "exit_reason", 4)
  private static let rip: Field = ("unsigned long", "guest_rip", 8)
  private static let isa: Field = ("u32", "isa", 4)
  private static let info1: Field = ("u64", "info1", 8)
  private static let info2: Field = ("u64", "info2", 8)
  private static let intrInfo: Field = ("u32", "intr_info", 4)
  private static let errorCode: Field = ("u32", "error_code", 4)
  private static let vcpu: Field = ("unsigned int", "vcpu_id", 4)
}
