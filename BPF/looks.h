/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * What KVM itself says of a vCPU, read from struct kvm_vcpu by its own thread at an entry: its statistics, to compare
 * with ours, the vector of the guest's timer and the VM's ioeventfds. Once per snapshot.
 */
#ifndef KVMTAX_LOOKS_H
#define KVMTAX_LOOKS_H

/* Whether kvm_entry's second argument says that an immediate exit was asked for (about 6.8). */
const volatile __u8 immediate_exits;

/* arch/x86/include/asm/apicdef.h: APIC_LVTT; bits 0 to 7 are the vector */
#define APIC_LVTT 0x320

static __always_inline void read_counts(struct kt_counts *counts, void *vcpu)
{
	struct kvm_vcpu___stat *known = vcpu;

	counts->exits = BPF_CORE_READ(known, stat.exits);
	counts->halts = BPF_CORE_READ(known, stat.halt_exits);
	counts->interrupts = BPF_CORE_READ(known, stat.irq_exits);
	counts->windows = BPF_CORE_READ(known, stat.irq_window_exits);
	counts->ports = BPF_CORE_READ(known, stat.io_exits);
}

static __always_inline void look(struct kt_slot *slot, __u32 number, const struct kt_control *settings, void *vcpu)
{
	struct kt_event vector = { .kind = KT_TIMER_VECTOR, .vcpu = KT_NO_VCPU, .extra = KT_VECTOR_READ };
	struct kt_looks *looks_of;
	__u32 lvtt = 0;
	void *registers;

	looks_of = bpf_map_lookup_elem(&looks, &number);
	if (!looks_of || (looks_of->thread == slot->thread && looks_of->look == settings->look)) return;
	if (bpf_core_field_exists(((struct kvm_vcpu___stat *)0)->stat)) {
		read_counts(&looks_of->last_stat, vcpu);
		looks_of->last_own.exits = slot->exits;
		looks_of->last_own.halts = slot->halts;
		looks_of->last_own.interrupts = slot->interrupts;
		looks_of->last_own.windows = slot->windows;
		looks_of->last_own.ports = slot->ports;
		if (looks_of->thread != slot->thread) {
			looks_of->first_stat = looks_of->last_stat;
			looks_of->first_own = looks_of->last_own;
		}
	}
	looks_of->thread = slot->thread;
	looks_of->look = settings->look;
	read_ioeventfds(vcpu, slot->tgid, settings->look + number);
	/* without the module's own types (before 5.11) the APIC's is not known, though the vCPU's may be */
	if (!bpf_core_field_exists(((struct kvm_vcpu_arch___kt *)0)->apic) ||
	    !bpf_core_field_exists(((struct kvm_lapic___kt *)0)->regs)) return;
	registers = BPF_CORE_READ((struct kvm_vcpu___apic *)vcpu, arch.apic, regs);
	if (!registers || bpf_probe_read_kernel(&lvtt, sizeof lvtt, registers + APIC_LVTT)) return;
	vector.reason = lvtt & 0xff;
	if (slot->timer_vector != vector.reason) step_slot(slot, number, settings, &vector);
}

/* For the classic path: the tracepoint's arguments come with a raw program only. */
SEC("raw_tp/kvm_entry") int on_look(__u64 *arguments)
{
	struct kt_control *settings = controls();
	struct kt_slot *slot;
	__u32 number;

	if (!settings || !arguments[0]) return 0;
	slot = current_slot(0, &number);
	if (slot) look(slot, number, settings, (void *)arguments[0]);
	return 0;
}
#endif
