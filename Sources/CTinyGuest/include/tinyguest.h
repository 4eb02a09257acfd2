#pragma once
#include <linux/kvm.h>
#include <stddef.h>
#include <stdint.h>

// What the guest can do, in the order in which it does it.
enum kt_guest_kind {
	KT_GUEST_CPUID,
	KT_GUEST_PORT_OUT,
	KT_GUEST_PORT_IN,
	KT_GUEST_MMIO_WRITE,
	KT_GUEST_MMIO_READ,
	KT_GUEST_RDMSR,
	KT_GUEST_WRMSR,
	KT_GUEST_TOUCH,
	KT_GUEST_HALT,
	KT_GUEST_KINDS
};

// The page that a virtual CPU shares with its host: the host writes `want`, the guest counts in `did`.
struct kt_guest_page {
	uint32_t want[KT_GUEST_KINDS]; // per lap; of KT_GUEST_HALT those between the first and the last
	uint32_t did[KT_GUEST_KINDS];
	uint32_t done;      // set before the halt that ends a lap
	uint32_t next_page; // address of the next page to touch
	uint32_t mmio;      // address without memory behind it
};

// Where the guest writes and reads: a serial port's data and line status registers.
#define KT_GUEST_OUT_PORT 0x3f8
#define KT_GUEST_IN_PORT 0x3fd

// The guest's code: 32-bit, flat, without paging, position independent. It starts at its first byte, with %ebp the
// address of its struct kt_guest_page.
const void *kt_guest_code(void);
size_t kt_guest_code_size(void);

// fork(2), which Swift hides; only for a process with a single thread.
int kt_guest_fork(void);

// Names the calling thread and returns its id: both need _GNU_SOURCE, which Swift's Glibc does not set.
int kt_guest_name_thread(const char *name);

// Requests of /dev/kvm that are macros in the kernel's header.
static const unsigned long kt_kvm_get_api_version = KVM_GET_API_VERSION;
static const unsigned long kt_kvm_create_vm = KVM_CREATE_VM;
static const unsigned long kt_kvm_get_vcpu_mmap_size = KVM_GET_VCPU_MMAP_SIZE;
static const unsigned long kt_kvm_get_supported_cpuid = KVM_GET_SUPPORTED_CPUID;
static const unsigned long kt_kvm_set_tss_addr = KVM_SET_TSS_ADDR;
static const unsigned long kt_kvm_set_user_memory_region = KVM_SET_USER_MEMORY_REGION;
static const unsigned long kt_kvm_create_vcpu = KVM_CREATE_VCPU;
static const unsigned long kt_kvm_set_cpuid2 = KVM_SET_CPUID2;
static const unsigned long kt_kvm_get_sregs = KVM_GET_SREGS;
static const unsigned long kt_kvm_set_sregs = KVM_SET_SREGS;
static const unsigned long kt_kvm_set_regs = KVM_SET_REGS;
static const unsigned long kt_kvm_get_regs = KVM_GET_REGS;
static const unsigned long kt_kvm_run = KVM_RUN;
