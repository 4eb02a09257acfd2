#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
/* BTF_KIND_* are enum constants and macros at once, which Swift finds ambiguous. */
static const unsigned int cbpf_kind_datasec = BTF_KIND_DATASEC;
static const unsigned int cbpf_kind_typedef = BTF_KIND_TYPEDEF;
static const unsigned int cbpf_kind_struct = BTF_KIND_STRUCT;
