// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * Adapters between KVM's tracepoints and the state machine: read the fields, take the slot, step, release. Each event
 * has a classic program, which works on every kernel, and a tp_btf program, which costs about half where module BTF is
 * there. What a reason means is not known here.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include "kvmtax.h"
#include "kernel_types.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

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
/* Free numbers, filled by user space: queues, since fetch-and-add needs 5.12. */
struct { __uint(type, BPF_MAP_TYPE_QUEUE); __uint(max_entries, 1); __type(value, __u64); } free_slots SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_QUEUE); __uint(max_entries, 1); __type(value, __u32); } free_rows SEC(".maps");
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
	kt_start(slot, now_ns, tid, tgid);
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

static __always_inline void record_exit(const struct kt_slot *slot)
{
	__u32 cpu = bpf_get_smp_processor_id(), key = cpu & (KT_MAX_CPUS - 1);
	__u32 *which = bpf_map_lookup_elem(&ring_of_cpu, &key);
	struct kt_exit_record *record;
	void *ring;

	if (!which) return;
	key = *which;
	ring = bpf_map_lookup_elem(&rings, &key);
	record = ring ? bpf_ringbuf_reserve(ring, sizeof *record, 0) : 0;
	if (!record) {
		count_loss(KT_LOST_RECORDS);
		return;
	}
	kt_describe(record, slot, cpu);
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

/*
 * Takes the running thread's slot for one step. 0 when there is nothing to do: no slot, slot busy, or the programs are
 * quiet. After a quiet period the slot first learns of it.
 */
static __always_inline struct kt_slot *begin(int create, __u32 *number, __u64 *now_ns, __u32 *events)
{
	struct kt_control *settings = controls();
	struct kt_slot *slot;
	__u32 epoch;

	if (!settings) return 0;
	slot = current_slot(create, number);
	if (!slot || !kt_begin(slot)) return 0;
	*now_ns = bpf_ktime_get_ns();
	if (!is_heard(settings->heartbeat_ns, *now_ns)) {
		kt_finish(slot);
		return 0;
	}
	KT_BARRIER();	/* the epoch is written before the heartbeat that ends the gap */
	epoch = settings->epoch;
	if (slot->epoch != epoch) {
		end_gap(slot, *number, gap_start(slot, settings, epoch), *now_ns);
		slot->epoch = epoch;
	}
	*events = settings->events;
	return slot;
}

static __always_inline int handle_exit(__u32 isa, __u32 reason)
{
	__u32 number, events, old_reason;
	__u64 now_ns;
	__u8 old_isa;
	struct kt_slot *slot = begin(1, &number, &now_ns, &events);

	if (!slot) return 0;
	if (kt_step_exit(slot, now_ns, isa, reason, &old_isa, &old_reason))
		count_unpaired(slot, number, old_isa, old_reason);
	kt_finish(slot);
	return 0;
}

static __always_inline int handle_entry(struct kt_slot *slot, __u32 number, __u64 now_ns, __u32 events)
{
	struct kt_row *row;

	if (kt_step_entry(slot, now_ns)) {
		row = row_of(slot, number, slot->isa, slot->reason);
		if (row) {
			kt_account(row, slot);
		} else {
			slot->overflow_exits++;
			slot->overflow_ns += slot->since_ns - slot->exit_ns;
		}
		if (events) record_exit(slot);
		kt_clear_exit(slot);
	}
	kt_finish(slot);
	return 0;
}

static __always_inline int handle_userspace_exit(void)
{
	__u32 number, events;
	__u64 now_ns;
	struct kt_slot *slot = begin(0, &number, &now_ns, &events);

	if (!slot) return 0;
	kt_step_userspace_exit(slot, now_ns);
	kt_finish(slot);
	return 0;
}

static __always_inline int handle_wakeup(__u64 ns, __u32 waited)
{
	__u32 number, events;
	__u64 now_ns;
	struct kt_slot *slot = begin(0, &number, &now_ns, &events);

	if (!slot) return 0;
	kt_step_wakeup(slot, now_ns, ns, waited);
	kt_finish(slot);
	return 0;
}

/* Classic: fields by the running kernel's format. */

SEC("tp/kvm/kvm_exit") int on_exit(void *context)
{
	return handle_exit(KT_FIELD(context, __u32, KT_FIELD_EXIT_ISA), KT_FIELD(context, __u32, KT_FIELD_EXIT_REASON));
}

SEC("tp/kvm/kvm_entry") int on_entry(void *context)
{
	__u32 number, events, vcpu = KT_FIELD(context, __u32, KT_FIELD_ENTRY_VCPU);
	__u64 now_ns;
	struct kt_slot *slot = begin(1, &number, &now_ns, &events);

	if (!slot) return 0;
	slot->vcpu = vcpu;
	return handle_entry(slot, number, now_ns, events);
}

SEC("tp/kvm/kvm_userspace_exit") int on_userspace_exit(void *context)
{
	return handle_userspace_exit();
}

SEC("tp/kvm/kvm_vcpu_wakeup") int on_vcpu_wakeup(void *context)
{
	return handle_wakeup(KT_FIELD(context, __u64, KT_FIELD_WAKEUP_NS),
			     KT_FIELD(context, __u32, KT_FIELD_WAKEUP_WAITED));
}

/* Typed: the arguments of the tracepoint, (struct kvm_vcpu *, u32 isa) for kvm_exit since about 5.16. */

/* Kernels from 6.12 on take the arguments of a module's tracepoint for pointers that may be NULL: unchecked, no offset may
 * be added to them. */
static __always_inline __u32 reason_of(void *vcpu, __u32 isa)
{
	if (!vcpu) return 0xffffffff;
	if (isa == KT_ISA_SVM && bpf_core_type_exists(struct vcpu_svm___kt))
		return BPF_CORE_READ((struct vcpu_svm___kt *)vcpu, vmcb, control.exit_code);
	if (isa == KT_ISA_VMX) {
		if (bpf_core_field_exists(((struct vcpu_vmx___kt *)0)->exit_reason))
			return BPF_CORE_READ((struct vcpu_vmx___kt *)vcpu, exit_reason.full);
		if (bpf_core_field_exists(((struct vcpu_vmx___vt *)0)->vt))
			return BPF_CORE_READ((struct vcpu_vmx___vt *)vcpu, vt.exit_reason.full);
	}
	return 0xffffffff;
}

SEC("tp_btf/kvm_exit") int on_exit_btf(__u64 *arguments)
{
	return handle_exit(arguments[1], reason_of((void *)arguments[0], arguments[1]));
}

SEC("tp_btf/kvm_entry") int on_entry_btf(__u64 *arguments)
{
	struct kvm_vcpu___kt *vcpu = (void *)arguments[0];
	__u32 number, events;
	__u64 now_ns;
	struct kt_slot *slot = begin(1, &number, &now_ns, &events);

	if (!slot) return 0;
	if (slot->vcpu == KT_NO_VCPU && vcpu) slot->vcpu = BPF_CORE_READ(vcpu, vcpu_id);
	return handle_entry(slot, number, now_ns, events);
}

SEC("tp_btf/kvm_userspace_exit") int on_userspace_exit_btf(__u64 *arguments)
{
	return handle_userspace_exit();
}

/* kvm_vcpu_wakeup(__u64 ns, bool waited, bool valid) */
SEC("tp_btf/kvm_vcpu_wakeup") int on_vcpu_wakeup_btf(__u64 *arguments)
{
	return handle_wakeup(arguments[0], arguments[1] & 1);
}

/* The end of any thread: raw, since it needs no field and must not be missed. */
SEC("raw_tp/sched_process_exit") int on_process_exit(void *context)
{
	__u64 pid_tgid = bpf_get_current_pid_tgid(), now_ns = bpf_ktime_get_ns(), quiet_ns;
	__u32 tid = (__u32)pid_tgid, key = tid >> 1, number, epoch;
	__u32 *pair = bpf_map_lookup_elem(&threads, &key);
	struct kt_control *settings = controls();
	struct kt_slot *slot;

	if (!pair || !settings || !pair[tid & 1]) return 0;
	number = pair[tid & 1] - 1;
	pair[tid & 1] = 0;
	slot = bpf_map_lookup_elem(&slots, &number);
	if (!slot || slot->tid != tid || !settings->heartbeat_ns) return 0;
	slot->sequence |= 1;
	KT_BARRIER();
	epoch = settings->epoch;
	quiet_ns = settings->heartbeat_ns + KT_HEARTBEAT_LIMIT_NS;
	if (slot->epoch != epoch) end_gap(slot, number, gap_start(slot, settings, epoch), now_ns);
	else if (now_ns > quiet_ns) end_gap(slot, number, quiet_ns, now_ns);
	else kt_move(slot, now_ns, slot->state);
	slot->ended = 1;
	kt_finish(slot);
	notify(slot, number, 1);
	return 0;
}

/*
 * The proxy pair, for kernels that have kvm_exit but never fire it: kvm_userspace_exit as the exit and kvm_fpu(load=1) as
 * the entry. It proves pairing, accounts, rings and losses where no real exit can be had; no report is drawn from it.
 */
SEC("tp/kvm/kvm_userspace_exit") int on_proxy_exit(void *context)
{
	return handle_exit(KT_ISA_NONE, KT_FIELD(context, __u32, KT_FIELD_USERSPACE_REASON));
}

SEC("tp/kvm/kvm_fpu") int on_proxy_entry(void *context)
{
	__u32 number, events, load = KT_FIELD(context, __u32, KT_FIELD_FPU_LOAD);
	__u64 now_ns;
	struct kt_slot *slot;

	if (!load) return 0;
	slot = begin(1, &number, &now_ns, &events);
	return slot ? handle_entry(slot, number, now_ns, events) : 0;
}

/* What happens at all, for the check that the tracepoints fire: counts per event, whatever the thread. */
__u64 fired_exits, fired_entries, fired_userspace_exits;

SEC("raw_tp/kvm_exit") int count_exit(void *context)
{
	fired_exits++;
	return 0;
}

SEC("raw_tp/kvm_entry") int count_entry(void *context)
{
	fired_entries++;
	return 0;
}

SEC("raw_tp/kvm_userspace_exit") int count_userspace_exit(void *context)
{
	fired_userspace_exits++;
	return 0;
}
