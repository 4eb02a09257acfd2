/* Umbrella of the C target CKvmtax: what BPF programs and Swift share. */
#ifndef KVMTAX_H
#define KVMTAX_H
#include "buckets.h"
#include "control.h"
#include "fields.h"
#include "machine.h"
#include "record.h"

#ifndef __bpf__
#include <string.h>

/*
 * Copies a slot that its own thread may be changing: 0 when every attempt met a step under way (the thread may have been
 * interrupted inside one; try again later).
 */
static inline int kt_copy_slot(const struct kt_slot *slot, struct kt_slot *copy)
{
	for (int attempt = 0; attempt < 64; attempt++) {
		__u32 before = __atomic_load_n(&slot->sequence, __ATOMIC_ACQUIRE);

		if (before & 1) continue;
		memcpy(copy, slot, sizeof *copy);
		__atomic_thread_fence(__ATOMIC_ACQUIRE);
		if (__atomic_load_n(&slot->sequence, __ATOMIC_RELAXED) == before) return 1;
	}
	return 0;
}

/* The sequence alone, to see whether anything changed since a copy. */
static inline __u32 kt_slot_sequence(const struct kt_slot *slot)
{
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	return __atomic_load_n(&slot->sequence, __ATOMIC_RELAXED);
}

/* Ordered stores: programs that see the new heartbeat must also see the gap that it ends. */
static inline void kt_store_heartbeat(struct kt_control *control, __u64 now_ns)
{
	__atomic_store_n(&control->heartbeat_ns, now_ns, __ATOMIC_RELEASE);
}

static inline void kt_store_gap(struct kt_control *control, __u64 gap_ns)
{
	__atomic_store_n(&control->gap_ns, gap_ns, __ATOMIC_RELEASE);
	__atomic_store_n(&control->epoch, control->epoch + 1, __ATOMIC_RELEASE);
}

/* Array members as pointers: Swift imports C arrays as tuples, which cannot be indexed. */
static inline const __u64 *kt_slot_state_ns(const struct kt_slot *slot) { return slot->state_ns; }
static inline const __u64 *kt_slot_exit_state_ns(const struct kt_slot *slot) { return slot->exit_state_ns; }
static inline const __u64 *kt_row_state_ns(const struct kt_row *row) { return row->state_ns; }
static inline const __u32 *kt_row_buckets(const struct kt_row *row) { return row->buckets; }
#endif
#endif
