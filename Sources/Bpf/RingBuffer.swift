import CBpf
import Glibc

/// Drains one or several BPF ring buffers through one epoll descriptor. Records are handed over in the order of each
/// ring; between rings there is no order.
public final class RingBuffer {
  /// Takes one record: its bytes, valid during the call, and the ring's number.
  public typealias Body = (_ record: UnsafeRawBufferPointer, _ ring: Int) -> Void

  private final class Ring {
    let number: Int
    let body: Body
    init(number: Int, body: @escaping Body) {
      self.number = number
      self.body = body
    }
  }

  private var handle: OpaquePointer?
  /// libbpf holds unretained pointers to these.
  private var rings: [Ring] = []
  private let body: Body

  /// Without rings yet; `body` takes every record of every ring.
  public init(_ body: @escaping Body) { self.body = body }

  deinit { if let handle { ring_buffer__free(handle) } }

  /// Number of rings.
  public var ringCount: Int { rings.count }

  /// Adds a ring; its number is the count of rings before it. The map may be let go of afterwards.
  public func add(_ map: borrowing BpfMap) throws(BpfError) {
    let ring = Ring(number: rings.count, body: body)
    let context = Unmanaged.passUnretained(ring).toOpaque()
    let callback: ring_buffer_sample_fn = { context, data, size in
      guard let context, let data else { return 0 }
      let ring = Unmanaged<Ring>.fromOpaque(context).takeUnretainedValue()
      ring.body(UnsafeRawBufferPointer(start: data, count: Int(size)), ring.number)
      return 0
    }
    let descriptor = map.descriptor
    if let handle {
      try check("add ring \(map.name)") { ring_buffer__add(handle, descriptor, callback, context) }
    } else {
      handle = try checkHandle("ring \(map.name)") { ring_buffer__new(descriptor, callback, context, nil) }
    }
    rings.append(ring)
  }

  /// Waits up to `milliseconds` (-1: for ever) for a ring to wake and drains those that did; returns the number of
  /// records. A signal ends the wait with 0.
  @discardableResult
  public func poll(milliseconds: Int32) throws(BpfError) -> Int {
    guard let handle else { return 0 }
    let count = ring_buffer__poll(handle, milliseconds)
    if count == -EINTR { return 0 }
    return Int(try check("poll rings") { count })
  }

  /// Drains all rings, woken or not; returns the number of records.
  @discardableResult
  public func consume() throws(BpfError) -> Int {
    guard let handle else { return 0 }
    return Int(try check("drain rings") { ring_buffer__consume(handle) })
  }

  /// For a poll of one's own: readable when a ring has woken; nil without rings.
  public var epollDescriptor: Int32? { handle.map { ring_buffer__epoll_fd($0) } }
}
