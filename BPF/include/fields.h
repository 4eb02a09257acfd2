/*
 * Classic tracepoint programs read each field at a placeholder offset, which the loader replaces by the offset and size
 * that the running kernel's format text gives, or by the constant 0 where the kernel has no such field. The verifier
 * then sees plain constant offsets: as fast as fixed ones, and right on every kernel.
 */
#ifndef KVMTAX_FIELDS_H
#define KVMTAX_FIELDS_H

#define KT_FIELD_BASE 0x4000
#define KT_FIELD_STRIDE 16

enum kt_field {
	KT_FIELD_EXIT_REASON,		/* kvm_exit: exit_reason (arm64: esr_ec) */
	KT_FIELD_EXIT_ISA,		/* kvm_exit: isa */
	KT_FIELD_ENTRY_VCPU,		/* kvm_entry: vcpu_id */
	KT_FIELD_WAKEUP_NS,		/* kvm_vcpu_wakeup: ns */
	KT_FIELD_WAKEUP_WAITED,		/* kvm_vcpu_wakeup: waited */
	KT_FIELD_USERSPACE_REASON,	/* kvm_userspace_exit: reason */
	KT_FIELD_FPU_LOAD,		/* kvm_fpu: load */
	KT_FIELD_EXIT_RIP,		/* kvm_exit: guest_rip */
	KT_FIELD_EXIT_INFO1,		/* kvm_exit: info1 */
	KT_FIELD_EXIT_INFO2,		/* kvm_exit: info2 */
	KT_FIELD_EXIT_INTR_INFO,	/* kvm_exit: intr_info; before 5.10 info2 is that, and this is absent */
	KT_FIELD_ENTRY_IMMEDIATE,	/* kvm_entry: immediate_exit */
	KT_FIELD_USERSPACE_ERRNO,	/* kvm_userspace_exit: errno */
	KT_FIELD_MSR_WRITE,		/* kvm_msr: write */
	KT_FIELD_MSR_INDEX,		/* kvm_msr: ecx */
	KT_FIELD_MSR_DATA,		/* kvm_msr: data, of which only LVTT's vector is looked at and nothing kept */
	KT_FIELD_MMIO_TYPE,		/* kvm_mmio: type */
	KT_FIELD_MMIO_LEN,		/* kvm_mmio: len */
	KT_FIELD_MMIO_GPA,		/* kvm_mmio: gpa */
	KT_FIELD_FAST_MMIO_GPA,		/* kvm_fast_mmio: gpa */
	KT_FIELD_CPUID_LEAF,		/* kvm_cpuid: function */
	KT_FIELD_HYPERCALL_NR,		/* kvm_hypercall: nr */
	KT_FIELD_HV_CODE,		/* kvm_hv_hypercall: code */
	KT_FIELD_INJECT_VECTOR,		/* kvm_inj_virq: vector, before 6.2 irq */
	KT_FIELD_ACCEPT_VECTOR,		/* kvm_apic_accept_irq: vec */
	KT_FIELD_VMGEXIT_CODE,		/* kvm_vmgexit_enter: exit_reason */
	KT_FIELD_SWITCH_PREV_STATE,	/* sched_switch: prev_state */
	KT_FIELD_SWITCH_NEXT,		/* sched_switch: next_pid */
	KT_FIELD_WAKING_PID,		/* sched_waking: pid */
	KT_FIELD_VECTOR,		/* irq_vectors' events: vector */
	KT_FIELD_IRQ,			/* irq_handler_entry: irq */
	KT_FIELD_SOFTIRQ,		/* softirq_entry: vec */
	KT_FIELDS,
};

#ifdef __bpf__
/* volatile: neighbouring placeholders must not be merged into one load */
#define KT_FIELD(context, type, field) \
	(*(volatile type *)((char *)(context) + KT_FIELD_BASE + KT_FIELD_STRIDE * (field)))
#endif
#endif
