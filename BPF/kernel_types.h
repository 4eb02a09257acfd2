/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * The kernel types that the fast path reads: only the fields we trust, found by name in the running kernel's BTF (CO-RE).
 * The suffix after ___ is ours and ignored by the loader.
 */
#ifndef KVMTAX_KERNEL_TYPES_H
#define KVMTAX_KERNEL_TYPES_H
#include <linux/types.h>

#define KT_CORE __attribute__((preserve_access_index))

/* include/linux/kvm_host.h */
struct kvm_vcpu___kt {
	int vcpu_id;
} KT_CORE;

/* arch/x86/include/asm/svm.h, arch/x86/kvm/svm/svm.h */
struct vmcb_control_area___kt {
	__u32 exit_code;
} KT_CORE;
struct vmcb___kt {
	struct vmcb_control_area___kt control;
} KT_CORE;
struct vcpu_svm___kt {
	struct vmcb___kt *vmcb;
} KT_CORE;

/* arch/x86/kvm/vmx/vmx.h: exit_reason moved into struct vcpu_vt when TDX came */
union vmx_exit_reason___kt {
	__u32 full;
} KT_CORE;
struct vcpu_vmx___kt {
	union vmx_exit_reason___kt exit_reason;
} KT_CORE;
struct vcpu_vt___kt {
	union vmx_exit_reason___kt exit_reason;
} KT_CORE;
struct vcpu_vmx___vt {
	struct vcpu_vt___kt vt;
} KT_CORE;
#endif
