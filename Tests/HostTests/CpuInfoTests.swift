import Host
import Testing

@Suite struct CpuInfoTests {
  @Test func readsVendorModelAndVirtualization() {
    let info = CpuInfo(
      text: """
        processor\t: 0
        vendor_id\t: AuthenticAMD
        model name\t: AMD EPYC 7302 16-Core Processor
        microcode\t: 0x830107b
        flags\t\t: fpu vme svm_lock svm

        processor\t: 1
        vendor_id\t: AuthenticAMD
        model name\t: another
        flags\t\t: fpu

        """)
    #expect(info.vendor == "AuthenticAMD")
    #expect(info.model == "AMD EPYC 7302 16-Core Processor")
    #expect(info.microcode == "0x830107b")
    #expect(info.logicalCPUs == 2)
    #expect(info.virtualization == "svm")
  }

  @Test func vmxIsAWholeFlag() {
    #expect(CpuInfo(text: "processor : 0\nflags : vmxnet fpu vmx\n").virtualization == "vmx")
    #expect(CpuInfo(text: "processor : 0\nflags : vmxnet fpu\n").virtualization == nil)
  }

  @Test(arguments: ["", "\n\n", ":", "processor", ": : :", "model name:", "\u{0}\u{ff}", "flags\t:"])
  func whatIsNotThereStaysNil(text: String) {
    let info = CpuInfo(text: text)
    #expect(info.vendor == nil && info.virtualization == nil && info.logicalCPUs == 0)
  }

  @Test func anyTextIsTaken() {
    let words = ["processor", "\t: ", "flags", "\n", "vmx ", "svm", "vendor_id", ":", "é", "\r"]
    for _ in 0..<2000 {
      let chosen = (0..<Int.random(in: 0...20)).map { _ in words.randomElement() ?? "" }
      let processors = chosen.count { $0 == "processor" }
      #expect(CpuInfo(text: chosen.joined()).logicalCPUs <= processors)
    }
  }
}
