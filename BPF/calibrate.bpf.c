// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * What a calibration attaches beside the tracer's programs: a stopwatch, as little as can be between kvm_exit and
 * kvm_entry, and a delay of known size. Raw tracepoints, without arguments: the same on every kernel.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "calibrate.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

/* The thread that is timed; 0: none. */
__u32 timed_tid;
/* Spans so far; beyond the array's size the first ones are lost. */
__u32 span_count;
/* When the open exit began; 0: none is open. */
__u64 exit_ns;
/* Turns of the delay's loop. */
__u32 delay_steps;
/* What the loop computes, so that it is not left out. */
__u64 delay_result;
/* How long the loop took when it was timed alone, ns. */
__u64 delay_ns;

struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(map_flags, BPF_F_MMAPABLE); __uint(max_entries, KT_SPANS);
	__type(key, __u32); __type(value, __u64); } spans SEC(".maps");

/* Nothing comes after the time is read at the exit, and nothing before it at the entry. */
static __always_inline int start(void)
{
	if ((__u32)bpf_get_current_pid_tgid() == timed_tid) exit_ns = bpf_ktime_get_ns();
	return 0;
}

static __always_inline int stop(void)
{
	__u64 now_ns = bpf_ktime_get_ns(), *span;
	__u32 place;

	if ((__u32)bpf_get_current_pid_tgid() != timed_tid || !exit_ns) return 0;
	place = span_count & (KT_SPANS - 1);
	span = bpf_map_lookup_elem(&spans, &place);
	if (span) *span = now_ns - exit_ns;
	span_count++;
	exit_ns = 0;
	return 0;
}

SEC("raw_tp/kvm_exit") int stopwatch_exit(void *context) { return start(); }
SEC("raw_tp/kvm_entry") int stopwatch_entry(void *context) { return stop(); }

/* A bounded loop that the verifier of 5.10 can follow to its end: two instructions a turn and the loop's own. */
static __always_inline void wait_steps(void)
{
	__u32 steps = delay_steps;
	__u64 value = delay_result;

	for (__u32 turn = 0; turn < KT_DELAY_STEPS; turn++) {
		if (turn >= steps) break;
		value = value * 5 + 1;
		__asm__ volatile("" : "+r"(value));
	}
	delay_result = value;
}

static __always_inline int delay(void)
{
	if ((__u32)bpf_get_current_pid_tgid() == timed_tid) wait_steps();
	return 0;
}

SEC("raw_tp/kvm_exit") int delay_exit(void *context) { return delay(); }
SEC("raw_tp/kvm_entry") int delay_entry(void *context) { return delay(); }

/* The loop by itself: not attached, but run from user space, which raw tracepoint programs can be since 5.10. */
SEC("raw_tp/kvm_exit") int time_delay(void *context)
{
	__u64 start_ns = bpf_ktime_get_ns();

	wait_steps();
	delay_ns = bpf_ktime_get_ns() - start_ns;
	return 0;
}

/* The proxy pair, see kvm.bpf.c. kvm_fpu(int load). */
SEC("raw_tp/kvm_userspace_exit") int stopwatch_proxy_exit(void *context) { return start(); }
SEC("raw_tp/kvm_fpu") int stopwatch_proxy_entry(struct bpf_raw_tracepoint_args *context)
{
	return context->args[0] ? stop() : 0;
}
SEC("raw_tp/kvm_userspace_exit") int delay_proxy_exit(void *context) { return delay(); }
SEC("raw_tp/kvm_fpu") int delay_proxy_entry(struct bpf_raw_tracepoint_args *context)
{
	return context->args[0] ? delay() : 0;
}
