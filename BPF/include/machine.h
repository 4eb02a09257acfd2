/*
 * The state machine of a vCPU thread: one set of inline functions, compiled into the BPF programs and imported by
 * Swift. No helpers, no libc, no loops. It is tested against an oracle that was not written from this file.
 *
 * The caller takes the slot with kt_begin() and gives it back with kt_finish(); the time is read after kt_begin(), so
 * that an event that interrupts another cannot make an interval negative.
 */
#ifndef KVMTAX_MACHINE_H
#define KVMTAX_MACHINE_H
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

KT_INLINE void kt_finish(struct kt_slot *slot)
{
	KT_BARRIER();
	slot->sequence++;
}

/* HLT and what hardware does in its place: the vCPU asks to sleep. VMX 12; SVM 0x78 and 0xa6 (idle HLT). */
KT_INLINE int kt_is_halt(__u8 isa, __u32 reason)
{
	return (isa == KT_ISA_VMX && reason == 12) || (isa == KT_ISA_SVM && (reason == 0x78 || reason == 0xa6));
}

/* Closes the open interval at time_ns and opens one in `state`. A time before the last one counts as zero length. */
KT_INLINE void kt_move(struct kt_slot *slot, __u64 time_ns, __u8 state)
{
	__u64 length;

	if (time_ns < slot->since_ns) {
		slot->backwards++;
		time_ns = slot->since_ns;
	}
	length = time_ns - slot->since_ns;
	slot->state_ns[slot->state & (KT_STATE_SLOTS - 1)] += length;
	if (slot->in_exit) slot->exit_state_ns[slot->state & (KT_STATE_SLOTS - 1)] += length;
	slot->since_ns = time_ns;
	slot->state = state;
}

KT_INLINE void kt_clear_exit(struct kt_slot *slot)
{
	slot->in_exit = 0;
	__builtin_memset(slot->exit_state_ns, 0, sizeof slot->exit_state_ns);
}

/* What was booked for the open exit goes to unknown: it had no entry, so guest time may hide in it. */
#define KT_TAKE_BACK(state) do { \
	slot->state_ns[state] -= slot->exit_state_ns[state]; \
	slot->state_ns[KT_UNKNOWN] += slot->exit_state_ns[state]; } while (0)
KT_INLINE void kt_drop_exit(struct kt_slot *slot)
{
	KT_TAKE_BACK(KT_KERNEL);
	KT_TAKE_BACK(KT_HOST_INTERRUPT);
	KT_TAKE_BACK(KT_QEMU);
	KT_TAKE_BACK(KT_QEMU_BLOCKED);
	KT_TAKE_BACK(KT_KERNEL_BLOCKED);
	KT_TAKE_BACK(KT_HALT_POLL);
	KT_TAKE_BACK(KT_HALT_WAIT);
	KT_TAKE_BACK(KT_WAKE_LATENCY);
	KT_TAKE_BACK(KT_PREEMPTED);
	KT_TAKE_BACK(KT_STOPPED);
	slot->unpaired_exits++;
	kt_clear_exit(slot);
}

/* A fresh slot: unknown since now. `sequence`, `thread` and `first_row` are the caller's. */
KT_INLINE void kt_start(struct kt_slot *slot, __u64 time_ns, __u32 tid, __u32 tgid)
{
	slot->tid = tid;
	slot->tgid = tgid;
	slot->vcpu = KT_NO_VCPU;
	slot->state = KT_UNKNOWN;
	slot->first_ns = time_ns;
	slot->since_ns = time_ns;
}

/*
 * kvm_exit. Returns 1 when an exit was already open: two exits with no entry between, of which the first is unpaired;
 * *superseded_isa and *superseded_reason name it and its time becomes unknown.
 */
KT_INLINE int kt_step_exit(struct kt_slot *slot, __u64 time_ns, __u8 isa, __u32 reason,
			   __u8 *superseded_isa, __u32 *superseded_reason)
{
	int superseded = slot->in_exit;

	slot->steps++;
	slot->exits++;
	*superseded_isa = slot->isa;
	*superseded_reason = slot->reason;
	/* neither in guest mode nor in an exit: the entry was not seen, nor when the guest began to run */
	if (!superseded && slot->state != KT_GUEST) slot->state = KT_UNKNOWN;
	kt_move(slot, time_ns, slot->state);
	if (superseded) kt_drop_exit(slot);
	slot->state = kt_is_halt(isa, reason) ? KT_HALT_WAIT : KT_KERNEL;
	slot->in_exit = 1;
	slot->exit_ns = slot->since_ns;
	slot->isa = isa;
	slot->reason = reason;
	return superseded;
}

/* kvm_entry. Returns 1 when it finished an exit: its times are in exit_state_ns until kt_clear_exit(). */
KT_INLINE int kt_step_entry(struct kt_slot *slot, __u64 time_ns)
{
	int finished = slot->in_exit;

	slot->steps++;
	slot->entries++;
	if (finished) {
		kt_move(slot, time_ns, KT_GUEST);
		slot->finished++;
	} else {
		/* an entry in guest mode: the exit between was not seen, nor how long it took */
		if (slot->state == KT_GUEST) {
			slot->state = KT_UNKNOWN;
			slot->unpaired_entries++;
		}
		kt_move(slot, time_ns, KT_GUEST);
	}
	return finished;
}

/*
 * kvm_userspace_exit: from here to the next entry the thread is in user space. A halt that KVM itself slept through has
 * had its wake-up by now; one that has not is handed to user space (no interrupt controller in the kernel), which sleeps
 * in KVM's place: it goes on as a halt.
 */
KT_INLINE void kt_step_userspace_exit(struct kt_slot *slot, __u64 time_ns)
{
	slot->steps++;
	slot->userspace_exits++;
	/* in guest mode the exit was not seen */
	if (slot->state == KT_GUEST) slot->state = KT_UNKNOWN;
	kt_move(slot, time_ns, slot->state == KT_HALT_WAIT ? KT_HALT_WAIT : KT_QEMU);
}

/*
 * kvm_vcpu_wakeup(ns, waited): the halt lasted ns up to now, polled (waited 0) or slept (1); what lies before it, back
 * to the exit, was handling. In user space it is a vCPU that waited for its start-up IPI inside KVM_RUN.
 */
KT_INLINE void kt_step_wakeup(struct kt_slot *slot, __u64 time_ns, __u64 ns, __u32 waited)
{
	__u64 open, before;
	__u8 rest = slot->state;

	slot->steps++;
	slot->wakeups++;
	if (slot->state != KT_HALT_WAIT && slot->state != KT_QEMU) return;
	open = time_ns > slot->since_ns ? time_ns - slot->since_ns : 0;
	before = ns < open ? open - ns : 0;
	slot->state = rest == KT_HALT_WAIT ? KT_KERNEL : rest;
	kt_move(slot, slot->since_ns + before, waited ? KT_HALT_WAIT : KT_HALT_POLL);
	kt_move(slot, time_ns, rest == KT_HALT_WAIT ? KT_KERNEL : rest);
}

/* Events were not taken from gap_ns on (programs quiet, records lost): unknown up to now, and an open exit is cut. */
KT_INLINE int kt_gap(struct kt_slot *slot, __u64 gap_ns, __u64 time_ns, __u8 *cut_isa, __u32 *cut_reason)
{
	int cut = slot->in_exit;

	*cut_isa = slot->isa;
	*cut_reason = slot->reason;
	kt_move(slot, gap_ns > slot->since_ns ? gap_ns : slot->since_ns, slot->state);
	if (cut) kt_drop_exit(slot);
	slot->state = KT_UNKNOWN;
	kt_move(slot, time_ns, KT_UNKNOWN);
	return cut;
}

/* Adds the exit that kt_step_entry() just finished to its row. */
KT_INLINE void kt_account(struct kt_row *row, const struct kt_slot *slot)
{
	__u64 total = slot->since_ns - slot->exit_ns;
	__u32 bucket = kt_bucket(total);

	if (row->finished == 0 || total < row->min_ns) row->min_ns = total;
	if (total > row->max_ns) row->max_ns = total;
	row->finished++;
	row->total_ns += total;
	row->state_ns[KT_UNKNOWN] += slot->exit_state_ns[KT_UNKNOWN];
	row->state_ns[KT_KERNEL] += slot->exit_state_ns[KT_KERNEL];
	row->state_ns[KT_HOST_INTERRUPT] += slot->exit_state_ns[KT_HOST_INTERRUPT];
	row->state_ns[KT_QEMU] += slot->exit_state_ns[KT_QEMU];
	row->state_ns[KT_QEMU_BLOCKED] += slot->exit_state_ns[KT_QEMU_BLOCKED];
	row->state_ns[KT_KERNEL_BLOCKED] += slot->exit_state_ns[KT_KERNEL_BLOCKED];
	row->state_ns[KT_HALT_POLL] += slot->exit_state_ns[KT_HALT_POLL];
	row->state_ns[KT_HALT_WAIT] += slot->exit_state_ns[KT_HALT_WAIT];
	row->state_ns[KT_WAKE_LATENCY] += slot->exit_state_ns[KT_WAKE_LATENCY];
	row->state_ns[KT_PREEMPTED] += slot->exit_state_ns[KT_PREEMPTED];
	row->state_ns[KT_STOPPED] += slot->exit_state_ns[KT_STOPPED];
	if (bucket < KT_BUCKETS) row->buckets[bucket]++;
}

/* The event record of the exit that kt_step_entry() just finished. */
KT_INLINE void kt_describe(struct kt_exit_record *record, const struct kt_slot *slot, __u16 cpu)
{
	record->start_ns = slot->exit_ns;
	record->total_ns = slot->since_ns - slot->exit_ns;
	record->kernel_ns = slot->exit_state_ns[KT_KERNEL];
	record->qemu_ns = slot->exit_state_ns[KT_QEMU];
	record->halt_poll_ns = slot->exit_state_ns[KT_HALT_POLL];
	record->halt_wait_ns = slot->exit_state_ns[KT_HALT_WAIT];
	record->thread = slot->thread;
	record->reason = slot->reason;
	record->cpu = cpu;
	record->isa = slot->isa;
	__builtin_memset(record->reserved, 0, sizeof record->reserved);
}

/*
 * One event of any kind through the machine, for a replay: returns 1 when it finished an exit (account it, then
 * kt_clear_exit()), 2 when it superseded one (*isa, *reason name the unpaired exit), else 0.
 */
KT_INLINE int kt_step(struct kt_slot *slot, const struct kt_event *event, __u8 *isa, __u32 *reason)
{
	if (event->vcpu != KT_NO_VCPU) slot->vcpu = event->vcpu;
	switch (event->kind) {
	case KT_EXIT:
		return kt_step_exit(slot, event->time_ns, event->isa, event->reason, isa, reason) ? 2 : 0;
	case KT_ENTRY:
		return kt_step_entry(slot, event->time_ns);
	case KT_USERSPACE_EXIT:
		kt_step_userspace_exit(slot, event->time_ns);
		return 0;
	case KT_VCPU_WAKEUP:
		kt_step_wakeup(slot, event->time_ns, event->arg, event->reason);
		return 0;
	}
	return 0;
}
#endif
