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
	KT_FIELDS,
};

#ifdef __bpf__
/* volatile: neighbouring placeholders must not be merged into one load */
#define KT_FIELD(context, type, field) \
	(*(volatile type *)((char *)(context) + KT_FIELD_BASE + KT_FIELD_STRIDE * (field)))
#endif
#endif
