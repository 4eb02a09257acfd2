/* What the tracer tells its BPF programs while they run, and what they tell it. */
#ifndef KVMTAX_CONTROL_H
#define KVMTAX_CONTROL_H
#include <linux/types.h>

/* Programs that find the heartbeat older than this go quiet: a stopped or dead consumer must cost almost nothing. */
#define KT_HEARTBEAT_LIMIT_NS 10000000000ULL

/* Rings for event records: one per group of CPUs. */
#define KT_MAX_RINGS 32
/* Highest CPU number the ring table covers; higher ones share rings. */
#define KT_MAX_CPUS 4096

/* Shared memory, one element; user space writes, programs read. */
struct kt_control {
	/* CLOCK_MONOTONIC, written at least once a second; 0: not yet, or no more: all programs begin and end at one moment */
	__u64 heartbeat_ns;
	__u64 gap_ns;		/* when the programs last went quiet; valid from epoch 1 on */
	__u32 epoch;		/* counts the gaps; written before heartbeat_ns */
	__u32 events;		/* enum kt_records: what is written to the rings */
	__u32 filtered;		/* 1: only processes in the map `processes` are traced */
	__u32 own_tgid;		/* the tracer's own process is not traced (0: it is) */
	__u32 features;		/* enum kt_feature: which programs are attached */
	__u32 keys;		/* 1: keep an account per key */
	__u32 delay_offset;	/* of sched_info.run_delay in task_struct; 0: it is not read */
	__u32 delay_everywhere;	/* 1: it is read at every event, not only at entries, returns to user space, ends */
	__u32 look;		/* counts the looks that a vCPU shall take at its own statistics, at its next entry */
	__u32 reserved;
};

/* What event records are. */
enum kt_records {
	KT_NO_RECORDS,
	KT_EXIT_RECORDS,	/* a kt_exit_record per finished exit */
	KT_RAW_RECORDS,		/* a kt_event per event: the machine's whole input */
};

/* KVM's own statistics of a vCPU (struct kvm_vcpu_stat), as read by its thread at an entry. */
struct kt_counts {
	__u64 exits;
	__u64 halts;		/* halt_exits */
	__u64 interrupts;	/* irq_exits */
	__u64 windows;		/* irq_window_exits */
	__u64 ports;		/* io_exits */
};

/* The first and the last look, with what the slot had counted at that moment. */
struct kt_looks {
	__u32 thread;		/* the slot's serial; 0: no look yet */
	__u32 look;		/* kt_control.look at the last one */
	struct kt_counts first_stat, first_own;
	struct kt_counts last_stat, last_own;
};

/* Per-CPU counters of what could not be recorded. */
enum kt_loss {
	KT_LOST_RECORDS,	/* event records: the ring was full */
	KT_LOST_THREADS,	/* events of threads for which no slot was free */
	KT_LOST_TIDS,		/* events of threads whose tid is beyond the table */
	KT_LOSSES = 4,
};

/* The value of `threads` for a tid that is not to be traced; slot numbers are stored plus one. */
#define KT_IGNORED 0xffffffffU

/* Sent with a wake-up when a vCPU thread is first seen or ends, so that its process can be looked at at once. */
struct kt_notice {
	__u32 thread;
	__u32 slot;
	__u32 tid;
	__u32 tgid;
	__u32 ended;
	__u32 reserved;
};
#endif
