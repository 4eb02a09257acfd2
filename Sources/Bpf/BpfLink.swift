import CBpf

/// An attached program; letting go of it detaches.
public struct BpfLink: ~Copyable {
  private let handle: OpaquePointer

  init(handle: OpaquePointer) { self.handle = handle }

  deinit { bpf_link__destroy(handle) }

  consuming func release() -> OpaquePointer {
    let handle = self.handle
    discard self
    return handle
  }
}

/// Several attached programs, detached together, the last first.
public struct BpfLinks: ~Copyable {
  private var handles: [OpaquePointer] = []

  /// None yet.
  public init() {}

  deinit { for handle in handles.reversed() { bpf_link__destroy(handle) } }

  /// Number of attached programs.
  public var count: Int { handles.count }

  /// Takes a link.
  public mutating func add(_ link: consuming BpfLink) { handles.append(link.release()) }

  /// Detaches all; they may be attached again afterwards.
  public mutating func detach() {
    while let handle = handles.popLast() { bpf_link__destroy(handle) }
  }
}
