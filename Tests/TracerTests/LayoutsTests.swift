import CKvmtax
import Foundation
import TestSupport
import Testing

@testable import Tracer

/// The classic programs read their fields where a kernel's format texts say: all of them, in each kernel at hand.
@Suite struct LayoutsTests {
  static let fixtures = URL(filePath: #filePath).deletingLastPathComponent()
    .appending(path: "../FormatsTests/Fixtures").standardizedFileURL.path

  static let kernels =
    ((try? FileManager.default.contentsOfDirectory(atPath: fixtures)) ?? []).filter { $0.hasPrefix("formats-") }
    .sorted()

  /// A folder that looks like tracefs with a kernel's kvm events.
  private func tracefs(_ kernel: String, without absent: Set<String> = []) throws -> (Tracefs, ScratchFolder) {
    let folder = try ScratchFolder()
    for file in try FileManager.default.contentsOfDirectory(atPath: "\(Self.fixtures)/\(kernel)") {
      let event = file.replacing(".format", with: "")
      guard event.hasPrefix("kvm_"), !absent.contains(event) else { continue }
      let place = folder.file("events/kvm/\(event)")
      try FileManager.default.createDirectory(atPath: place, withIntermediateDirectories: true)
      try FileManager.default.copyItem(atPath: "\(Self.fixtures)/\(kernel)/\(file)", toPath: "\(place)/format")
    }
    return (Tracefs(path: folder.path), folder)
  }

  @Test func `There are kernels to look at`() {
    #expect(Set(Self.kernels).isSuperset(of: ["formats-5.10", "formats-6.12", "formats-7.2"]))
  }

  @Test(arguments: kernels) func `Each kernel has every field that the classic programs read`(kernel: String) throws {
    let (tracefs, folder) = try tracefs(kernel)
    defer { withExtendedLifetime(folder) {} }
    let layouts = try Layouts(tracefs: tracefs, proxy: false)
    #expect(layouts.hasWakeup && layouts.hasUserspaceExit)
    for number in 0..<KT_FIELDS.rawValue {
      // an event that the kernel lacks, or that is not among the texts kept of it, has no program
      let event = try #require(Layouts.fields[number]?.event, "field \(number)")
      guard layouts.formats[event] != nil else { continue }
      let found = layouts.placement(of: kt_field(number))
      if kt_field(number) == KT_FIELD_ENTRY_IMMEDIATE, found == nil { continue }  // since 6.1
      let place = try #require(found, "field \(number)")
      // BPF reads aligned, and not the first 8 bytes
      #expect(place.offset >= 8 && place.offset % place.size == 0, "field \(number)")
    }
    // no two fields of an event may share a place
    let isa = try #require(layouts.placement(of: KT_FIELD_EXIT_ISA))
    let reason = try #require(layouts.placement(of: KT_FIELD_EXIT_REASON))
    #expect(isa.offset != reason.offset && isa.size == 4 && reason.size == 4)
    #expect(layouts.placement(of: KT_FIELD_WAKEUP_NS)?.size == 8)
    #expect(layouts.placement(of: KT_FIELD_WAKEUP_WAITED)?.size == 1)
  }

  @Test(arguments: kernels) func `What is not needed may be absent, what is needed may not`(kernel: String) throws {
    let (few, folder) = try tracefs(kernel, without: ["kvm_vcpu_wakeup", "kvm_userspace_exit", "kvm_fpu"])
    let layouts = try Layouts(tracefs: few, proxy: false)
    #expect(!layouts.hasWakeup && !layouts.hasUserspaceExit)
    #expect(layouts.placement(of: KT_FIELD_WAKEUP_NS) == nil)
    #expect(throws: Obstacle.self) { try Layouts(tracefs: few, proxy: true) }
    let (none, other) = try tracefs(kernel, without: ["kvm_entry"])
    #expect(throws: Obstacle.self) { try Layouts(tracefs: none, proxy: false) }
    withExtendedLifetime((folder, other)) {}
  }
}
