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
	__u32 events;		/* 1: write a kt_exit_record per finished exit */
	__u32 filtered;		/* 1: only processes in the map `processes` are traced */
	__u32 own_tgid;		/* the tracer's own process is not traced (0: it is) */
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
