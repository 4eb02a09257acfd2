import Attribution
import CKvmtax

/// From what the pieces were to the states that they are booked in.
extension OracleThread {
  /// Where a piece belongs for itself; what HLT makes of its time on CPU comes after.
  func label(_ piece: Piece, isHalt: Bool) -> State {
    switch piece.nature {
    case .doubtful: .unknown
    case .handler: .hostInterrupt
    case .stopped: .stopped
    case .preempted, .delayed: .preempted
    case .polled: .haltPoll
    case .waited: .haltWait
    case .latency: .wakeLatency
    case .asleep:
      switch piece.place {
      case .unseen, .guest: .unknown
      case .user: .qemuBlocked
      case .userHalt: .haltWait
      case .kernel: isHalt ? .haltWait : .kernelBlocked
      case .unnamed, .resumed: .kernelBlocked
      }
    case .running:
      switch piece.place {
      case .unseen: .unknown
      case .guest: .guest
      case .user: .qemu
      case .userHalt: has(KT_HAS_SWITCH) ? .qemu : .haltWait
      case .unnamed, .kernel, .resumed: .kernel
      }
    }
  }

  /// An exit's pieces with their states. `isOver`: nothing more will come that could explain it.
  func amounts(of exit: Exit, isOver: Bool) -> [(State, UInt64)] {
    let isHalt = exit.isHalt
    var amounts = exit.pieces.map { (label($0, isHalt: isHalt), $0.length) }
    if isHalt { divideHalt(exit, isOver: isOver, &amounts) }
    for wakeup in exit.lateWakeups { moveWaiting(wakeup, &amounts) }
    return amounts
  }

  /// HLT's time on CPU in the kernel, round by round: each wake-up ends one and says how long it lasted.
  private func divideHalt(_ exit: Exit, isOver: Bool, _ amounts: inout [(State, UInt64)]) {
    let isOnCPU = { (piece: Piece) in piece.place == .kernel && piece.nature == .running }
    guard has(KT_HAS_WAKEUP) else {
      // rule: where nothing tells, HLT is one
      for index in exit.pieces.indices where isOnCPU(exit.pieces[index]) { amounts[index].0 = .haltWait }
      return
    }
    for round in 0...exit.wakeups.count {
      let pieces = exit.pieces.indices.filter { exit.pieces[$0].round == round && exit.pieces[$0].place == .kernel }
      let sleep = pieces.first { [.asleep, .latency].contains(exit.pieces[$0].nature) }
      // rule: after a sleep nothing is polled
      let open = pieces.filter { isOnCPU(exit.pieces[$0]) && $0 < sleep ?? .max }
      guard round < exit.wakeups.count else {
        // rule: no wake-up, nothing was polled: the interrupt was there already
        guard round == 0 else { return }
        let isUndecided = !isOver && !exit.wasInUserspace
        let state: State = !has(KT_HAS_SWITCH) ? .haltWait : isUndecided ? .haltPoll : .kernel
        for index in open { amounts[index].0 = state }
        return
      }
      divide(exit.wakeups[round], open, hasSlept: sleep != nil, &amounts)
    }
  }

  /// rule: what lies before the halt was handling; the rest was polled, or slept through where the sleep was not seen.
  private func divide(_ wakeup: Wakeup, _ open: [Int], hasSlept: Bool, _ amounts: inout [(State, UInt64)]) {
    var handling = wakeup.time - wakeup.roundStart
    handling -= min(handling, wakeup.nanoseconds)
    for index in open {
      let handled = min(handling, amounts[index].1)
      handling -= handled
      amounts[index] = (wakeup.waited && !hasSlept ? .haltWait : .haltPoll, amounts[index].1 - handled)
      amounts.append((.kernel, handled))
    }
  }

  /// rule: as much as was blocked there, and at most the wake-up's length, was waiting.
  private func moveWaiting(_ wakeup: LateWakeup, _ amounts: inout [(State, UInt64)]) {
    let blocked: State = wakeup.place == .resumed ? .kernelBlocked : .qemuBlocked
    var rest = wakeup.nanoseconds
    for index in 0..<wakeup.pieceCount where amounts[index].0 == blocked {
      let moved = min(rest, amounts[index].1)
      rest -= moved
      amounts[index].1 -= moved
      amounts.append((.haltWait, moved))
    }
  }
}
