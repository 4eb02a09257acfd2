/* Histogram buckets: 8 per octave from 64 ns to 17 s (2^6 ... 2^34 ns), one below, one above. Shared by BPF and user space. */
#ifndef KVMTAX_BUCKETS_H
#define KVMTAX_BUCKETS_H
#include <linux/types.h>

#define KT_INLINE static __attribute__((always_inline)) inline

#define KT_BUCKET_FIRST_OCTAVE 6
#define KT_BUCKET_OCTAVES 28
/* bucket 0: below 64 ns; the last: 2^34 ns and more */
#define KT_BUCKETS (KT_BUCKET_OCTAVES * 8 + 2)

/* Position of the highest set bit; BPF has no instruction for it and the header has no loops. */
KT_INLINE __u32 kt_log2(__u64 value)
{
	__u32 bit = 0;

	if (value >> 32) { bit += 32; value >>= 32; }
	if (value >> 16) { bit += 16; value >>= 16; }
	if (value >> 8) { bit += 8; value >>= 8; }
	if (value >> 4) { bit += 4; value >>= 4; }
	if (value >> 2) { bit += 2; value >>= 2; }
	if (value >> 1) bit += 1;
	return bit;
}

/* The bucket of a duration in ns; always below KT_BUCKETS. */
KT_INLINE __u32 kt_bucket(__u64 ns)
{
	__u32 octave;

	if (ns >> KT_BUCKET_FIRST_OCTAVE == 0) return 0;
	if (ns >> (KT_BUCKET_FIRST_OCTAVE + KT_BUCKET_OCTAVES)) return KT_BUCKETS - 1;
	octave = kt_log2(ns);
	return 1 + (octave - KT_BUCKET_FIRST_OCTAVE) * 8 + (__u32)(ns >> (octave - 3) & 7);
}

/* The least duration in ns that falls into a bucket (0 for bucket 0). */
KT_INLINE __u64 kt_bucket_floor(__u32 bucket)
{
	__u32 index;

	if (bucket == 0) return 0;
	if (bucket >= KT_BUCKETS - 1) return 1ULL << (KT_BUCKET_FIRST_OCTAVE + KT_BUCKET_OCTAVES);
	index = bucket - 1;
	return (8ULL + (index & 7)) << (index / 8 + KT_BUCKET_FIRST_OCTAVE - 3);
}
#endif
