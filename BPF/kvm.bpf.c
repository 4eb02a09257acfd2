// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * Adapters between tracepoints and the state machine: read the fields, take the slot, step, release. Each event that
 * comes with every exit has a classic program, which works on every kernel, and a tp_btf program, which costs about half
 * where module BTF is there. What a reason means is not known here.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include "kvmtax.h"
#include "kernel_types.h"
#include "slots.h"
#include "kicks.h"
#include "looks.h"
#include "keys.h"
#include "sched.h"
#include "irq.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

/* An event of the running thread with the fields given; the rest is 0. */
#define EVENT(which, ...) { .kind = (which), .vcpu = KT_NO_VCPU, ##__VA_ARGS__ }

/* Classic: fields by the running kernel's format. */

SEC("tp/kvm/kvm_exit") int on_exit(void *context)
{
	struct kt_event event = EVENT(KT_EXIT, .isa = KT_FIELD(context, __u32, KT_FIELD_EXIT_ISA),
		.reason = KT_FIELD(context, __u32, KT_FIELD_EXIT_REASON),
		.arg = KT_FIELD(context, __u64, KT_FIELD_EXIT_INFO1), .arg2 = KT_FIELD(context, __u64, KT_FIELD_EXIT_INFO2),
		.extra = KT_FIELD(context, __u32, KT_FIELD_EXIT_INTR_INFO),
		.rip = KT_FIELD(context, __u64, KT_FIELD_EXIT_RIP));

	return step(&event, 1);
}

SEC("tp/kvm/kvm_entry") int on_entry(void *context)
{
	struct kt_event event = EVENT(KT_ENTRY, .reason = KT_FIELD(context, __u32, KT_FIELD_ENTRY_IMMEDIATE));
	struct kt_control *settings = controls();
	struct kt_slot *slot;
	__u32 number;

	event.vcpu = KT_FIELD(context, __u32, KT_FIELD_ENTRY_VCPU);
	if (!settings) return 0;
	slot = current_slot(1, &number);
	return slot ? step_entry(slot, number, settings, &event) : 0;
}

SEC("tp/kvm/kvm_userspace_exit") int on_userspace_exit(void *context)
{
	struct kt_event event = EVENT(KT_USERSPACE_EXIT, .reason = KT_FIELD(context, __u32, KT_FIELD_USERSPACE_REASON),
		.extra = KT_FIELD(context, __u32, KT_FIELD_USERSPACE_ERRNO));

	return step(&event, 0);
}

SEC("tp/kvm/kvm_vcpu_wakeup") int on_vcpu_wakeup(void *context)
{
	struct kt_event event = EVENT(KT_VCPU_WAKEUP, .arg = KT_FIELD(context, __u64, KT_FIELD_WAKEUP_NS),
		.reason = KT_FIELD(context, __u32, KT_FIELD_WAKEUP_WAITED));

	return step(&event, 0);
}

SEC("tp/kvm/kvm_fpu") int on_fpu(void *context)
{
	struct kt_event event = EVENT(KT_FPU_LOAD);

	return KT_FIELD(context, __u32, KT_FIELD_FPU_LOAD) ? step(&event, 0) : 0;
}

/* Typed: the arguments of the tracepoint, (struct kvm_vcpu *, u32 isa) for kvm_exit since about 5.16. */

/*
 * What the classic event says, from KVM's own structures: kvm_exit's TP_fast_assign asks kvm_x86_get_exit_info, which
 * reads these. Kernels from 6.12 on take the arguments of a module's tracepoint for pointers that may be NULL: unchecked,
 * no offset may be added to them.
 */
static __always_inline void read_exit(struct kt_event *event, void *vcpu, __u32 isa)
{
	event->isa = isa;
	event->reason = 0xffffffff;
	if (!vcpu) return;
	if (isa == KT_ISA_SVM && bpf_core_type_exists(struct vcpu_svm___kt)) {
		struct vmcb___kt *vmcb = BPF_CORE_READ((struct vcpu_svm___kt *)vcpu, vmcb);

		event->reason = BPF_CORE_READ(vmcb, control.exit_code);
		event->arg = BPF_CORE_READ(vmcb, control.exit_info_1);
		event->arg2 = BPF_CORE_READ(vmcb, control.exit_info_2);
		event->rip = BPF_CORE_READ(vmcb, save.rip);
	}
	if (isa == KT_ISA_VMX) {
		if (bpf_core_field_exists(((struct vcpu_vmx___kt *)0)->exit_reason))
			event->reason = BPF_CORE_READ((struct vcpu_vmx___kt *)vcpu, exit_reason.full);
		else if (bpf_core_field_exists(((struct vcpu_vmx___vt *)0)->vt))
			event->reason = BPF_CORE_READ((struct vcpu_vmx___vt *)vcpu, vt.exit_reason.full);
	}
}

/*
 * VMX: the exit qualification and the interruption information are in the VMCS until KVM's handler of such an exit asks
 * for them and keeps them in vcpu_vmx; by the next entry it has. Read at kvm_exit, they would be those of an earlier exit.
 */
static __always_inline void detail(struct kt_slot *slot, __u32 number, const struct kt_control *settings, void *vcpu)
{
	struct kt_event event = EVENT(KT_DETAIL);

	if (!settings->keys || !slot->in_exit || slot->pending || !kt_wants_detail(slot->isa, slot->reason)) return;
	if (bpf_core_field_exists(((struct vcpu_vmx___kt *)0)->exit_qualification)) {
		event.arg = BPF_CORE_READ((struct vcpu_vmx___kt *)vcpu, exit_qualification);
		event.extra = BPF_CORE_READ((struct vcpu_vmx___kt *)vcpu, exit_intr_info);
	} else if (bpf_core_field_exists(((struct vcpu_vmx___vt *)0)->vt)) {
		event.arg = BPF_CORE_READ((struct vcpu_vmx___vt *)vcpu, vt.exit_qualification);
		event.extra = BPF_CORE_READ((struct vcpu_vmx___vt *)vcpu, vt.exit_intr_info);
	} else {
		return;
	}
	step_slot(slot, number, settings, &event);
}

SEC("tp_btf/kvm_exit") int on_exit_btf(__u64 *arguments)
{
	struct kt_event event = EVENT(KT_EXIT);

	read_exit(&event, (void *)arguments[0], arguments[1]);
	return step(&event, 1);
}

SEC("tp_btf/kvm_entry") int on_entry_btf(__u64 *arguments)
{
	struct kt_event event = EVENT(KT_ENTRY);
	struct kt_control *settings = controls();
	void *vcpu = (void *)arguments[0];
	struct kt_slot *slot;
	__u32 number;

	if (!settings || !vcpu) return 0;
	slot = current_slot(1, &number);
	if (!slot) return 0;
	event.reason = immediate_exits ? arguments[1] & 1 : 0;
	event.vcpu = BPF_CORE_READ((struct kvm_vcpu___kt *)vcpu, vcpu_id);
	if (slot->first_ns) {	/* a thread begins with its first exit or entry, and with nothing else */
		look(slot, number, settings, vcpu);
		detail(slot, number, settings, vcpu);
	}
	return step_entry(slot, number, settings, &event);
}

SEC("tp_btf/kvm_userspace_exit") int on_userspace_exit_btf(__u64 *arguments)
{
	struct kt_event event = EVENT(KT_USERSPACE_EXIT, .reason = arguments[0], .extra = arguments[1]);

	return step(&event, 0);
}

/* kvm_vcpu_wakeup(__u64 ns, bool waited, bool valid) */
SEC("tp_btf/kvm_vcpu_wakeup") int on_vcpu_wakeup_btf(__u64 *arguments)
{
	struct kt_event event = EVENT(KT_VCPU_WAKEUP, .arg = arguments[0], .reason = arguments[1] & 1);

	return step(&event, 0);
}

/* kvm_fpu(int load) */
SEC("tp_btf/kvm_fpu") int on_fpu_btf(__u64 *arguments)
{
	struct kt_event event = EVENT(KT_FPU_LOAD);

	return (__u32)arguments[0] ? step(&event, 0) : 0;
}

/* The end of any thread: raw, since it needs no field and must not be missed. */
SEC("raw_tp/sched_process_exit") int on_process_exit(void *context)
{
	__u32 tid = (__u32)bpf_get_current_pid_tgid(), key = tid >> 1, number, epoch;
	__u32 *pair = bpf_map_lookup_elem(&threads, &key);
	struct kt_event event = EVENT(KT_THREAD_END);
	struct kt_control *settings = controls();
	struct kt_slot *slot;
	__u64 quiet_ns;

	if (!pair || !settings || !pair[tid & 1]) return 0;
	number = pair[tid & 1] - 1;
	pair[tid & 1] = 0;
	slot = bpf_map_lookup_elem(&slots, &number);
	if (!slot || slot->tid != tid || !settings->heartbeat_ns) return 0;
	slot->sequence |= 1;
	KT_BARRIER();
	event.time_ns = bpf_ktime_get_ns();
	epoch = settings->epoch;
	quiet_ns = settings->heartbeat_ns + KT_HEARTBEAT_LIMIT_NS;
	if (slot->epoch != epoch) {
		end_gap(slot, number, gap_start(slot, settings, epoch), event.time_ns);
		slot->ended = 1;
	} else if (event.time_ns > quiet_ns) {
		end_gap(slot, number, quiet_ns, event.time_ns);
		slot->ended = 1;
	} else {
		event.run_delay_ns = run_delay(settings);
		if (settings->events == KT_RAW_RECORDS) record_event(slot, &event);
		kt_note_delay(slot, event.run_delay_ns);
		kt_step_end(slot, event.time_ns);
	}
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
	struct kt_event event = EVENT(KT_EXIT, .reason = KT_FIELD(context, __u32, KT_FIELD_USERSPACE_REASON));

	return step(&event, 1);
}

SEC("tp/kvm/kvm_fpu") int on_proxy_entry(void *context)
{
	struct kt_event event = EVENT(KT_ENTRY);

	return KT_FIELD(context, __u32, KT_FIELD_FPU_LOAD) ? step(&event, 1) : 0;
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
