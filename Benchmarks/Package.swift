// swift-tools-version: 6.2
import PackageDescription

let package = Package(
  name: "benchmarks",
  dependencies: [.package(name: "kvmtax", path: "..")],
  targets: [
    .executableTarget(name: "Bench", dependencies: [.product(name: "KvmtaxReading", package: "kvmtax")])
  ],
  swiftLanguageModes: [.v6]
)
