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
struct kvm_vcpu_stat___kt {
	__u64 exits;
	__u64 halt_exits;
	__u64 irq_exits;
	__u64 irq_window_exits;
	__u64 io_exits;
} KT_CORE;
struct kvm_vcpu___stat {
	struct kvm_vcpu_stat___kt stat;
} KT_CORE;
struct kvm_io_device___kt {
	const void *ops;
} KT_CORE;
struct kvm_io_range___kt {
	__u64 addr;
	int len;
	struct kvm_io_device___kt *dev;
} KT_CORE;
struct kvm_io_bus___kt {
	int dev_count;
	struct kvm_io_range___kt range[];
} KT_CORE;
struct list_head___kt {
	struct list_head___kt *next, *prev;
} KT_CORE;
struct kvm___kt {
	struct kvm_io_bus___kt *buses[2];
	struct list_head___kt ioeventfds;
} KT_CORE;
struct kvm_vcpu___kvm {
	struct kvm___kt *kvm;
} KT_CORE;
/* virt/kvm/eventfd.c */
struct _ioeventfd___kt {
	struct list_head___kt list;
	struct kvm_io_device___kt dev;
} KT_CORE;

/* arch/x86/kvm/lapic.h, arch/x86/include/asm/kvm_host.h */
struct kvm_lapic___kt {
	void *regs;
} KT_CORE;
struct kvm_vcpu_arch___kt {
	struct kvm_lapic___kt *apic;
} KT_CORE;
struct kvm_vcpu___apic {
	struct kvm_vcpu_arch___kt arch;
} KT_CORE;

/* arch/x86/include/asm/svm.h, arch/x86/kvm/svm/svm.h */
struct vmcb_control_area___kt {
	__u32 exit_code;
	__u64 exit_info_1;
	__u64 exit_info_2;
} KT_CORE;
struct vmcb_save_area___kt {
	__u64 rip;
} KT_CORE;
struct vmcb___kt {
	struct vmcb_control_area___kt control;
	struct vmcb_save_area___kt save;
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
	unsigned long exit_qualification;
	__u32 exit_intr_info;
} KT_CORE;
struct vcpu_vt___kt {
	union vmx_exit_reason___kt exit_reason;
	unsigned long exit_qualification;
	__u32 exit_intr_info;
} KT_CORE;
struct vcpu_vmx___vt {
	struct vcpu_vt___kt vt;
} KT_CORE;
#endif
