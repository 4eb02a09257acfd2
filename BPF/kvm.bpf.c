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
#include "slots.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

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
	__u64 now_ns, quiet_ns;
	__u32 tid = (__u32)bpf_get_current_pid_tgid(), key = tid >> 1, number, epoch;
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
	now_ns = bpf_ktime_get_ns();
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
__u64 fired_exits, fired_userspace_exits;

SEC("raw_tp/kvm_exit") int count_exit(void *context)
{
	fired_exits++;
	return 0;
}

SEC("raw_tp/kvm_userspace_exit") int count_userspace_exit(void *context)
{
	fired_userspace_exits++;
	return 0;
}
