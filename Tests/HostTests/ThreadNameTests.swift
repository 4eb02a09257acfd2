import Host
import Testing

@Suite struct ThreadNameTests {
  @Test(arguments: [
    ("CPU 0/KVM", 0), ("CPU 127/KVM", 127), ("CPU 65535/KVM", 65535), ("CPU 3/KVM\n", 3), ("CPU 1/KVM\0\0\0", 1),
    ("vcpu0", 0), ("crosvm_vcpu12", 12), ("fc_vcpu 5", 5),
  ])
  func theVCPUsNumberIsReadFromItsThreadsName(name: String, index: Int) {
    #expect(ThreadName.vcpuIndex(name) == index)
  }

  @Test(arguments: [
    "", "kvm", "CPU 0/TCG", "CPU /KVM", "CPU 0/KV", "CPU -1/KVM", "CPU 0x1/KVM", "CPU 123456/KVM", "CPU ١/KVM", "vcpu",
    "vcpu 0", "IO iothread0", "crosvm_vcpu", "fc_vcpu", "CPU 0/KVM x", "\0CPU 0/KVM",
  ])
  func otherThreadsAreNoVCPUs(name: String) { #expect(ThreadName.vcpuIndex(name) == nil) }

  @Test func everyIndexAndForm() {
    for index in [0, 1, 9, 10, 255, 4096, 65535] {
      for name in ["CPU \(index)/KVM", "vcpu\(index)", "crosvm_vcpu\(index)", "fc_vcpu \(index)"] {
        #expect(ThreadName.vcpuIndex(bytes: Array(name.utf8)) == index)
      }
    }
  }

  @Test func anyBytesAreTaken() {
    for _ in 0..<5000 {
      let bytes = (0..<Int.random(in: 0...40)).map { _ in UInt8.random(in: 0...255) }
      let index = ThreadName.vcpuIndex(bytes: Array("CPU ".utf8) + bytes)
      #expect(index.map { (0...99999).contains($0) } ?? true)
    }
  }
}
