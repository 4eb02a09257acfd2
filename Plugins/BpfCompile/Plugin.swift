import Foundation
import PackagePlugin

/// Compiles BPF sources (`*.bpf.c`) with the Swift toolchain's own clang into Swift constants: those of `BPF/` for the
/// target BpfImages, a target's own for any other.
@main struct BpfCompile: BuildToolPlugin {
  func createBuildCommands(context: PluginContext, target: Target) async throws -> [Command] {
    let clang = try context.tool(named: "clang").url
    let shared = context.package.directoryURL.appending(path: "BPF")
    let include = shared.appending(path: "include")
    let script = shared.appending(path: "embed.sh")
    let folder = target.name == "BpfImages" ? shared : target.directoryURL
    let manager = FileManager.default
    let headers = try [shared, include].flatMap {
      try manager.contentsOfDirectory(at: $0, includingPropertiesForKeys: nil)
        .filter { $0.pathExtension == "h" }
    }
    return try manager.contentsOfDirectory(at: folder, includingPropertiesForKeys: nil)
      .filter { $0.lastPathComponent.hasSuffix(".bpf.c") }
      .sorted { $0.path < $1.path }
      .map { source in
        let name = source.lastPathComponent.dropLast(".bpf.c".count)
        let output = context.pluginWorkDirectoryURL.appending(path: "\(name)Object.swift")
        return .buildCommand(
          displayName: "Compiling BPF \(source.lastPathComponent)",
          executable: URL(filePath: "/bin/sh"),
          arguments: [script.path, clang.path, include.path, source.path, output.path],
          inputFiles: [source, script] + headers, outputFiles: [output])
      }
  }
}
