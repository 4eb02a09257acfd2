// swift-tools-version: 6.2
import PackageDescription

let package = Package(
  name: "kvmtax",
  products: [
    .executable(name: "kvmtax", targets: ["Analyzer"]),
    .executable(name: "kvmtax-tracer", targets: ["Tracer"]),
    // for Benchmarks/, a package of its own
    .library(name: "KvmtaxReading", targets: ["Attribution", "Files", "Import", "TraceFile"]),
  ],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.0")
  ],
  targets: [
    // C libraries, by pkg-config
    .systemLibrary(name: "CBpf", pkgConfig: "libbpf", providers: [.apt(["libbpf-dev"])]),
    .systemLibrary(name: "CElf", pkgConfig: "libelf", providers: [.apt(["libelf-dev"])]),
    .systemLibrary(
      name: "CTraceEvent", pkgConfig: "libtraceevent", providers: [.apt(["libtraceevent-dev"])]),
    .systemLibrary(name: "CZlib", pkgConfig: "zlib", providers: [.apt(["zlib1g-dev"])]),
    .systemLibrary(name: "CZstd", pkgConfig: "libzstd", providers: [.apt(["libzstd-dev"])]),

    // What BPF and Swift share, and the compiled BPF programs
    .target(
      name: "CKvmtax", path: "BPF",
      exclude: [
        "calibrate.bpf.c", "embed.sh", "irq.h", "kernel_types.h", "keys.h", "kicks.h", "kvm.bpf.c", "looks.h",
        "sched.h", "slots.h",
      ],
      sources: ["layout.c"],
      publicHeadersPath: "include"),
    .plugin(name: "BpfCompile", capability: .buildTool()),
    .target(name: "BpfImages", plugins: ["BpfCompile"]),

    // From events to a report; no I/O below Import and TraceFile
    .target(name: "Attribution", dependencies: ["CKvmtax"]),
    .target(name: "Files", dependencies: ["Attribution"]),
    .target(name: "Formats", dependencies: ["Attribution", "CTraceEvent"]),
    .target(name: "Host", dependencies: ["Attribution"]),
    .target(name: "TraceFile", dependencies: ["Attribution", "CKvmtax", "CZstd", "Files"]),
    .target(
      name: "Import", dependencies: ["Attribution", "CKvmtax", "CZlib", "CZstd", "Files", "Formats"]),
    .target(name: "Diagnosis", dependencies: ["Attribution"]),
    .target(name: "Reports", dependencies: ["Attribution", "Diagnosis", "Terminal"]),
    .target(
      name: "Terminal",
      dependencies: ["Attribution", .product(name: "ArgumentParser", package: "swift-argument-parser")]),

    // The privileged half
    .target(name: "Bpf", dependencies: ["BpfImages", "CBpf", "CKvmtax", "Formats"]),
    .target(name: "CTinyGuest"),
    .target(name: "TinyGuest", dependencies: ["CTinyGuest"]),
    .executableTarget(
      name: "Tracer",
      dependencies: [
        "Attribution", "Bpf", "CKvmtax", "Formats", "Host", "Terminal", "TinyGuest", "TraceFile",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
      ]),
    .executableTarget(
      name: "Analyzer",
      dependencies: [
        "Attribution", "Diagnosis", "Files", "Formats", "Host", "Import", "Reports", "Terminal", "TraceFile",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
      ]),

    // Tests
    .target(name: "TestSupport", dependencies: ["Attribution", "CKvmtax"], path: "Tests/Support"),
    .testTarget(name: "AttributionTests", dependencies: ["Attribution", "CKvmtax", "TestSupport"]),
    .testTarget(
      name: "BpfTests",
      dependencies: ["Attribution", "Bpf", "BpfImages", "CBpf", "CKvmtax", "TestSupport"],
      exclude: ["feed.bpf.c", "fixture.bpf.c", "refused.bpf.c"], plugins: ["BpfCompile"]),
    .testTarget(
      name: "FormatsTests", dependencies: ["Attribution", "Formats", "TestSupport"], exclude: ["Fixtures"]),
    .testTarget(name: "FilesTests", dependencies: ["Attribution", "Files", "TestSupport"]),
    .testTarget(name: "DiagnosisTests", dependencies: ["Attribution", "Diagnosis", "TestSupport"]),
    .testTarget(name: "HostTests", dependencies: ["Host"]),
    .testTarget(
      name: "ImportTests",
      dependencies: ["Attribution", "CKvmtax", "CZstd", "Files", "Formats", "Import", "TestSupport"]),
    .testTarget(
      name: "ReportsTests", dependencies: ["Attribution", "CKvmtax", "Diagnosis", "Reports", "Terminal", "TestSupport"]),
    .testTarget(name: "TinyGuestTests", dependencies: ["CTinyGuest", "TinyGuest", "TestSupport"]),
    .testTarget(
      name: "TraceFileTests",
      dependencies: ["Attribution", "CKvmtax", "Files", "TraceFile", "TestSupport"],
      exclude: ["reader.py"]),
    .testTarget(name: "TracerTests", dependencies: ["Attribution", "CKvmtax", "TestSupport", "Tracer"]),
    .testTarget(
      name: "JourneyTests",
      dependencies: ["Attribution", "CBpf", "CKvmtax", "Files", "TestSupport", "TraceFile"]),
  ],
  swiftLanguageModes: [.v6]
)
