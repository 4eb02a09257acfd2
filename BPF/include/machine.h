/*
 * The state machine of a vCPU thread: one set of inline functions, compiled into the BPF programs and imported by
 * Swift. No helpers, no libc, no loops. It is tested against an oracle that was not written from this file.
 *
 * The caller takes the slot with kt_begin() and gives it back with kt_finish(); the time is read after kt_begin(), so
 * that an event that interrupts another cannot make an interval negative. Any event may be missing or come twice.
 */
#ifndef KVMTAX_MACHINE_H
#define KVMTAX_MACHINE_H
#include "key.h"
#include "record.h"

#define KT_BARRIER() __asm__ volatile("" ::: "memory")

/* Takes the slot: 0 when another program on this thread holds it (the event is counted as missed). */
KT_INLINE int kt_begin(struct kt_slot *slot)
{
	if (slot->sequence & 1) {
		slot->missed++;
		return 0;
	}
	slot->sequence++;
	KT_BARRIER();
	return 1;
}

/* The same for an event of a kind: what interrupts a step is nearly always a host interrupt, and of no great harm. */
KT_INLINE int kt_begin_event(struct kt_slot *slot, __u8 kind)
{
	if ((slot->sequence & 1) && (kind == KT_IRQ_ENTRY || kind == KT_IRQ_EXIT || kind == KT_ACCEPT_IRQ)) {
		slot->missed_interrupts++;
		return 0;
	}
	return kt_begin(slot);
}

KT_INLINE void kt_finish(struct kt_slot *slot)
{
	KT_BARRIER();
	slot->sequence++;
}

/* A fresh slot: unknown since now. `sequence`, `thread`, `first_row` and `first_key` are the caller's. */
KT_INLINE void kt_start(struct kt_slot *slot, __u64 time_ns, __u32 tid, __u32 tgid, __u8 features)
{
	slot->tid = tid;
	slot->tgid = tgid;
	slot->vcpu = KT_NO_VCPU;
	slot->features = features;
	slot->state = KT_UNKNOWN;
	slot->base = KT_UNKNOWN;
	slot->first_ns = time_ns;
	slot->since_ns = time_ns;
	slot->on_ns = time_ns;
}

/* Time and states */

/* A state as an index; hidden from the compiler, which would find the mask superfluous that old verifiers want to see. */
KT_INLINE __u64 kt_index(__u8 state)
{
	__u64 index = state;

	__asm__ volatile("" : "+r"(index));
	return index & (KT_STATE_SLOTS - 1);
}

KT_INLINE void kt_book(struct kt_slot *slot, __u8 state, __u64 length)
{
	slot->state_ns[kt_index(state)] += length;
	if (slot->in_exit) slot->exit_state_ns[kt_index(state)] += length;
}

/*
 * An event of the thread's own: its time, which cannot lie before the open interval. One that says that it does counts as
 * zero length.
 */
KT_INLINE __u64 kt_arrive(struct kt_slot *slot, __u64 time_ns)
{
	slot->steps++;
	if (time_ns >= slot->since_ns) return time_ns;
	slot->backwards++;
	return slot->since_ns;
}

/* Closes the open interval at time_ns and opens one in `state`. */
KT_INLINE void kt_move(struct kt_slot *slot, __u64 time_ns, __u8 state)
{
	__u64 length, delay = slot->delay_ns;

	if (time_ns < slot->since_ns) time_ns = slot->since_ns;
	length = time_ns - slot->since_ns;
	if (delay) {
		if (delay > length) delay = length;
		slot->delay_ns -= delay;
		length -= delay;
		kt_book(slot, KT_PREEMPTED, delay);
	}
	kt_book(slot, slot->state, length);
	if (slot->provisional == slot->state + 1 && !slot->slept) slot->provisional_ns += length;
	slot->since_ns = time_ns;
	slot->state = state;
}

/* Books what was booked for the open exit in one state to another one. */
#define KT_SHIFT(slot, from, to, ns) do { \
	(slot)->state_ns[from] -= (ns); \
	(slot)->state_ns[to] += (ns); \
	(slot)->exit_state_ns[from] -= (ns); \
	(slot)->exit_state_ns[to] += (ns); } while (0)

/*
 * sched_info.run_delay (plus 1) as read at this step: how long the thread was runnable and did not run. Where sched
 * events say so themselves it is only kept for comparison.
 */
KT_INLINE void kt_note_delay(struct kt_slot *slot, __u64 run_delay_ns)
{
	if (!run_delay_ns) return;
	if (!slot->run_delay_ns) slot->first_run_delay_ns = run_delay_ns;
	else if (!(slot->features & KT_HAS_SWITCH) && !slot->delay_cut && run_delay_ns > slot->run_delay_ns)
		slot->delay_ns += run_delay_ns - slot->run_delay_ns;
	slot->run_delay_ns = run_delay_ns;
	slot->delay_cut = 0;
}

/* The open exit is a HLT. */
KT_INLINE int kt_in_halt(const struct kt_slot *slot)
{
	return slot->in_exit && !slot->pending && kt_is_halt(slot->isa, slot->reason);
}

/* And KVM handles it. */
KT_INLINE int kt_in_kernel_halt(const struct kt_slot *slot)
{
	return kt_in_halt(slot) && slot->base != KT_QEMU && !slot->user_halt && !slot->resumed;
}

/*
 * The thread runs again: a sleep is divided into waiting and, from the wake-up on, latency. A wake-up just before the
 * sleep (the sleeper had said that it would sleep) makes all of it latency; a sleep that nobody was seen to end stays
 * what it is.
 */
KT_INLINE void kt_come_on(struct kt_slot *slot, __u64 time_ns)
{
	__u64 woken = slot->wake_ns, before = slot->on_ns;

	if (slot->in_exit && slot->exit_ns > before) before = slot->exit_ns;
	if (slot->state == KT_HALT_WAIT || slot->state == KT_QEMU_BLOCKED || slot->state == KT_KERNEL_BLOCKED) {
		if (slot->state == KT_HALT_WAIT && slot->base == KT_HALT_POLL) slot->base = KT_KERNEL;
		if (slot->features & KT_HAS_WAKING) {
			if (woken >= slot->since_ns && woken <= time_ns) kt_move(slot, woken, KT_WAKE_LATENCY);
			else if (woken < slot->since_ns && woken >= before) slot->state = KT_WAKE_LATENCY;
			else slot->missed_wakings++;
		}
	}
	kt_move(slot, time_ns, slot->base);
	slot->off = 0;
	slot->on_ns = slot->since_ns;
	slot->switches++;
}

/* Before any event of the thread's own: it is on CPU and in no handler, whatever was seen. */
KT_INLINE __u64 kt_settle(struct kt_slot *slot, __u64 time_ns)
{
	time_ns = kt_arrive(slot, time_ns);
	if (slot->off) {
		slot->missed_switches++;
		kt_come_on(slot, time_ns);
	}
	if (slot->irq_depth) {
		slot->irq_depth = 0;
		kt_move(slot, time_ns, slot->base);
	}
	return time_ns;
}

KT_INLINE void kt_clear_exit(struct kt_slot *slot)
{
	slot->in_exit = 0;
	slot->pending = 0;
	slot->provisional = 0;
	slot->user_halt = 0;
	__builtin_memset(slot->exit_state_ns, 0, sizeof slot->exit_state_ns);
}

/*
 * What was booked for the open exit goes to unknown: it had no entry, so guest time may hide in it. Time off CPU and in
 * the host's handlers is certain where it was observed; halt_wait is, where it is nothing but sleep.
 */
#define KT_TAKE_BACK(state) do { \
	slot->state_ns[state] -= slot->exit_state_ns[state]; \
	slot->state_ns[KT_UNKNOWN] += slot->exit_state_ns[state]; } while (0)
KT_INLINE void kt_drop_exit(struct kt_slot *slot)
{
	KT_TAKE_BACK(KT_KERNEL);
	KT_TAKE_BACK(KT_QEMU);
	KT_TAKE_BACK(KT_HALT_POLL);
	if (!(slot->features & KT_HAS_SWITCH) || !(slot->features & KT_HAS_WAKEUP)) KT_TAKE_BACK(KT_HALT_WAIT);
	if (!slot->pending) slot->unpaired_exits++;
	kt_clear_exit(slot);
}

/* An interrupt or a switch in guest mode: guest time ends here, and kvm_exit is still to come and name the reason. */
KT_INLINE void kt_open_pending(struct kt_slot *slot, __u64 time_ns)
{
	kt_move(slot, time_ns, KT_KERNEL);
	slot->in_exit = 1;
	slot->pending = 1;
	slot->base = KT_KERNEL;
	slot->exit_ns = slot->since_ns;
	kt_clear_key(&slot->key);
}

/* HLT's time on CPU that no kvm_vcpu_wakeup divided: the interrupt was there already, nothing was polled. */
KT_INLINE void kt_end_provisional(struct kt_slot *slot)
{
	if (slot->provisional == KT_HALT_POLL + 1)
		KT_SHIFT(slot, KT_HALT_POLL, KT_KERNEL, slot->provisional_ns);
	slot->provisional = 0;
}

KT_INLINE void kt_begin_provisional(struct kt_slot *slot, __u8 state)
{
	slot->provisional = state + 1;
	slot->provisional_ns = 0;
	slot->slept = 0;
	slot->mark_ns = slot->since_ns;
}

/* Events */

/*
 * kvm_exit. Returns 1 when an exit was already open: two exits with no entry between, of which the first is unpaired;
 * *superseded_isa and *superseded_reason name it and its time becomes unknown.
 */
KT_INLINE int kt_step_exit(struct kt_slot *slot, __u64 time_ns, __u8 isa, __u32 reason, __u64 info1, __u64 info2,
			   __u32 intr_info, __u8 *superseded_isa, __u32 *superseded_reason)
{
	int superseded = slot->in_exit && !slot->pending, immediate;

	time_ns = kt_settle(slot, time_ns);
	slot->exits++;
	*superseded_isa = slot->isa;
	*superseded_reason = slot->reason;
	/* of the entry before this exit, not before one that was not seen */
	immediate = slot->immediate && (slot->pending || slot->base == KT_GUEST);
	slot->immediate = 0;
	if (slot->pending) {
		kt_move(slot, time_ns, KT_KERNEL);
		slot->pending = 0;
	} else {
		/* neither in guest mode nor in an exit: the entry was not seen, nor when the guest began to run */
		if (!superseded && slot->state != KT_GUEST) slot->state = KT_UNKNOWN;
		kt_move(slot, time_ns, slot->state);
		if (superseded) kt_drop_exit(slot);
		slot->in_exit = 1;
		slot->exit_ns = slot->since_ns;
		kt_clear_key(&slot->key);
	}
	slot->isa = isa;
	slot->reason = reason;
	slot->resumed = 0;
	slot->slept = 0;
	if (immediate) slot->key.traits |= KT_IMMEDIATE;
	kt_name_key(&slot->key, isa, reason, info1, info2, intr_info);
	kt_count_kind(slot, isa, reason);
	slot->base = KT_KERNEL;
	if (kt_is_halt(isa, reason)) {
		slot->base = slot->features & KT_HAS_WAKEUP && slot->features & KT_HAS_SWITCH ? KT_HALT_POLL : KT_HALT_WAIT;
		if (slot->features & KT_HAS_WAKEUP) kt_begin_provisional(slot, slot->base);
	}
	slot->state = slot->base;
	return superseded;
}

/* kvm_entry. Returns 1 when it finished an exit: its times are in exit_state_ns until kt_clear_exit(). */
KT_INLINE int kt_step_entry(struct kt_slot *slot, __u64 time_ns, int immediate)
{
	int finished = slot->in_exit && !slot->pending;

	time_ns = kt_settle(slot, time_ns);
	slot->entries++;
	if (finished) {
		kt_move(slot, time_ns, KT_GUEST);
		kt_end_provisional(slot);
		kt_close_key(slot);
		slot->finished++;
	} else if (slot->pending) {
		/* the exit that the interrupt or the switch belonged to was not seen */
		kt_move(slot, time_ns, KT_GUEST);
		kt_drop_exit(slot);
		slot->unpaired_entries++;
	} else {
		/* an entry in guest mode: the exit between was not seen, nor how long it took */
		if (slot->state == KT_GUEST) {
			slot->state = KT_UNKNOWN;
			slot->unpaired_entries++;
		}
		kt_move(slot, time_ns, KT_GUEST);
	}
	slot->base = KT_GUEST;
	slot->resumed = 0;
	slot->immediate = immediate != 0;
	return finished;
}

/*
 * kvm_userspace_exit: from here on the thread is in user space, until kvm_fpu or the next entry. A HLT that is said to
 * be user space's business (KVM_EXIT_HLT: there is no interrupt controller in the kernel) goes on as a halt there, where
 * user space sleeps in KVM's place; HLT's other ways to user space are interruptions of it.
 */
KT_INLINE void kt_step_userspace_exit(struct kt_slot *slot, __u64 time_ns, __u32 reason, int error)
{
	time_ns = kt_settle(slot, time_ns);
	slot->userspace_exits++;
	/* in guest mode the exit was not seen */
	if (slot->base == KT_GUEST) slot->state = KT_UNKNOWN;
	kt_move(slot, time_ns, slot->state);
	/* nor was it after an interrupt or a switch, and no later one may take that name */
	if (slot->pending) kt_drop_exit(slot);
	if (slot->in_exit) {
		slot->key.userspace = error == -4 /* EINTR */ ? 10 /* KVM_EXIT_INTR */ + 1 : reason < 254 ? reason + 1 : 255;
		/* an ioeventfd listens there, but to other values or sizes */
		if (slot->key.userspace == 6 /* KVM_EXIT_MMIO */ + 1) slot->key.traits &= ~KT_IN_IOEVENTFD;
		slot->user_halt = kt_in_halt(slot) && reason == 5 /* KVM_EXIT_HLT */ && error >= 0;
		if (slot->features & KT_HAS_SWITCH) kt_end_provisional(slot);
		slot->provisional = 0;
	}
	slot->resumed = 0;
	slot->base = slot->user_halt && !(slot->features & KT_HAS_SWITCH) ? KT_HALT_WAIT : KT_QEMU;
	slot->state = slot->base;
}

/* kvm_fpu(load = 1): user space has called KVM_RUN. It need not come, and nothing may wait for it. */
KT_INLINE void kt_step_fpu_load(struct kt_slot *slot, __u64 time_ns)
{
	time_ns = kt_settle(slot, time_ns);
	if (slot->base != KT_QEMU && !slot->user_halt) return;
	kt_move(slot, time_ns, KT_KERNEL);
	slot->base = KT_KERNEL;
	slot->resumed = 1;
	slot->user_halt = 0;
}

/*
 * kvm_vcpu_wakeup(ns, waited): the halt lasted ns up to now, polled (waited 0) or slept (1); what lies before it, back
 * to the exit, was handling (what interrupted the thread meanwhile is taken to lie in the halt). In user space, or on the
 * way from it, it is a vCPU that waited for its start-up IPI inside KVM_RUN.
 */
KT_INLINE void kt_step_wakeup(struct kt_slot *slot, __u64 time_ns, __u64 ns, __u32 waited)
{
	__u64 begin, handled, rest;
	__u8 base;

	time_ns = kt_settle(slot, time_ns);
	begin = ns < time_ns ? time_ns - ns : 0;
	slot->wakeups++;
	base = slot->base;
	if (slot->provisional) {
		kt_move(slot, time_ns, KT_KERNEL);
		rest = slot->provisional_ns;
		handled = begin > slot->mark_ns ? begin - slot->mark_ns : 0;
		if (handled > rest) handled = rest;
		if (slot->provisional == KT_HALT_POLL + 1) KT_SHIFT(slot, KT_HALT_POLL, KT_KERNEL, rest);
		if (slot->provisional == KT_HALT_WAIT + 1) KT_SHIFT(slot, KT_HALT_WAIT, KT_KERNEL, rest);
		rest -= handled;
		if (waited && !slot->slept) KT_SHIFT(slot, KT_KERNEL, KT_HALT_WAIT, rest);
		else KT_SHIFT(slot, KT_KERNEL, KT_HALT_POLL, rest);
		slot->base = KT_KERNEL;
		/* a wake-up that was none: KVM goes on to poll and to sleep, and says so again */
		kt_begin_provisional(slot, KT_KERNEL);
	} else if (base == KT_QEMU || slot->resumed) {
		if (slot->features & KT_HAS_SWITCH) {
			if (!slot->in_exit) return;
			rest = base == KT_QEMU ? slot->exit_state_ns[KT_QEMU_BLOCKED] : slot->exit_state_ns[KT_KERNEL_BLOCKED];
			if (rest > ns) rest = ns;
			if (base == KT_QEMU) KT_SHIFT(slot, KT_QEMU_BLOCKED, KT_HALT_WAIT, rest);
			else KT_SHIFT(slot, KT_KERNEL_BLOCKED, KT_HALT_WAIT, rest);
			return;
		}
		if (begin > slot->since_ns) kt_move(slot, begin, base);
		slot->state = waited ? KT_HALT_WAIT : KT_HALT_POLL;
		kt_move(slot, time_ns, base);
	}
}

/* sched_switch away from the thread. */
KT_INLINE void kt_step_out(struct kt_slot *slot, __u64 time_ns, __u32 previous_state)
{
	__u8 state;

	time_ns = kt_settle(slot, time_ns);
	if (slot->base == KT_GUEST) kt_open_pending(slot, time_ns);
	/* TASK_STOPPED, TASK_TRACED; then what neither sleeps nor ends, with or without the bit for preemption */
	if (previous_state & 0x0c) state = KT_STOPPED;
	else if (!(previous_state & 0xff)) state = KT_PREEMPTED;
	else if (slot->base == KT_UNKNOWN) state = KT_UNKNOWN;
	else if (slot->base == KT_QEMU) state = slot->user_halt ? KT_HALT_WAIT : KT_QEMU_BLOCKED;
	else if (kt_in_kernel_halt(slot)) state = KT_HALT_WAIT;
	else state = KT_KERNEL_BLOCKED;
	kt_move(slot, time_ns, state);
	if (state == KT_HALT_WAIT) slot->slept = 1;
	slot->off = 1;
}

/*
 * sched_switch to the thread. If it was on CPU, the switch away was not seen, nor how much of the open interval lies
 * before it; of a sleep in HLT, kvm_vcpu_wakeup will tell.
 */
KT_INLINE void kt_step_in(struct kt_slot *slot, __u64 time_ns)
{
	time_ns = kt_arrive(slot, time_ns);
	if (slot->off) {
		kt_come_on(slot, time_ns);
		return;
	}
	slot->missed_switches++;
	if (slot->irq_depth || !kt_in_kernel_halt(slot)) slot->state = KT_UNKNOWN;
	slot->irq_depth = 0;
	if (slot->base == KT_GUEST) kt_open_pending(slot, time_ns);
	kt_move(slot, time_ns, slot->base);
	slot->on_ns = slot->since_ns;
}

/* A handler of the host's begins or ends: the thread is on CPU and not in guest mode. */
KT_INLINE __u64 kt_step_irq(struct kt_slot *slot, __u64 time_ns)
{
	time_ns = kt_arrive(slot, time_ns);
	if (slot->off) {
		slot->missed_switches++;
		kt_come_on(slot, time_ns);
	}
	if (slot->base == KT_GUEST) kt_open_pending(slot, time_ns);
	return time_ns;
}

/* A handler of the host's begins on the thread's time; number: its vector, IRQ or softirq. */
KT_INLINE void kt_step_irq_entry(struct kt_slot *slot, __u64 time_ns, __u32 which, __u64 number)
{
	time_ns = kt_step_irq(slot, time_ns);
	if (slot->irq_depth == 0) kt_move(slot, time_ns, KT_HOST_INTERRUPT);
	if (slot->irq_depth < 255) slot->irq_depth++;
	if (slot->in_exit) kt_note_host_irq(slot, which, number);
}

KT_INLINE void kt_step_irq_exit(struct kt_slot *slot, __u64 time_ns)
{
	time_ns = kt_step_irq(slot, time_ns);
	if (slot->irq_depth == 0) return;
	slot->irq_depth--;
	if (slot->irq_depth == 0) kt_move(slot, time_ns, slot->base);
}

/* An event inside an exit that says more of what it is about; true when it counts. */
KT_INLINE int kt_refines(struct kt_slot *slot, __u64 time_ns)
{
	kt_settle(slot, time_ns);
	return slot->in_exit && !slot->pending;
}

/* The thread's end. */
KT_INLINE void kt_step_end(struct kt_slot *slot, __u64 time_ns)
{
	time_ns = kt_settle(slot, time_ns);
	kt_move(slot, time_ns, slot->state);
	slot->ended = 1;
}

/* Events were not taken from gap_ns on (programs quiet, records lost): unknown up to now, and an open exit is cut. */
KT_INLINE int kt_gap(struct kt_slot *slot, __u64 gap_ns, __u64 time_ns, __u8 *cut_isa, __u32 *cut_reason)
{
	int open = slot->in_exit, cut = open && !slot->pending;

	*cut_isa = slot->isa;
	*cut_reason = slot->reason;
	kt_move(slot, gap_ns > slot->since_ns ? gap_ns : slot->since_ns, slot->state);
	if (open) kt_drop_exit(slot);
	slot->state = KT_UNKNOWN;
	slot->base = KT_UNKNOWN;
	slot->off = 0;
	slot->irq_depth = 0;
	slot->resumed = 0;
	slot->delay_ns = 0;
	slot->delay_cut = 1;
	kt_move(slot, time_ns, KT_UNKNOWN);
	slot->on_ns = slot->since_ns;
	return cut;
}

/*
 * One event of any kind through the machine, for a replay: returns 1 when it finished an exit (account it, then
 * kt_clear_exit()), 2 when it superseded one (*isa, *reason name the unpaired exit), else 0.
 */
KT_INLINE int kt_step(struct kt_slot *slot, const struct kt_event *event, __u8 *isa, __u32 *reason)
{
	__u64 time_ns = event->time_ns;

	if (event->kind == KT_WAKING) {
		slot->wake_ns = time_ns;
		return 0;
	}
	if (event->vcpu != KT_NO_VCPU) slot->vcpu = event->vcpu;
	kt_note_delay(slot, event->run_delay_ns);
	switch (event->kind) {
	case KT_EXIT:
		return kt_step_exit(slot, time_ns, event->isa, event->reason, event->arg, event->arg2, event->extra, isa, reason)
			? 2 : 0;
	case KT_ENTRY:
		return kt_step_entry(slot, time_ns, event->reason);
	case KT_USERSPACE_EXIT:
		kt_step_userspace_exit(slot, time_ns, event->reason, (int)event->extra);
		return 0;
	case KT_VCPU_WAKEUP:
		kt_step_wakeup(slot, time_ns, event->arg, event->reason);
		return 0;
	case KT_FPU_LOAD:
		kt_step_fpu_load(slot, time_ns);
		return 0;
	case KT_SCHED_OUT:
		kt_step_out(slot, time_ns, event->reason);
		return 0;
	case KT_SCHED_IN:
		kt_step_in(slot, time_ns);
		return 0;
	case KT_IRQ_ENTRY:
		kt_step_irq_entry(slot, time_ns, event->reason, event->arg);
		return 0;
	case KT_IRQ_EXIT:
		kt_step_irq_exit(slot, time_ns);
		return 0;
	case KT_TIMER_VECTOR:
		slot->timer_vector = event->reason;
		slot->timer_source = event->extra;
		return 0;
	case KT_THREAD_END:
		kt_step_end(slot, time_ns);
		return 0;
	default:
		if (event->kind < KT_KINDS && kt_refines(slot, time_ns))
			kt_refine_key(&slot->key, event->kind, event->arg, event->reason, event->extra, slot->timer_vector);
		return 0;
	}
}
#endif
