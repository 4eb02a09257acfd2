/* Umbrella of the C target CKvmtax: what BPF programs and Swift share. */
#ifndef KVMTAX_H
#define KVMTAX_H
#include "accounts.h"
#include "buckets.h"
#include "calibrate.h"
#include "control.h"
#include "fields.h"
#include "machine.h"
#include "record.h"

#ifndef __bpf__
#include <linux/falloc.h>
#include <string.h>

/*
 * Copies a slot that its own thread may be changing: 0 when every attempt met a step under way (the thread may have been
 * interrupted inside one; try again later).
 */
static inline int kt_copy_slot(const struct kt_slot *slot, struct kt_slot *copy)
{
	for (int attempt = 0; attempt < 64; attempt++) {
		__u32 before = __atomic_load_n(&slot->sequence, __ATOMIC_ACQUIRE);

		if (before & 1) continue;
		memcpy(copy, slot, sizeof *copy);
		__atomic_thread_fence(__ATOMIC_ACQUIRE);
		if (__atomic_load_n(&slot->sequence, __ATOMIC_RELAXED) == before) return 1;
	}
	return 0;
}

/* The sequence alone, to see whether anything changed since a copy. */
static inline __u32 kt_slot_sequence(const struct kt_slot *slot)
{
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	return __atomic_load_n(&slot->sequence, __ATOMIC_RELAXED);
}

/* Ordered stores: programs that see the new heartbeat must also see the gap that it ends. */
static inline void kt_store_heartbeat(struct kt_control *control, __u64 now_ns)
{
	__atomic_store_n(&control->heartbeat_ns, now_ns, __ATOMIC_RELEASE);
}

static inline void kt_store_gap(struct kt_control *control, __u64 gap_ns)
{
	__atomic_store_n(&control->gap_ns, gap_ns, __ATOMIC_RELEASE);
	__atomic_store_n(&control->epoch, control->epoch + 1, __ATOMIC_RELEASE);
}

/* Clears a thread's entry if it still names the slot: a program may just give the tid to a new thread. */
static inline void kt_forget_thread(__u32 *entry, __u32 slot_plus_one)
{
	__atomic_compare_exchange_n(entry, &slot_plus_one, 0, 0, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
}

/* Array members as pointers: Swift imports C arrays as tuples, which cannot be indexed. */
static inline const __u64 *kt_slot_state_ns(const struct kt_slot *slot) { return slot->state_ns; }
static inline const __u64 *kt_row_state_ns(const struct kt_row *row) { return row->state_ns; }
static inline const __u32 *kt_row_buckets(const struct kt_row *row) { return row->buckets; }
static inline const __u64 *kt_key_row_state_ns(const struct kt_key_row *row) { return row->state_ns; }
static inline __u64 *kt_key_row_mutable_state_ns(struct kt_key_row *row) { return row->state_ns; }
static inline __u64 *kt_slot_mutable_state_ns(struct kt_slot *slot) { return slot->state_ns; }
static inline __u64 *kt_row_mutable_state_ns(struct kt_row *row) { return row->state_ns; }
static inline __u32 *kt_row_mutable_buckets(struct kt_row *row) { return row->buckets; }

/* The time stamp counter; 0 where there is none. */
static inline __u64 kt_tsc(void)
{
#ifdef __x86_64__
	return __builtin_ia32_rdtsc();
#else
	return 0;
#endif
}

/*
 * Asks the file system for room beyond the end of a file, which keeps its length: fallocate(2), which Swift's Glibc does
 * not show. 0, or -1 with errno.
 */
int fallocate(int file, int mode, long offset, long length);
static inline int kt_claim_room(int file, __u64 offset, __u64 length)
{
	return fallocate(file, FALLOC_FL_KEEP_SIZE, (long)offset, (long)length);
}

#ifdef __x86_64__
#include <cpuid.h>

/* Whether the CPU has the crc32 instruction, which computes CRC32C. */
static inline int kt_has_crc32c(void)
{
	unsigned eax, ebx, ecx = 0, edx;

	return __get_cpuid(1, &eax, &ebx, &ecx, &edx) && (ecx & bit_SSE4_2);
}

/* CRC32C of more bytes by that instruction; state in, state out, neither inverted. */
__attribute__((target("sse4.2"))) static inline __u32 kt_crc32c(__u32 state, const void *bytes, __u64 count)
{
	const unsigned char *byte = bytes;
	__u64 wide = state;

	for (; count >= 8; count -= 8, byte += 8) {
		__u64 word;

		memcpy(&word, byte, 8);
		wide = __builtin_ia32_crc32di(wide, word);
	}
	for (; count > 0; count--) wide = __builtin_ia32_crc32qi((__u32)wide, *byte++);
	return (__u32)wide;
}
#else
static inline int kt_has_crc32c(void) { return 0; }
static inline __u32 kt_crc32c(__u32 state, const void *bytes, __u64 count) { return state; }
#endif
#endif
#endif
