// SPDX-License-Identifier: GPL-2.0-only OR MIT
/* A program that the verifier must refuse, beside some that it takes. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "Dual MIT/GPL";

__u64 seen;

SEC("tp/raw_syscalls/sys_enter") int reads_nowhere(volatile char *context)
{
	seen += *(volatile __u64 *)(context + 0x7000);
	return 0;
}

SEC("tp/raw_syscalls/sys_enter") int is_fine(void *context)
{
	seen++;
	return 0;
}

SEC("tp/raw_syscalls/sys_exit") int is_fine_too(void *context)
{
	seen++;
	return 0;
}

SEC("tp/kvmtax_no_such/event") int has_no_event(void *context)
{
	seen++;
	return 0;
}
