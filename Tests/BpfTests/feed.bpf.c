// SPDX-License-Identifier: GPL-2.0-only OR MIT
/* The state machine in the kernel, fed from memory: what the adapters do, without their tracepoints. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "kvmtax.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

#define EVENTS 16384
#define SLOTS 512

struct row_key {
	__u32 slot;
	__u32 reason;
	__u32 isa;
};

struct key_row_key {
	struct kt_key key;
	__u64 slot;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, EVENTS);
	__type(key, __u32);
	__type(value, struct kt_event);
} events SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, SLOTS);
	__type(key, __u32);
	__type(value, struct kt_slot);
} slots SEC(".maps");

/* tid -> slot number */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, SLOTS);
	__type(key, __u32);
	__type(value, __u32);
} threads SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, SLOTS * 64);
	__type(key, struct row_key);
	__type(value, struct kt_row);
} rows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__type(key, struct key_row_key);
	__type(value, struct kt_key_row);
} key_rows SEC(".maps");

/* a row is larger than the stack: a new one is copied from here */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct kt_row);
} empty SEC(".maps");

const volatile __u8 features;
__u32 slot_count;
__u32 steps;
__u32 failures;

/* As everywhere: a thread is known from its first exit or entry on. */
static struct kt_slot *slot_of(const struct kt_event *event, __u32 *number)
{
	__u32 tid = event->tid;
	__u32 *known = bpf_map_lookup_elem(&threads, &tid);
	struct kt_slot *slot;

	if (known) {
		*number = *known;
		slot = bpf_map_lookup_elem(&slots, number);
		if (!slot) return 0;
		if (!slot->ended && (slot->tgid == event->tgid || slot->tgid == 0 || event->tgid == 0)) return slot;
	}
	if (event->kind != KT_EXIT && event->kind != KT_ENTRY) return 0;
	*number = slot_count;
	slot = bpf_map_lookup_elem(&slots, number);
	if (!slot) return 0;
	slot_count++;
	slot->thread = slot_count;
	kt_start(slot, event->time_ns, event->tid, event->tgid, features);
	bpf_map_update_elem(&threads, &tid, number, BPF_ANY);
	return slot;
}

static struct kt_row *row_of(__u32 slot, __u32 thread, __u8 isa, __u32 reason)
{
	struct row_key key = { .slot = slot, .reason = reason, .isa = isa };
	struct kt_row *row = bpf_map_lookup_elem(&rows, &key);
	__u32 zero = 0;

	if (row) return row;
	row = bpf_map_lookup_elem(&empty, &zero);
	if (!row) return 0;
	bpf_map_update_elem(&rows, &key, row, BPF_NOEXIST);
	row = bpf_map_lookup_elem(&rows, &key);
	if (!row) return 0;
	row->thread = thread;
	row->slot = slot;
	row->reason = reason;
	row->isa = isa;
	return row;
}

static struct kt_key_row *key_row_of(__u32 number, const struct kt_slot *slot)
{
	struct key_row_key name = { .key = slot->key, .slot = number };
	struct kt_key_row *row = bpf_map_lookup_elem(&key_rows, &name), fresh = {};

	if (row) return row;
	fresh.key = slot->key;
	fresh.thread = slot->thread;
	fresh.slot = number;
	bpf_map_update_elem(&key_rows, &name, &fresh, BPF_NOEXIST);
	return bpf_map_lookup_elem(&key_rows, &name);
}

static int account(__u32 number, struct kt_slot *slot)
{
	struct kt_row *row = row_of(number, slot->thread, slot->isa, slot->reason);
	struct kt_key_row *key;

	if (!row) return 0;
	kt_account(row, slot);
	key = key_row_of(number, slot);
	if (!key) return 0;
	kt_account_key(key, slot);
	kt_clear_exit(slot);
	return 1;
}

static long step(void *map, __u32 *index, struct kt_event *event, void *context)
{
	struct kt_slot *slot;
	struct kt_row *row;
	__u32 number = 0, reason = 0;
	__u8 isa = 0;
	int outcome;

	if (*index >= steps) return 1;
	slot = slot_of(event, &number);
	if (!slot) return 0;
	if (event->kind == KT_WAKING) {
		slot->wake_ns = event->time_ns;
		return 0;
	}
	if (!kt_begin(slot)) goto failed;
	outcome = kt_step(slot, event, &isa, &reason);
	if (outcome == 1) {
		if (!account(number, slot)) goto failed;
	} else if (outcome == 2) {
		row = row_of(number, slot->thread, isa, reason);
		if (!row) goto failed;
		row->unpaired++;
	}
	kt_finish(slot);
	return 0;
failed:
	failures++;
	return 1;
}

/* Takes the first `steps` events; bpf_for_each_map_elem() because the machine is too long to be unrolled that often. */
SEC("syscall") int feed(void *context)
{
	return bpf_for_each_map_elem(&events, step, 0, 0);
}
