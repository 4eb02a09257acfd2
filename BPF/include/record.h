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

/* The kinds of events that move the machine. */
enum kt_kind {
	KT_EXIT,		/* kvm_exit: isa, reason */
	KT_ENTRY,		/* kvm_entry */
	KT_USERSPACE_EXIT,	/* kvm_userspace_exit: KVM_RUN returns to user space */
	KT_VCPU_WAKEUP,		/* kvm_vcpu_wakeup: arg = ns, reason = waited */
	KT_KINDS,
};

/* kvm_exit's isa field (arch/x86/kvm/trace.h); other values are kept as they are. */
enum kt_isa { KT_ISA_NONE, KT_ISA_VMX = 1, KT_ISA_SVM = 2 };

/* Slot features: which events feed it, so that a state can be told from its merged form. */
enum kt_feature { KT_HAS_WAKEUP = 1, KT_HAS_USERSPACE_EXIT = 2 };

/* One event as the replay and the tests feed it. 40 bytes. */
struct kt_event {
	__u64 time_ns;
	__u64 arg;
	__u32 tid;
	__u32 tgid;	/* 0: the source does not say */
	__u32 reason;
	__u16 vcpu;	/* KT_NO_VCPU: the source does not say */
	__u8 kind;	/* enum kt_kind */
	__u8 isa;	/* enum kt_isa */
	__u32 cpu;
	__u32 reserved;
};
#define KT_NO_VCPU 0xffff

/* One finished exit, as --events records it. 64 bytes. */
struct kt_exit_record {
	__u64 start_ns;		/* kvm_exit */
	__u64 total_ns;		/* up to kvm_entry; equals the sum of the four below */
	__u64 kernel_ns;
	__u64 qemu_ns;
	__u64 halt_poll_ns;
	__u64 halt_wait_ns;
	__u32 thread;		/* serial of the vCPU thread, see kt_slot */
	__u32 reason;
	__u16 cpu;		/* where the entry happened */
	__u8 isa;
	__u8 reserved[5];
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
	__u32 epoch;		/* kt_control.epoch at the last step */
	__u32 reason;		/* of the open exit */
	__u16 vcpu;
	__u8 isa;
	__u8 state;		/* enum kt_state: where the time since since_ns goes */
	__u8 in_exit;		/* an exit is open */
	__u8 features;		/* enum kt_feature */
	__u8 ended;		/* sched_process_exit was seen */
	__u8 reserved[5];
	__u64 first_ns;		/* when the slot was taken */
	__u64 since_ns;		/* when the current state began */
	__u64 exit_ns;		/* when the open exit began */
	__u64 steps;		/* events taken */
	__u64 exits;		/* kvm_exit events */
	__u64 entries;		/* kvm_entry events */
	__u64 finished;		/* exits followed by an entry */
	__u64 unpaired_exits;	/* exits followed by another exit, or cut by a gap */
	__u64 unpaired_entries;	/* entries not preceded by an exit */
	__u64 userspace_exits;
	__u64 wakeups;
	__u64 missed;		/* events that found the slot busy */
	__u64 backwards;	/* events older than their predecessor */
	__u64 overflow_exits;	/* finished exits that found no free row */
	__u64 overflow_ns;
	__u64 state_ns[KT_STATE_SLOTS];		/* closed intervals; the open one is (state, since_ns) */
	__u64 exit_state_ns[KT_STATE_SLOTS];	/* of the open exit */
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
#endif
