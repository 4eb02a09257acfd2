/* What a finished exit adds to the rows of its reason and key, and its record. Shared by BPF and user space. */
#ifndef KVMTAX_ACCOUNTS_H
#define KVMTAX_ACCOUNTS_H
#include "record.h"

/* Adds the exit that kt_step_entry() just finished to its row. */
#define KT_ADD_STATE(row, slot, state) ((row)->state_ns[state] += (slot)->exit_state_ns[state])
#define KT_ADD_STATES(row, slot) do { \
	KT_ADD_STATE(row, slot, KT_UNKNOWN); \
	KT_ADD_STATE(row, slot, KT_KERNEL); \
	KT_ADD_STATE(row, slot, KT_HOST_INTERRUPT); \
	KT_ADD_STATE(row, slot, KT_QEMU); \
	KT_ADD_STATE(row, slot, KT_QEMU_BLOCKED); \
	KT_ADD_STATE(row, slot, KT_KERNEL_BLOCKED); \
	KT_ADD_STATE(row, slot, KT_HALT_POLL); \
	KT_ADD_STATE(row, slot, KT_HALT_WAIT); \
	KT_ADD_STATE(row, slot, KT_WAKE_LATENCY); \
	KT_ADD_STATE(row, slot, KT_PREEMPTED); \
	KT_ADD_STATE(row, slot, KT_STOPPED); } while (0)
KT_INLINE void kt_account(struct kt_row *row, const struct kt_slot *slot)
{
	__u64 total = slot->since_ns - slot->exit_ns;
	__u32 bucket = kt_bucket(total);

	if (row->finished == 0 || total < row->min_ns) row->min_ns = total;
	if (total > row->max_ns) row->max_ns = total;
	row->finished++;
	row->total_ns += total;
	KT_ADD_STATES(row, slot);
	if (bucket < KT_BUCKETS) row->buckets[bucket]++;
}

/* The same for the row of its key. */
KT_INLINE void kt_account_key(struct kt_key_row *row, const struct kt_slot *slot)
{
	__u64 total = slot->since_ns - slot->exit_ns;

	if (total > row->max_ns) row->max_ns = total;
	row->finished++;
	row->total_ns += total;
	KT_ADD_STATES(row, slot);
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
	record->host_interrupt_ns = slot->exit_state_ns[KT_HOST_INTERRUPT];
	record->qemu_blocked_ns = slot->exit_state_ns[KT_QEMU_BLOCKED];
	record->kernel_blocked_ns = slot->exit_state_ns[KT_KERNEL_BLOCKED];
	record->wake_latency_ns = slot->exit_state_ns[KT_WAKE_LATENCY];
	record->preempted_ns = slot->exit_state_ns[KT_PREEMPTED];
	record->stopped_ns = slot->exit_state_ns[KT_STOPPED];
	record->subject = slot->key.subject;
	record->thread = slot->thread;
	record->reason = slot->reason;
	record->traits = slot->key.traits;
	record->cpu = cpu;
	record->isa = slot->isa;
	record->key_kind = slot->key.kind;
	record->size = slot->key.size;
	record->userspace = slot->key.userspace;
	__builtin_memset(record->reserved, 0, sizeof record->reserved);
}
#endif
