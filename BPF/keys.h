/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* Events inside an exit that say what it was about. Classic only: each comes with a part of the exits. */
#ifndef KVMTAX_KEYS_H
#define KVMTAX_KEYS_H

#define REFINE(program, event_name, which, ...) \
	SEC("tp/kvm/" event_name) int program(void *context) \
	{ \
		struct kt_event event = { .kind = (which), .vcpu = KT_NO_VCPU, ##__VA_ARGS__ }; \
	\
		return step(&event, 0); \
	}

/* IA32_X2APIC_LVT_TIMER: its low byte is the vector of the guest's timer */
#define X2APIC_LVTT 0x832

SEC("tp/kvm/kvm_msr") int on_msr(void *context)
{
	struct kt_event event = { .kind = KT_MSR, .vcpu = KT_NO_VCPU, .arg = KT_FIELD(context, __u32, KT_FIELD_MSR_INDEX),
		.reason = KT_FIELD(context, __u32, KT_FIELD_MSR_WRITE) };
	struct kt_event vector = { .kind = KT_TIMER_VECTOR, .vcpu = KT_NO_VCPU, .extra = KT_VECTOR_WRITTEN };

	step(&event, 0);
	if (event.arg != X2APIC_LVTT || !event.reason) return 0;
	vector.reason = KT_FIELD(context, __u64, KT_FIELD_MSR_DATA) & 0xff;
	return step(&vector, 0);
}

/* kvm_mmio's type: what is begun is told, whoever takes it */
#define MMIO_WRITE 2

SEC("tp/kvm/kvm_mmio") int on_mmio(void *context)
{
	struct kt_event event = { .kind = KT_MMIO, .vcpu = KT_NO_VCPU, .arg = KT_FIELD(context, __u64, KT_FIELD_MMIO_GPA),
		.reason = KT_FIELD(context, __u32, KT_FIELD_MMIO_TYPE), .extra = KT_FIELD(context, __u32, KT_FIELD_MMIO_LEN) };
	struct kt_slot *slot;
	__u32 number;

	step(&event, 0);
	if (!keeps_ioeventfds || event.reason != MMIO_WRITE) return 0;
	slot = current_slot(0, &number);
	return slot ? note_write(slot, number, KT_MMIO_BUS, event.arg) : 0;
}

REFINE(on_fast_mmio, "kvm_fast_mmio", KT_FAST_MMIO, .arg = KT_FIELD(context, __u64, KT_FIELD_FAST_MMIO_GPA))
REFINE(on_cpuid, "kvm_cpuid", KT_CPUID, .arg = KT_FIELD(context, __u32, KT_FIELD_CPUID_LEAF))
REFINE(on_hypercall, "kvm_hypercall", KT_HYPERCALL, .arg = KT_FIELD(context, __u64, KT_FIELD_HYPERCALL_NR))
REFINE(on_hv_hypercall, "kvm_hv_hypercall", KT_HYPERCALL, .arg = KT_FIELD(context, __u32, KT_FIELD_HV_CODE), .reason = 1)
REFINE(on_inject, "kvm_inj_virq", KT_INJECT, .reason = KT_FIELD(context, __u32, KT_FIELD_INJECT_VECTOR))
REFINE(on_accept, "kvm_apic_accept_irq", KT_ACCEPT_IRQ, .reason = KT_FIELD(context, __u32, KT_FIELD_ACCEPT_VECTOR))
REFINE(on_vmgexit, "kvm_vmgexit_enter", KT_VMGEXIT, .arg = KT_FIELD(context, __u64, KT_FIELD_VMGEXIT_CODE))
REFINE(on_nested_exit, "kvm_nested_vmexit", KT_NESTED_EXIT)
REFINE(on_nested_inject, "kvm_nested_vmexit_inject", KT_NESTED_INJECT)
#endif
