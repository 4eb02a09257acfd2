#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "kvmtax.h"
char LICENSE[] SEC("license") = "Dual MIT/GPL";
