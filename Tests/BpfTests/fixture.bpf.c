// SPDX-License-Identifier: GPL-2.0-only OR MIT
/* One of each kind of thing that the module Bpf handles. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "Dual MIT/GPL";

#define FIELD(context, type, number) (*(volatile type *)((volatile char *)(context) + 0x4000 + 16 * (number)))

struct element {
	__u64 first;
	__u32 second;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 3);
	__type(key, __u32);
	__type(value, struct element);
} elements SEC(".maps");

/* 12 bytes per value, 16 per element in memory */
struct odd {
	__u32 words[3];
};
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 5);
	__type(key, __u32);
	__type(value, struct odd);
} odds SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_QUEUE);
	__uint(max_entries, 4);
	__uint(value_size, sizeof(__u32));
} queue SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u64);
} counters SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8);
	__type(key, __u32);
	__type(value, __u64);
} table SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 4);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(__u32));
} rings SEC(".maps");

const volatile __u32 own_tgid;
const volatile __u64 factor = 1;

__u64 fields[8];
__u64 matches;
__u32 popped;
__u64 lost;

/* Moves every number of the queue into ring number % 4, times the factor. */
SEC("syscall") int shovel(void *context)
{
	__u32 number = 0, one = 1;

	for (int i = 0; i < 4; i++) {
		__u32 index;
		__u64 record, *counter;
		void *ring;

		if (bpf_map_pop_elem(&queue, &number)) break;
		popped++;
		counter = bpf_map_lookup_elem(&counters, &one);
		if (counter) (*counter)++;
		index = number % 4;
		record = number * factor;
		ring = bpf_map_lookup_elem(&rings, &index);
		if (!ring || bpf_ringbuf_output(ring, &record, sizeof record, 0)) lost++;
	}
	return 7;
}

/* Reads the fields of system calls of this process with a marked third argument. */
SEC("tp/raw_syscalls/sys_enter") int reads_fields(void *context)
{
	__u64 mark;

	if (bpf_get_current_pid_tgid() >> 32 != own_tgid) return 0;
	mark = FIELD(context, __u64, 7);
	if (mark != 0x5ca1ab1e) return 0;
	fields[0] = FIELD(context, __u64, 0);
	fields[1] = FIELD(context, __u64, 1);
	fields[2] = FIELD(context, __u64, 2);
	fields[3] = FIELD(context, __u64, 3);
	fields[4] = FIELD(context, __u64, 4);
	fields[5] = FIELD(context, __u64, 5);
	fields[6] = FIELD(context, __u32, 6);
	matches++;
	return 0;
}

SEC("tp/kvm/kvm_userspace_exit") int on_userspace_exit(void *context)
{
	if (bpf_get_current_pid_tgid() >> 32 == own_tgid) matches++;
	return 0;
}
