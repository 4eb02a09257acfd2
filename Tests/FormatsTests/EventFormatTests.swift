import Formats
import TestSupport
import Testing

@Suite struct EventFormatTests {
  @Test(arguments: Fixture.all) func bothParsersAgree(name: String) throws {
    let parts = name.split(separator: "/")
    let text = try Fixture.text(String(parts[0]), String(parts[1]))
    let ours = try EventFormat(text: text, system: "kvm")
    let kernels = try EventFormat(kernelText: Array(text.utf8), system: "kvm")
    #expect(ours == kernels)
    #expect(ours.name == parts[1])
    #expect(ours.fields.count == text.split(separator: "\n").count { $0.hasPrefix("\tfield:") })
    #expect(!ours.printFormat.isEmpty)
  }

  @Test(arguments: Fixture.kernels) func thereAreTextsOfEachKernel(kernel: String) {
    #expect(Fixture.all.count { $0.hasPrefix("\(kernel)/kvm_") } >= 20)
    #expect(Fixture.all.contains("\(kernel)/kvm_exit"))
  }

  @Test(arguments: FormatText.kvmExits.map(\.kernel)) func olderLayoutsAreReadAlike(kernel: String) throws {
    let fields = try #require(FormatText.kvmExits.first { $0.kernel == kernel }).fields
    let text = FormatText.make(name: "kvm_exit", id: 7, fields: fields)
    let ours = try EventFormat(text: text, system: "kvm")
    #expect(ours == (try EventFormat(kernelText: Array(text.utf8), system: "kvm")))
    #expect(ours.fields.dropFirst(4).map(\.name) == fields.map(\.name))
  }

  @Test func arraysAreToldFromIntegers() throws {
    let switched = try EventFormat(text: Fixture.text("6.18", "sched_switch"), system: "sched")
    let comm = try #require(switched.field(named: "prev_comm"))
    #expect(comm.isArray && !comm.isDynamicArray && comm.size == 16 && comm.place == nil)
    let fork = try EventFormat(text: Fixture.text("6.18", "sched_process_fork"), system: "sched")
    let child = try #require(fork.field(named: "child_comm"))
    #expect(child.isArray && child.isDynamicArray && child.size == 4 && child.place == nil)
    let pid = try #require(switched.field(named: "prev_pid"))
    #expect(!pid.isArray && pid.place != nil)
  }

  @Test func aBrokenFieldLineCostsThatFieldAlone() throws {
    let text = try Fixture.text("6.18", "kvm_exit").replacing("offset:16;", with: "offset:what;")
    let format = try EventFormat(text: text, system: "kvm")
    #expect(format.field(named: "guest_rip") == nil)
    #expect(format.field(named: "isa")?.offset == 24)
  }

  @Test(arguments: [
    "name: x\nID: 4294967296\n", "name: x\n", "ID: 3\n", "name:\nID: 3\n", "", "name: x\nID: -1\n", "name: x\nID: 1x\n",
  ])
  func aTextWithoutNameOrNumberIsRefused(text: String) {
    #expect(throws: FormatError.self) { try EventFormat(text: text, system: "kvm") }
  }

  @Test func aTextBeyondTheSizeCapIsRefused() throws {
    let text = try Fixture.text("6.1", "kvm_exit")
    let padding = String(repeating: " ", count: EventFormat.maximumTextSize - text.utf8.count)
    #expect(try EventFormat(text: text + padding, system: "kvm").name == "kvm_exit")
    #expect(throws: FormatError.self) { try EventFormat(text: text + padding + " ", system: "kvm") }
    #expect(throws: FormatError.self) { try EventFormat(kernelText: Array((text + padding + " ").utf8), system: "kvm") }
  }

  @Test(arguments: [
    "field:u32 a;\toffset:99999999999999999999;\tsize:4;\tsigned:0;", "field:u32 a;\toffset:65535;\tsize:4;\tsigned:0;",
    "field:u32 a;\toffset:-4;\tsize:4;", "field:a;\toffset:0;\tsize:4;", "field:u32 ];\toffset:0;\tsize:4;",
    "field:u32 ;\toffset:0;\tsize:4;", "field:u32 7;\toffset:0;\tsize:4;", "field:", "field:;;;;",
    "u32 a; offset:0; size:4;",
  ])
  func anImpossibleFieldIsNoField(line: String) throws {
    #expect(try EventFormat(text: "name: e\nID: 1\n\t\(line)\n", system: "s").fields == [])
  }

  @Test func damagedTextsAreReadOrRefusedButNeverTrap() throws {
    var random = SystemRandomNumberGenerator()
    let texts = try Fixture.all.map { name in
      let parts = name.split(separator: "/")
      return Array(try Fixture.text(String(parts[0]), String(parts[1])).utf8)
    }
    for _ in 0..<3000 {
      var text = texts.randomElement(using: &random) ?? []
      for _ in 0..<Int.random(in: 1...6, using: &random) {
        let place = Int.random(in: 0..<text.count, using: &random)
        switch Int.random(in: 0..<3, using: &random) {
        case 0: text[place] = UInt8.random(in: 0...255, using: &random)
        case 1: text[place] = Array("(){}[]\";,:?<>-0%".utf8).randomElement(using: &random) ?? 0
        default: text.removeSubrange(place..<min(text.count, place + Int.random(in: 0..<20, using: &random)))
        }
        if text.isEmpty { break }
      }
      guard let format = text.withUnsafeBytes({ try? EventFormat(text: $0, system: "kvm") }) else { continue }
      for field in format.fields {
        #expect(field.offset >= 0 && field.size >= 0 && field.offset + field.size <= EventFormat.maximumTextSize)
      }
      _ = ReasonNamesProbe.count(format)
    }
  }
}
