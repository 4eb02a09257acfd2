/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * The maps that programs and user space share, and how a program comes to its thread's slot and an exit to its row.
 * Included once, by the object's one source.
 */
#ifndef KVMTAX_SLOTS_H
#define KVMTAX_SLOTS_H

struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(map_flags, BPF_F_MMAPABLE); __uint(max_entries, 1);
	__type(key, __u32); __type(value, struct kt_control); } control SEC(".maps");
/* tid -> slot number plus one, two tids an element: array elements are rounded up to 8 bytes */
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(map_flags, BPF_F_MMAPABLE); __uint(max_entries, 1);
	__type(key, __u32); __type(value, __u32[2]); } threads SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(map_flags, BPF_F_MMAPABLE); __uint(max_entries, 1);
	__type(key, __u32); __type(value, struct kt_slot); } slots SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(map_flags, BPF_F_MMAPABLE); __uint(max_entries, 1);
	__type(key, __u32); __type(value, struct kt_row); } rows SEC(".maps");
/* per slot: the row of each reason, by the reason's low byte; a guess that is checked against the row */
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(map_flags, BPF_F_MMAPABLE); __uint(max_entries, 1);
	__type(key, __u32); __type(value, __u32[256]); } row_of_reason SEC(".maps");
struct row_key { __u32 slot, isa, reason; };
/*
 * Rows whose place in row_of_reason was taken by another reason. Preallocated: kernels before 6.1 allocate elements with
 * kmalloc, which is not safe in a tracing program, and warn of it (a panic, where panic_on_warn is set).
 */
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 16384);
	__type(key, struct row_key); __type(value, __u32); } more_rows SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(map_flags, BPF_F_MMAPABLE); __uint(max_entries, 1);
	__type(key, __u32); __type(value, struct kt_key_row); } keys SEC(".maps");
/* per slot: the row of each key, by a hash of it; a guess, like row_of_reason, with the rest in a hash */
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(map_flags, BPF_F_MMAPABLE); __uint(max_entries, 1);
	__type(key, __u32); __type(value, __u32[256]); } row_of_key SEC(".maps");
struct slot_key { __u32 slot, reserved; struct kt_key key; };
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 16384);
	__type(key, struct slot_key); __type(value, __u32); } more_keys SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(map_flags, BPF_F_MMAPABLE); __uint(max_entries, 1);
	__type(key, __u32); __type(value, struct kt_looks); } looks SEC(".maps");
/* Free numbers, filled by user space: queues, since fetch-and-add needs 5.12. */
struct { __uint(type, BPF_MAP_TYPE_QUEUE); __uint(max_entries, 1); __type(value, __u64); } free_slots SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_QUEUE); __uint(max_entries, 1); __type(value, __u32); } free_rows SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_QUEUE); __uint(max_entries, 1); __type(value, __u32); } free_keys SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 1024);
	__type(key, __u32); __type(value, __u32); } processes SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY); __uint(max_entries, KT_LOSSES);
	__type(key, __u32); __type(value, __u64); } losses SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 1 << 18); } notices SEC(".maps");
struct ring { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); };
struct { __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS); __uint(max_entries, KT_MAX_RINGS); __type(key, __u32);
	__array(values, struct ring); } rings SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, KT_MAX_CPUS);
	__type(key, __u32); __type(value, __u32); } ring_of_cpu SEC(".maps");

static __always_inline void count_loss(__u32 which)
{
	__u64 *count = bpf_map_lookup_elem(&losses, &which);

	if (count) (*count)++;
}

static __always_inline struct kt_control *controls(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&control, &zero);
}

static __always_inline void notify(const struct kt_slot *slot, __u32 number, __u32 ended)
{
	struct kt_notice notice = { slot->thread, number, slot->tid, slot->tgid, ended, 0 };

	/* a lost notice costs nothing: user space looks at every slot once a second anyway */
	bpf_ringbuf_output(&notices, &notice, sizeof notice, 0);
}

/* Whether user space has been heard of lately; before the recording and after it there is no heartbeat. */
static __always_inline int is_heard(__u64 heartbeat_ns, __u64 now_ns)
{
	return heartbeat_ns && (now_ns <= heartbeat_ns || now_ns - heartbeat_ns <= KT_HEARTBEAT_LIMIT_NS);
}

/*
 * A slot for a thread that has none: its number plus one, KT_IGNORED, or 0 when none is free. None is taken while the
 * programs are quiet: nobody would give it back.
 */
static __noinline __u32 take_slot(__u64 pid_tgid)
{
	__u32 tid = (__u32)pid_tgid, tgid = pid_tgid >> 32, number;
	struct kt_control *settings = controls();
	__u64 now_ns = bpf_ktime_get_ns();
	struct kt_slot *slot;
	__u64 pair;

	if (!settings || tgid == settings->own_tgid) return KT_IGNORED;
	if (settings->filtered && !bpf_map_lookup_elem(&processes, &tgid)) return KT_IGNORED;
	if (!is_heard(settings->heartbeat_ns, now_ns)) return 0;
	if (bpf_map_pop_elem(&free_slots, &pair)) {
		count_loss(KT_LOST_THREADS);
		return 0;
	}
	number = (__u32)pair;
	slot = bpf_map_lookup_elem(&slots, &number);
	if (!slot) return 0;
	kt_start(slot, 0, tid, tgid, settings->features);	/* begins with its first event */
	slot->epoch = settings->epoch;
	bpf_get_current_comm(slot->comm, sizeof slot->comm);
	KT_BARRIER();
	slot->thread = pair >> 32;
	notify(slot, number, 0);
	return number + 1;
}

/* The slot of the running thread, taken if it has none and `create` is set; *number is its place in `slots`. */
static __always_inline struct kt_slot *current_slot(int create, __u32 *number)
{
	__u64 pid_tgid = bpf_get_current_pid_tgid();
	__u32 tid = (__u32)pid_tgid, key = tid >> 1, found;
	__u32 *pair = bpf_map_lookup_elem(&threads, &key);
	struct kt_slot *slot;

	if (!pair) {
		if (create) count_loss(KT_LOST_TIDS);
		return 0;
	}
	found = pair[tid & 1];
	if (found == KT_IGNORED) return 0;
	if (found) {
		*number = found - 1;
		slot = bpf_map_lookup_elem(&slots, number);
		if (slot && slot->tgid == pid_tgid >> 32 && !slot->ended) return slot;
		/* the tid has a new owner, whose predecessor's end was not seen */
		if (slot && create) slot->ended = 1;
	}
	if (!create) return 0;
	found = take_slot(pid_tgid);
	if (found) pair[tid & 1] = found;
	if (!found || found == KT_IGNORED) return 0;
	*number = found - 1;
	return bpf_map_lookup_elem(&slots, number);
}

static __noinline struct kt_row *take_row(struct kt_slot *slot, __u32 number, __u8 isa, __u32 reason)
{
	struct row_key key = { number, isa, reason };
	__u32 *known, *table, place;
	struct kt_row *row;

	known = bpf_map_lookup_elem(&more_rows, &key);
	if (known) return bpf_map_lookup_elem(&rows, known);
	table = bpf_map_lookup_elem(&row_of_reason, &number);
	if (!table || bpf_map_pop_elem(&free_rows, &place)) return 0;
	if (table[reason & 255]) {
		if (bpf_map_update_elem(&more_rows, &key, &place, BPF_NOEXIST)) {
			bpf_map_push_elem(&free_rows, &place, 0);
			return 0;
		}
	} else {
		table[reason & 255] = place;
	}
	row = bpf_map_lookup_elem(&rows, &place);
	if (!row) return 0;
	row->slot = number;
	row->reason = reason;
	row->isa = isa;
	row->next = slot->first_row;
	row->thread = slot->thread;
	slot->first_row = place;
	return row;
}

/* The row of the slot's exit; 0 when the pool is empty. */
static __always_inline struct kt_row *row_of(struct kt_slot *slot, __u32 number, __u8 isa, __u32 reason)
{
	__u32 *table = bpf_map_lookup_elem(&row_of_reason, &number);
	struct kt_row *row;
	__u32 place;

	if (!table) return 0;
	place = table[reason & 255];
	if (place) {
		row = bpf_map_lookup_elem(&rows, &place);
		if (row && row->reason == reason && row->isa == isa) return row;
	}
	return take_row(slot, number, isa, reason);
}

static __always_inline void count_unpaired(struct kt_slot *slot, __u32 number, __u8 isa, __u32 reason)
{
	struct kt_row *row = row_of(slot, number, isa, reason);

	if (row) row->unpaired++;
	else slot->overflow_exits++;
}

static __noinline struct kt_key_row *take_key(struct kt_slot *slot, __u32 number, __u32 guess)
{
	struct slot_key key = { .slot = number };
	__u32 *known, *table, place;
	struct kt_key_row *row;

	key.key = slot->key;
	known = bpf_map_lookup_elem(&more_keys, &key);
	if (known) return bpf_map_lookup_elem(&keys, known);
	table = bpf_map_lookup_elem(&row_of_key, &number);
	if (!table || bpf_map_pop_elem(&free_keys, &place)) return 0;
	if (table[guess & 255]) {
		if (bpf_map_update_elem(&more_keys, &key, &place, BPF_NOEXIST)) {
			bpf_map_push_elem(&free_keys, &place, 0);
			return 0;
		}
	} else {
		table[guess & 255] = place;
	}
	row = bpf_map_lookup_elem(&keys, &place);
	if (!row) return 0;
	row->slot = number;
	row->key = slot->key;
	row->next = slot->first_key;
	row->thread = slot->thread;
	slot->first_key = place;
	return row;
}

/* The row of the open exit's key; 0 when the pool is empty. */
static __always_inline struct kt_key_row *key_row(struct kt_slot *slot, __u32 number)
{
	__u32 *table = bpf_map_lookup_elem(&row_of_key, &number), guess = kt_key_hash(&slot->key), place;
	struct kt_key_row *row;

	if (!table) return 0;
	place = table[guess & 255];
	if (place) {
		row = bpf_map_lookup_elem(&keys, &place);
		if (row && kt_key_equal(&row->key, &slot->key)) return row;
	}
	return take_key(slot, number, guess);
}

/* Room for a record in this CPU's ring, else 0, and the loss is counted. */
static __always_inline void *reserve_record(__u64 bytes, __u32 cpu)
{
	__u32 key = cpu & (KT_MAX_CPUS - 1);
	__u32 *which = bpf_map_lookup_elem(&ring_of_cpu, &key);
	void *ring, *record;

	if (!which) return 0;
	key = *which;
	ring = bpf_map_lookup_elem(&rings, &key);
	record = ring ? bpf_ringbuf_reserve(ring, bytes, 0) : 0;
	if (!record) count_loss(KT_LOST_RECORDS);
	return record;
}

static __always_inline void record_exit(const struct kt_slot *slot)
{
	__u32 cpu = bpf_get_smp_processor_id();
	struct kt_exit_record *record = reserve_record(sizeof *record, cpu);

	if (!record) return;
	kt_describe(record, slot, cpu);
	bpf_ringbuf_submit(record, BPF_RB_NO_WAKEUP);
}

static __always_inline void record_event(const struct kt_slot *slot, const struct kt_event *event)
{
	__u32 cpu = bpf_get_smp_processor_id();
	struct kt_event *record = reserve_record(sizeof *record, cpu);

	if (!record) return;
	*record = *event;
	record->tid = slot->tid;
	record->tgid = slot->tgid;
	record->cpu = cpu;
	bpf_ringbuf_submit(record, BPF_RB_NO_WAKEUP);
}

/* Ends the thread's quiet period: nothing is known of it from `from_ns` on. */
static __always_inline void end_gap(struct kt_slot *slot, __u32 number, __u64 from_ns, __u64 now_ns)
{
	__u32 reason;
	__u8 isa;

	if (kt_gap(slot, from_ns, now_ns, &isa, &reason)) count_unpaired(slot, number, isa, reason);
}

/* Where the thread's quiet period began: of several gaps only the last is known, so with its last step. */
static __always_inline __u64 gap_start(const struct kt_slot *slot, const struct kt_control *settings, __u32 epoch)
{
	return epoch - slot->epoch == 1 ? settings->gap_ns : slot->since_ns;
}

/* The thread's sched_info.run_delay plus 1; 0: not read. */
static __always_inline __u64 run_delay(const struct kt_control *settings)
{
	__u64 delay = 0;

	if (!settings->delay_offset) return 0;
	if (bpf_probe_read_kernel(&delay, sizeof delay, (char *)bpf_get_current_task() + settings->delay_offset)) return 0;
	return delay + 1;
}

/* An exit has been finished: into its accounts. */
static __always_inline void finish_exit(struct kt_slot *slot, __u32 number, const struct kt_control *settings)
{
	struct kt_row *row = row_of(slot, number, slot->isa, slot->reason);
	struct kt_key_row *key;

	if (row) {
		kt_account(row, slot);
	} else {
		slot->overflow_exits++;
		slot->overflow_ns += slot->since_ns - slot->exit_ns;
	}
	if (settings->keys) {
		key = key_row(slot, number);
		if (key) {
			kt_account_key(key, slot);
		} else {
			slot->overflow_keys++;
			slot->overflow_keys_ns += slot->since_ns - slot->exit_ns;
		}
	}
	if (settings->events == KT_EXIT_RECORDS) record_exit(slot);
	kt_clear_exit(slot);
}

/*
 * Takes an event of a slot's thread: the slot is taken, the time read, the machine stepped, the slot given back. Nothing
 * happens while the slot is busy or the programs are quiet; after a quiet period the slot first learns of it.
 */
static __always_inline int step_slot(struct kt_slot *slot, __u32 number, const struct kt_control *settings,
				     struct kt_event *event)
{
	__u32 epoch, reason = 0;
	__u8 isa = 0;
	int outcome;

	if (!kt_begin_event(slot, event->kind)) return 0;
	event->time_ns = bpf_ktime_get_ns();
	if (!is_heard(settings->heartbeat_ns, event->time_ns)) {
		kt_finish(slot);
		return 0;
	}
	KT_BARRIER();	/* the epoch is written before the heartbeat that ends the gap */
	epoch = settings->epoch;
	if (!slot->first_ns) {
		slot->first_ns = slot->since_ns = slot->on_ns = event->time_ns;
		slot->epoch = epoch;
	}
	if (slot->epoch != epoch) {
		end_gap(slot, number, gap_start(slot, settings, epoch), event->time_ns);
		slot->epoch = epoch;
	}
	if (settings->events == KT_RAW_RECORDS) record_event(slot, event);
	outcome = kt_step(slot, event, &isa, &reason);
	if (outcome == 1) finish_exit(slot, number, settings);
	else if (outcome == 2) count_unpaired(slot, number, isa, reason);
	kt_finish(slot);
	return 0;
}

/* Takes an event of the running thread, which gets a slot where `create` says so. */
static __always_inline int step(struct kt_event *event, int create)
{
	struct kt_control *settings = controls();
	struct kt_slot *slot;
	__u32 number;

	if (!settings) return 0;
	slot = current_slot(create, &number);
	if (!slot) return 0;
	if (event->kind == KT_USERSPACE_EXIT || settings->delay_everywhere) event->run_delay_ns = run_delay(settings);
	return step_slot(slot, number, settings, event);
}

/* The slot of another thread; 0 where it has none. */
static __always_inline struct kt_slot *slot_of(__u32 tid, __u32 *number)
{
	__u32 key = tid >> 1, found;
	__u32 *pair = bpf_map_lookup_elem(&threads, &key);
	struct kt_slot *slot;

	if (!pair) return 0;
	found = pair[tid & 1];
	if (!found || found == KT_IGNORED) return 0;
	*number = found - 1;
	slot = bpf_map_lookup_elem(&slots, number);
	return slot && slot->tid == tid && !slot->ended ? slot : 0;
}
#endif
