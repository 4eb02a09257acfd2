/* Compile-time proof that the shared structures look the same to every compiler that uses them. */
#include "kvmtax.h"
#include <stddef.h>

_Static_assert(KT_STATES <= KT_STATE_SLOTS, "states fit their arrays");
_Static_assert(KT_BUCKETS == 226, "28 octaves of 8 buckets, one below, one above");
_Static_assert(sizeof(struct kt_key) == 24, "kt_key");
_Static_assert(sizeof(struct kt_event) == 64, "kt_event");
_Static_assert(sizeof(struct kt_exit_record) == 128, "kt_exit_record");
_Static_assert(offsetof(struct kt_exit_record, thread) == 104, "kt_exit_record.thread");
_Static_assert(sizeof(struct kt_key_row) == 160, "kt_key_row");
_Static_assert(sizeof(((struct kt_row *)0)->buckets) < 1024, "a histogram stays under 1 KiB");
_Static_assert(sizeof(struct kt_control) == 56, "kt_control");
_Static_assert(sizeof(struct kt_notice) == 24, "kt_notice");
