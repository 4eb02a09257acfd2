/*
 * What an exit was about: its key, from kvm_exit's own fields and from the events that follow it before the entry. Facts
 * only; what they mean is the taxonomy's business, in user space.
 */
#ifndef KVMTAX_KEY_H
#define KVMTAX_KEY_H
#include "record.h"

/* VMX keeps flags above the basic reason: bit 26 a bus lock on the way, bit 31 a failed entry. */
KT_INLINE __u32 kt_basic_reason(__u8 isa, __u32 reason)
{
	return isa == KT_ISA_VMX ? reason & 0xffff : reason;
}

/* HLT and what hardware does in its place: the vCPU asks to sleep. VMX 12; SVM 0x78 and 0xa6 (idle HLT). */
KT_INLINE int kt_is_halt(__u8 isa, __u32 reason)
{
	return (isa == KT_ISA_VMX && kt_basic_reason(isa, reason) == 12) || (isa == KT_ISA_SVM && (reason == 0x78 || reason == 0xa6));
}

/*
 * Exits that have to do with interrupts, the host's or the guest's. VMX: EXTERNAL_INTERRUPT, the interrupt windows and the
 * preemption timer. SVM: INTR, NMI, VINTR.
 */
KT_INLINE int kt_is_interrupt(__u8 isa, __u32 reason)
{
	reason = kt_basic_reason(isa, reason);
	if (isa == KT_ISA_VMX) return reason == 1 || reason == 7 || reason == 8 || reason == 52;
	return isa == KT_ISA_SVM && (reason == 0x60 || reason == 0x61 || reason == 0x64);
}

/* Those that an interrupt for the host causes, which its handler can name: EXTERNAL_INTERRUPT; INTR. */
KT_INLINE int kt_is_host_interrupt(__u8 isa, __u32 reason)
{
	return (isa == KT_ISA_VMX && kt_basic_reason(isa, reason) == 1) || (isa == KT_ISA_SVM && reason == 0x60);
}

/* Those that tell KVM that the guest takes interrupts now: INTERRUPT_WINDOW; VINTR. */
KT_INLINE int kt_is_window(__u8 isa, __u32 reason)
{
	return (isa == KT_ISA_VMX && kt_basic_reason(isa, reason) == 7) || (isa == KT_ISA_SVM && reason == 0x64);
}

/* Exits as vcpu->stat counts them by kind: halt_exits, irq_exits, irq_window_exits, io_exits. */
KT_INLINE void kt_count_kind(struct kt_slot *slot, __u8 isa, __u32 reason)
{
	if (kt_is_halt(isa, reason)) slot->halts++;
	else if (kt_is_host_interrupt(isa, reason)) slot->interrupts++;
	else if (kt_is_window(isa, reason)) slot->windows++;
	else if (isa == KT_ISA_VMX ? kt_basic_reason(isa, reason) == 30 : isa == KT_ISA_SVM && reason == 0x7b) slot->ports++;
}

KT_INLINE void kt_clear_key(struct kt_key *key)
{
	__builtin_memset(key, 0, sizeof *key);
	key->subject = KT_NO_SUBJECT;
}

KT_INLINE void kt_set_subject(struct kt_key *key, __u8 kind, __u64 subject)
{
	key->kind = kind;
	key->subject = subject;
}

#define KT_APIC_PAGE 0xfee00000ULL
#define KT_PAGE_MASK 0xfffULL

/* A guest-physical address without memory behind it: a register of the local APIC, or a page of a device. */
KT_INLINE void kt_set_address(struct kt_key *key, __u64 gpa)
{
	if ((gpa & ~KT_PAGE_MASK) == KT_APIC_PAGE) kt_set_subject(key, KT_KEY_APIC, gpa & KT_PAGE_MASK);
	else kt_set_subject(key, KT_KEY_MMIO, gpa & ~KT_PAGE_MASK);
}

/*
 * Intel SDM volume 3, "Exit Qualification" and "Information for VM Exits Due to Vectored Events"; info1 is the exit
 * qualification. Indices of MSRs, leaves of CPUID and addresses of MMIO come with later events.
 */
KT_INLINE void kt_name_vmx(struct kt_key *key, __u32 reason, __u64 info1, __u32 intr_info)
{
	if (reason & 1u << 31) key->traits |= KT_ENTRY_FAILED;
	if (reason & 1u << 26) key->traits |= KT_BUS_LOCK;
	switch (kt_basic_reason(KT_ISA_VMX, reason)) {
	case 0: /* EXCEPTION_NMI */
	case 1: /* EXTERNAL_INTERRUPT */
		if (intr_info & 1u << 31) kt_set_subject(key, KT_KEY_VECTOR, intr_info & 0xff);
		break;
	case 10: kt_set_subject(key, KT_KEY_CPUID, KT_NO_SUBJECT); break;
	case 18: kt_set_subject(key, KT_KEY_HYPERCALL, KT_NO_SUBJECT); break;
	case 28: /* CR_ACCESS: 0 and 2 (CLTS), 3 (LMSW) write, 1 reads */
		kt_set_subject(key, KT_KEY_CR, info1 & 15);
		if ((info1 >> 4 & 3) != 1) key->traits |= KT_WRITE;
		break;
	case 29:
		kt_set_subject(key, KT_KEY_DR, info1 & 7);
		if (!(info1 & 0x10)) key->traits |= KT_WRITE;
		break;
	case 30:
		kt_set_subject(key, KT_KEY_PORT, info1 >> 16 & 0xffff);
		key->size = (info1 & 7) + 1;
		if (!(info1 & 8)) key->traits |= KT_WRITE;
		break;
	case 32: case 85: key->traits |= KT_WRITE; /* fall through */
	case 31: case 84: kt_set_subject(key, KT_KEY_MSR, KT_NO_SUBJECT); break;
	case 44: /* APIC_ACCESS: access type 1 is a linear write */
		kt_set_subject(key, KT_KEY_APIC, info1 & 0xfff);
		if ((info1 >> 12 & 15) == 1) key->traits |= KT_WRITE;
		break;
	case 45: kt_set_subject(key, KT_KEY_VECTOR, info1 & 0xff); break;
	case 48:
		kt_set_subject(key, KT_KEY_FAULT, KT_NO_SUBJECT);
		if (info1 & 2) key->traits |= KT_WRITE;
		if (info1 & 4) key->traits |= KT_FETCH;
		if (info1 & 0x38) key->traits |= KT_PRESENT;
		break;
	case 49: kt_set_subject(key, KT_KEY_MMIO, KT_NO_SUBJECT); break;
	case 56:
		kt_set_subject(key, KT_KEY_APIC, info1 & 0xfff);
		key->traits |= KT_WRITE;
		break;
	}
}

/* AMD APM volume 2, "EXITINFO1" of each intercept: info1 and info2 are EXITINFO1 and EXITINFO2. */
KT_INLINE void kt_name_svm(struct kt_key *key, __u32 reason, __u64 info1, __u64 info2)
{
	if (reason < 0x20) {
		kt_set_subject(key, KT_KEY_CR, reason & 15);
		if (reason & 0x10) key->traits |= KT_WRITE;
		return;
	}
	if (reason < 0x40) {
		kt_set_subject(key, KT_KEY_DR, reason & 15);
		if (reason & 0x10) key->traits |= KT_WRITE;
		return;
	}
	if (reason < 0x60) {
		kt_set_subject(key, KT_KEY_VECTOR, reason - 0x40);
		return;
	}
	switch (reason) {
	case 0x65:
		kt_set_subject(key, KT_KEY_CR, 0);
		key->traits |= KT_WRITE;
		break;
	case 0x72: kt_set_subject(key, KT_KEY_CPUID, KT_NO_SUBJECT); break;
	case 0x7b:
		kt_set_subject(key, KT_KEY_PORT, info1 >> 16 & 0xffff);
		key->size = info1 >> 4 & 7;
		if (!(info1 & 1)) key->traits |= KT_WRITE;
		break;
	case 0x7c:
		kt_set_subject(key, KT_KEY_MSR, KT_NO_SUBJECT);
		if (info1 & 1) key->traits |= KT_WRITE;
		break;
	case 0x81: kt_set_subject(key, KT_KEY_HYPERCALL, KT_NO_SUBJECT); break;
	case 0x400: /* bit 3: a reserved bit, by which KVM marks what has no memory */
		if (info1 & 2) key->traits |= KT_WRITE;
		if (info1 & 8) {
			kt_set_address(key, info2);
			break;
		}
		kt_set_subject(key, KT_KEY_FAULT, KT_NO_SUBJECT);
		if (info1 & 0x10) key->traits |= KT_FETCH;
		if (info1 & 1) key->traits |= KT_PRESENT;
		break;
	case 0x402: /* bit 32: a write; the offset in bits 11 to 4 */
		kt_set_subject(key, KT_KEY_APIC, info1 & 0xff0);
		if (info1 >> 32 & 1) key->traits |= KT_WRITE;
		break;
	case 0x403:
		kt_set_subject(key, KT_KEY_VMGEXIT, KT_NO_SUBJECT);
		key->traits |= KT_HIDDEN;
		break;
	}
}

/* kvm_exit's own share of the key. Reasons of other kinds of CPU say what they say by their number. */
KT_INLINE void kt_name_key(struct kt_key *key, __u8 isa, __u32 reason, __u64 info1, __u64 info2, __u32 intr_info)
{
	__u8 found = key->kind;
	__u64 subject = key->subject;

	key->isa = isa;
	key->reason = reason;
	kt_set_subject(key, KT_KEY_NONE, KT_NO_SUBJECT);
	if (isa == KT_ISA_VMX) kt_name_vmx(key, reason, info1, intr_info);
	else if (isa == KT_ISA_SVM) kt_name_svm(key, reason, info1, info2);
	/* what the host's interrupt was is known already where it came before the exit */
	if (key->kind == KT_KEY_NONE && kt_is_host_interrupt(isa, reason)) kt_set_subject(key, found, subject);
}

/* Exits whose exit qualification or interruption information names them; what comes of others is named by events. */
KT_INLINE int kt_wants_detail(__u8 isa, __u32 reason)
{
	if (isa != KT_ISA_VMX) return 0;
	switch (kt_basic_reason(isa, reason)) {
	case 0: case 1: case 28: case 29: case 30: case 44: case 45: case 48: case 56: return 1;
	}
	return 0;
}

/* These, later than the exit: KVM reads them from the VMCS when it handles it, and where the fast path can find them. */
KT_INLINE void kt_detail_key(struct kt_key *key, __u64 info1, __u32 intr_info)
{
	if (!kt_wants_detail(key->isa, key->reason)) return;
	/* a fault that kvm_mmio has named since */
	if (kt_basic_reason(key->isa, key->reason) == 48 && key->kind != KT_KEY_FAULT) return;
	key->traits &= ~(KT_WRITE | KT_PRESENT | KT_FETCH);
	kt_name_key(key, key->isa, key->reason, info1, 0, intr_info);
}

/* Whether an exit's own instruction wrote to a port that has not been handed to user space. */
KT_INLINE int kt_wrote_port(const struct kt_slot *slot)
{
	const struct kt_key *key = &slot->key;

	return slot->in_exit && !slot->pending && key->kind == KT_KEY_PORT && key->traits & KT_WRITE && !key->userspace;
}

/* A handler of the host's ran during the exit. */
KT_INLINE void kt_note_host_irq(struct kt_slot *slot, __u32 which, __u64 number)
{
	struct kt_key *key = &slot->key;

	if (which == KT_HOST_IRQ_TIMER) key->traits |= KT_HOST_TIMER;
	else if (which == KT_HOST_IRQ_IPI) key->traits |= KT_HOST_IPI;
	else if (which == KT_HOST_IRQ_DEVICE) key->traits |= KT_HOST_DEVICE;
	if (which == KT_HOST_IRQ_SOFT || key->kind != KT_KEY_NONE) return;
	if (slot->pending || kt_is_host_interrupt(key->isa, key->reason))
		kt_set_subject(key, which == KT_HOST_IRQ_DEVICE ? KT_KEY_IRQ : KT_KEY_VECTOR, number);
}

/* What an event between exit and entry adds. */
KT_INLINE void kt_refine_key(struct kt_key *key, __u8 kind, __u64 arg, __u32 reason, __u32 extra, __u8 timer_vector)
{
	switch (kind) {
	case KT_MSR:
		if (key->kind != KT_KEY_MSR || key->subject != KT_NO_SUBJECT || key->traits & KT_HIDDEN) return;
		key->subject = arg;
		if (reason) key->traits |= KT_WRITE;
		return;
	case KT_MMIO:
	case KT_FAST_MMIO:
		/* the first access of an instruction that makes several; a read is said twice */
		if (key->kind == KT_KEY_FAULT || (key->kind == KT_KEY_MMIO && key->subject == KT_NO_SUBJECT))
			kt_set_address(key, arg);
		else if (key->kind != KT_KEY_MMIO && key->kind != KT_KEY_APIC) return;
		key->traits &= ~(KT_PRESENT | KT_FETCH);
		if (kind == KT_FAST_MMIO) {
			key->traits |= KT_WRITE | KT_IN_IOEVENTFD;
			return;
		}
		if (reason == 2) key->traits |= KT_WRITE;
		if (key->kind == KT_KEY_MMIO) key->size = extra;
		return;
	case KT_IOEVENTFD:
		key->traits |= KT_IN_IOEVENTFD;
		return;
	case KT_CPUID:
		if (key->kind == KT_KEY_CPUID && !(key->traits & KT_HIDDEN)) key->subject = arg & 0xffffffff;
		return;
	case KT_HYPERCALL:
		if (key->kind != KT_KEY_HYPERCALL || key->subject != KT_NO_SUBJECT) return;
		kt_set_subject(key, reason ? KT_KEY_HV_HYPERCALL : KT_KEY_HYPERCALL, arg);
		return;
	case KT_INJECT:
		key->traits |= KT_INJECTED;
		if (timer_vector && reason == timer_vector) key->traits |= KT_INJECTED_TIMER;
		if (key->kind == KT_KEY_NONE && kt_is_window(key->isa, key->reason))
			kt_set_subject(key, KT_KEY_VECTOR, reason);
		return;
	case KT_ACCEPT_IRQ:
		if (timer_vector && reason == timer_vector) key->traits |= KT_INJECTED_TIMER;
		return;
	case KT_VMGEXIT:
		if (key->kind == KT_KEY_VMGEXIT) key->subject = arg;
		return;
	case KT_DETAIL:
		kt_detail_key(key, arg, extra);
		return;
	case KT_NESTED_EXIT:
		key->traits |= KT_FROM_L2;
		return;
	case KT_NESTED_INJECT:
		key->traits |= KT_REFLECTED;
		return;
	}
}

/* The exit is over: facts that belong to interrupt exits only are kept for these only. */
KT_INLINE void kt_close_key(struct kt_slot *slot)
{
	struct kt_key *key = &slot->key;

	if (!kt_is_interrupt(key->isa, key->reason))
		key->traits &= ~(KT_INJECTED | KT_INJECTED_TIMER | KT_HOST_TIMER | KT_HOST_IPI | KT_HOST_DEVICE | KT_IMMEDIATE);
	else if (slot->timer_vector)
		key->traits |= KT_TIMER_KNOWN;
	if (key->kind == KT_KEY_FAULT && slot->exit_state_ns[KT_KERNEL_BLOCKED] > KT_BLOCKED_NS) key->traits |= KT_BLOCKED;
}

/* Keys as numbers: equal when all three words are. */
typedef __u64 __attribute__((may_alias)) kt_word;
KT_INLINE int kt_key_equal(const struct kt_key *one, const struct kt_key *other)
{
	const kt_word *a = (const kt_word *)one, *b = (const kt_word *)other;

	return a[0] == b[0] && a[1] == b[1] && a[2] == b[2];
}

KT_INLINE __u32 kt_key_hash(const struct kt_key *key)
{
	const kt_word *words = (const kt_word *)key;

	return (words[0] * 0x9e3779b97f4a7c15ULL ^ words[1] * 0xc2b2ae3d27d4eb4fULL ^ words[2] * 0x165667b19e3779f9ULL) >> 56;
}
#endif
