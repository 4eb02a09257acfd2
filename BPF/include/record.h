/*
 * The structures that BPF programs, the Swift programs and the trace file share. All fields are little-endian and
 * naturally aligned; layout.c asserts the offsets. Times are CLOCK_MONOTONIC nanoseconds, as bpf_ktime_get_ns() gives.
 */
#ifndef KVMTAX_RECORD_H
#define KVMTAX_RECORD_H
#include <linux/types.h>
#include "buckets.h"

/* What a vCPU thread is doing. Every nanosecond is in exactly one of these. */
enum kt_state {
	KT_UNKNOWN,		/* not observed: before the first event, after a gap, between events that do not pair */
	KT_GUEST,		/* kvm_entry .. kvm_exit; contains the world switch */
	KT_KERNEL,		/* KVM handles the exit */
	KT_HOST_INTERRUPT,	/* the host's own interrupts on the vCPU's time */
	KT_QEMU,		/* user space; undivided (on CPU and blocked) where no sched events are seen */
	KT_QEMU_BLOCKED,
	KT_KERNEL_BLOCKED,
	KT_HALT_POLL,		/* KVM polls for a wake-up */
	KT_HALT_WAIT,		/* sleeping in HLT; undivided (poll, wait, wake latency) where no sched events are seen */
	KT_WAKE_LATENCY,
	KT_PREEMPTED,
	KT_STOPPED,
	KT_STATES,
	KT_STATE_SLOTS = 16,	/* arrays are sized to a power of two, so that a masked index is in bounds for the verifier */
};

/* The kinds of events that move the machine, and which fields of kt_event they use. Appended to, never renumbered: raw
 * recordings hold them. */
enum kt_kind {
	KT_EXIT,		/* kvm_exit: isa, reason, arg = info1, arg2 = info2, extra = intr_info, rip */
	KT_ENTRY,		/* kvm_entry: reason = immediate_exit */
	KT_USERSPACE_EXIT,	/* kvm_userspace_exit: KVM_RUN returns to user space; reason, extra = errno (negative) */
	KT_VCPU_WAKEUP,		/* kvm_vcpu_wakeup: arg = ns, reason = waited */
	KT_FPU_LOAD,		/* kvm_fpu, load = 1: user space has called KVM_RUN */
	KT_SCHED_OUT,		/* sched_switch away from the thread: reason = prev_state */
	KT_SCHED_IN,		/* sched_switch to the thread */
	KT_WAKING,		/* sched_waking of the thread, by whatever thread */
	KT_IRQ_ENTRY,		/* a handler begins on the thread's time: reason = enum kt_host_irq, arg = its number */
	KT_IRQ_EXIT,		/* a handler ends */
	KT_MSR,			/* kvm_msr: arg = index, reason = 1 for a write */
	KT_MMIO,		/* kvm_mmio: arg = gpa, reason = 0 read begun, 1 read, 2 write; extra = bytes */
	KT_FAST_MMIO,		/* kvm_fast_mmio: arg = gpa */
	KT_CPUID,		/* kvm_cpuid: arg = leaf */
	KT_HYPERCALL,		/* kvm_hypercall, kvm_hv_hypercall (reason = 1): arg = number */
	KT_INJECT,		/* kvm_inj_virq: reason = vector */
	KT_ACCEPT_IRQ,		/* kvm_apic_accept_irq on the thread's own time: reason = vector */
	KT_VMGEXIT,		/* kvm_vmgexit_enter: arg = exit code of the protected guest */
	KT_NESTED_EXIT,		/* kvm_nested_vmexit: the exit is of a guest's guest */
	KT_NESTED_INJECT,	/* kvm_nested_vmexit_inject: it is reflected to the guest */
	KT_TIMER_VECTOR,	/* the guest's LVTT: reason = vector, extra = enum kt_vector_source */
	KT_IOEVENTFD,		/* what was just written to belongs to an ioeventfd */
	KT_THREAD_END,		/* sched_process_exit of the thread */
	KT_DETAIL,		/* of a kvm_exit that had them not: arg = info1, extra = intr_info (VMX) */
	KT_KINDS,
};

/* kvm_exit's isa field (arch/x86/kvm/trace.h); other values are kept as they are. */
enum kt_isa { KT_ISA_NONE, KT_ISA_VMX = 1, KT_ISA_SVM = 2 };

/* Which events feed a slot: a state that needs an event which is not there is merged with its neighbours. */
enum kt_feature {
	KT_HAS_WAKEUP = 1,		/* kvm_vcpu_wakeup: else handling, polling and waiting of HLT are halt_wait */
	KT_HAS_USERSPACE_EXIT = 2,	/* kvm_userspace_exit: else user space is kernel */
	KT_HAS_FPU = 4,			/* kvm_fpu: else KVM_RUN's way in belongs to user space */
	KT_HAS_SWITCH = 8,		/* sched_switch: else off-CPU time stays where it falls */
	KT_HAS_WAKING = 16,		/* sched_waking: else wake latency stays with the waiting */
	KT_HAS_IRQ = 32,		/* handlers of host interrupts: else they stay where they fall */
	KT_HAS_RUN_DELAY = 64,		/* without sched_switch: run_delay is preempted and wake latency in one */
};

/* Whose handler runs in host_interrupt. */
enum kt_host_irq {
	KT_HOST_IRQ_OTHER,
	KT_HOST_IRQ_TIMER,	/* irq_vectors:local_timer_entry */
	KT_HOST_IRQ_IPI,	/* reschedule, call_function, call_function_single, irq_work */
	KT_HOST_IRQ_DEVICE,	/* irq:irq_handler_entry: the number is the IRQ's */
	KT_HOST_IRQ_SOFT,	/* irq:softirq_entry: the number is the softirq's */
};

/* Where a guest's timer vector is known from. */
enum kt_vector_source { KT_VECTOR_UNKNOWN, KT_VECTOR_READ, KT_VECTOR_WRITTEN };

/* What the subject of an exit's key is. */
enum kt_key_kind {
	KT_KEY_NONE,		/* the reason says all there is */
	KT_KEY_MSR,		/* index; KT_WRITE */
	KT_KEY_PORT,		/* port; KT_WRITE, size */
	KT_KEY_MMIO,		/* guest-physical address of the page; KT_WRITE, size */
	KT_KEY_APIC,		/* offset in the local APIC's page; KT_WRITE */
	KT_KEY_FAULT,		/* on memory: no subject; KT_WRITE, KT_PRESENT, KT_FETCH, KT_BLOCKED */
	KT_KEY_VECTOR,		/* of the exception, of the host's interrupt, of what is injected */
	KT_KEY_IRQ,		/* the host's IRQ number */
	KT_KEY_CPUID,		/* leaf */
	KT_KEY_CR,		/* number; KT_WRITE */
	KT_KEY_DR,		/* number; KT_WRITE */
	KT_KEY_HYPERCALL,	/* number */
	KT_KEY_HV_HYPERCALL,	/* Hyper-V's call code */
	KT_KEY_VMGEXIT,		/* the protected guest's exit code */
	KT_KEY_KINDS,
};

/* Facts about an exit that its class needs. */
enum kt_trait {
	KT_WRITE = 1 << 0,
	KT_PRESENT = 1 << 1,		/* a fault on a page that is mapped */
	KT_FETCH = 1 << 2,		/* a fault of fetching instructions */
	KT_BLOCKED = 1 << 3,		/* a fault in which the kernel slept for more than 50 us */
	KT_INJECTED = 1 << 4,		/* an interrupt exit that ended with an injection */
	KT_INJECTED_TIMER = 1 << 5,	/* the same, of the guest's timer vector */
	KT_HOST_TIMER = 1 << 6,		/* an interrupt exit with the host's timer interrupt */
	KT_HOST_IPI = 1 << 7,		/* with an IPI between the host's CPUs */
	KT_HOST_DEVICE = 1 << 8,	/* with a device's interrupt */
	KT_IMMEDIATE = 1 << 9,		/* the entry before asked for an immediate exit */
	KT_IN_IOEVENTFD = 1 << 10,	/* an ioeventfd took it */
	KT_FROM_L2 = 1 << 11,		/* the guest's guest exited */
	KT_REFLECTED = 1 << 12,		/* and the guest has to handle it */
	KT_HIDDEN = 1 << 13,		/* registers are encrypted: the subject cannot be known */
	KT_BUS_LOCK = 1 << 14,		/* VMX: bit 26 of the exit reason */
	KT_ENTRY_FAILED = 1 << 15,	/* VMX: bit 31 of the exit reason */
	KT_TIMER_KNOWN = 1 << 16,	/* an interrupt exit while the guest's timer vector was known */
};

/* A fault in which the kernel slept for longer than this waited for its page. */
#define KT_BLOCKED_NS 50000

/* What an exit was about. Its class is a function of this alone. 24 bytes. */
struct kt_key {
	__u64 subject;		/* KT_NO_SUBJECT: not seen */
	__u32 reason;		/* kvm_exit's exit_reason */
	__u32 traits;		/* enum kt_trait */
	__u8 isa;		/* enum kt_isa */
	__u8 kind;		/* enum kt_key_kind */
	__u8 size;		/* bytes accessed; 0: not known or none */
	__u8 userspace;		/* KVM_EXIT_... plus 1 (of the last return to user space); 0: it stayed in the kernel */
	__u32 reserved;
};
#define KT_NO_SUBJECT 0xffffffffffffffffULL

/* One event as the replay and the tests feed it, and as --events=raw records it. 64 bytes. */
struct kt_event {
	__u64 time_ns;
	__u64 arg;
	__u64 arg2;
	__u64 rip;		/* of an exit; 0: the source does not say */
	__u64 run_delay_ns;	/* the thread's sched_info.run_delay plus 1; 0: not read */
	__u32 tid;
	__u32 tgid;		/* 0: the source does not say */
	__u32 reason;
	__u32 extra;
	__u32 cpu;
	__u16 vcpu;		/* KT_NO_VCPU: the source does not say */
	__u8 kind;		/* enum kt_kind */
	__u8 isa;		/* enum kt_isa */
};
#define KT_NO_VCPU 0xffff

/* One finished exit, as --events records it. 128 bytes. */
struct kt_exit_record {
	__u64 start_ns;		/* kvm_exit */
	__u64 total_ns;		/* up to kvm_entry; what the states below do not sum to is unknown */
	__u64 kernel_ns;
	__u64 qemu_ns;
	__u64 halt_poll_ns;
	__u64 halt_wait_ns;
	__u64 host_interrupt_ns;
	__u64 qemu_blocked_ns;
	__u64 kernel_blocked_ns;
	__u64 wake_latency_ns;
	__u64 preempted_ns;
	__u64 stopped_ns;
	__u64 subject;		/* struct kt_key, field by field */
	__u32 thread;		/* serial of the vCPU thread, see kt_slot */
	__u32 reason;
	__u32 traits;
	__u16 cpu;		/* where the entry happened */
	__u8 isa;
	__u8 key_kind;
	__u8 size;
	__u8 userspace;
	__u8 reserved[6];
};

/*
 * One vCPU thread. Written by that thread alone; `sequence` is odd while a step is under way, which a reader takes as
 * "copy again" and a program that interrupts another on the same CPU as "hands off".
 */
struct kt_slot {
	__u32 sequence;
	__u32 thread;		/* serial, from 1 on, never used twice in a recording; 0: the slot is free */
	__u32 tid;
	__u32 tgid;
	__u32 first_row;	/* head of the chain of this thread's rows; 0: none */
	__u32 first_key;	/* head of the chain of its key rows; 0: none */
	__u32 reserved0;
	__u32 epoch;		/* kt_control.epoch at the last step */
	__u32 reason;		/* of the open exit */
	__u16 vcpu;
	__u8 isa;
	__u8 state;		/* enum kt_state: where the time since since_ns goes */
	__u8 in_exit;		/* an exit is open */
	__u8 features;		/* enum kt_feature */
	__u8 ended;		/* sched_process_exit was seen */
	__u8 base;		/* enum kt_state: what the thread does when it is on CPU and in no handler */
	__u8 off;		/* not on CPU */
	__u8 irq_depth;		/* handlers of host interrupts that are open */
	__u8 pending;		/* the open exit began with an interrupt or a switch; kvm_exit is still to name it */
	__u8 provisional;	/* enum kt_state + 1: where HLT's time on CPU is booked until kvm_vcpu_wakeup divides it */
	__u8 resumed;		/* user space has called KVM_RUN again, and there was no entry yet */
	__u8 immediate;		/* the last entry, which no exit followed yet, asked for an immediate exit */
	__u8 timer_vector;	/* the guest's LVTT; 0: not known */
	__u8 timer_source;	/* enum kt_vector_source */
	__u8 slept;		/* it slept since mark_ns: what follows is no polling */
	__u8 user_halt;		/* user space sleeps in HLT's place: there is no interrupt controller in the kernel */
	__u8 delay_cut;		/* run_delay_ns is from before a gap */
	__u8 reserved;
	__u64 first_ns;		/* when the slot was taken */
	__u64 since_ns;		/* when the current state began */
	__u64 exit_ns;		/* when the open exit began */
	__u64 wake_ns;		/* when the thread was last woken: the one word that other threads write */
	__u64 on_ns;		/* when it last came on CPU */
	__u64 mark_ns;		/* from when on provisional_ns was booked */
	__u64 provisional_ns;
	__u64 run_delay_ns;	/* sched_info.run_delay plus 1, at the last step that read it; 0: none did */
	__u64 first_run_delay_ns;	/* and at the first one */
	__u64 delay_ns;		/* run_delay that is not booked yet, where there are no sched events */
	__u64 steps;		/* events taken, but wakings */
	__u64 exits;		/* kvm_exit events */
	__u64 entries;		/* kvm_entry events */
	__u64 finished;		/* exits followed by an entry */
	__u64 unpaired_exits;	/* exits followed by another exit, or cut by a gap */
	__u64 unpaired_entries;	/* entries not preceded by an exit */
	__u64 userspace_exits;
	__u64 wakeups;
	__u64 halts;		/* exits by kind, to compare with vcpu->stat: halt_exits, */
	__u64 interrupts;	/* irq_exits, */
	__u64 windows;		/* irq_window_exits, */
	__u64 ports;		/* io_exits */
	__u64 switches;		/* off CPU and on again */
	__u64 missed_switches;	/* an event on CPU while off it, or the other way round */
	__u64 missed_wakings;	/* sleeps that nobody was seen to end */
	__u64 missed;		/* events that found the slot busy */
	__u64 missed_interrupts;	/* of these not counted there: the host's interrupts, whose time stays in what they interrupted */
	__u64 backwards;	/* events older than their predecessor */
	__u64 overflow_exits;	/* finished exits that found no free row */
	__u64 overflow_ns;
	__u64 overflow_keys;	/* finished exits whose key found no free row */
	__u64 overflow_keys_ns;
	__u64 state_ns[KT_STATE_SLOTS];		/* closed intervals; the open one is (state, since_ns) */
	__u64 exit_state_ns[KT_STATE_SLOTS];	/* of the open exit */
	struct kt_key key;			/* of the open exit */
	char comm[16];		/* the thread's name when the slot was taken, NUL-padded */
};

/* The account of one (thread, isa, reason). */
struct kt_row {
	__u64 finished;
	__u64 unpaired;
	__u64 total_ns;		/* of the finished ones */
	__u64 min_ns;
	__u64 max_ns;
	__u32 thread;		/* 0: free */
	__u32 slot;
	__u32 reason;
	__u32 isa;
	__u32 next;		/* chain of the same thread; 0: end */
	__u32 reserved;
	__u64 state_ns[KT_STATES];
	__u32 buckets[KT_BUCKETS];	/* of total_ns per exit */
};

/* The account of one key of one thread. */
struct kt_key_row {
	struct kt_key key;
	__u64 finished;
	__u64 total_ns;
	__u64 max_ns;
	__u32 thread;		/* 0: free */
	__u32 slot;
	__u32 next;		/* chain of the same thread; 0: end */
	__u32 reserved;
	__u64 state_ns[KT_STATES];
};
#endif
