#pragma once
// What the guest's assembler (guest.S) and its host share.

// What the guest can do, in the order in which it does it.
#define KT_GUEST_CPUID 0
#define KT_GUEST_PORT_OUT 1
#define KT_GUEST_PORT_IN 2
#define KT_GUEST_MMIO_WRITE 3
#define KT_GUEST_MMIO_READ 4
#define KT_GUEST_RDMSR 5
#define KT_GUEST_WRMSR 6
#define KT_GUEST_HYPERCALL 7
#define KT_GUEST_PAUSE 8
#define KT_GUEST_PORT_IN_SPIN 9
#define KT_GUEST_PORT_IN_SLEEP 10
#define KT_GUEST_RDTSC_SPIN 11
#define KT_GUEST_TOUCH 12
#define KT_GUEST_TOUCH_DELAYED 13
#define KT_GUEST_ARM 14
#define KT_GUEST_DEADLINE 15
#define KT_GUEST_ONESHOT 16
#define KT_GUEST_PERIODIC 17
#define KT_GUEST_IPI 18
#define KT_GUEST_HALT 19
#define KT_GUEST_KINDS 20

// Where the guest writes and reads: a serial port's data and line status registers.
#define KT_GUEST_OUT_PORT 0x3f8
#define KT_GUEST_IN_PORT 0x3fd
// With an interrupt controller, HLT stays in the kernel: "ready" and "lap done" are said here.
#define KT_GUEST_CONTROL_PORT 0x500
// Read: answered after the host has spun, or slept.
#define KT_GUEST_SPIN_PORT 0x501
#define KT_GUEST_SLEEP_PORT 0x502
// What is said on the control port.
#define KT_GUEST_SAYS_PAUSED 0
#define KT_GUEST_SAYS_EXCEPTION 1

// Interrupt vectors.
#define KT_GUEST_TIMER_VECTOR 0x40
#define KT_GUEST_IPI_VECTOR 0x41
#define KT_GUEST_SPURIOUS_VECTOR 0xff

// The page of tables: the IDT, the GDT, and a word that the guest writes so that the page is mapped.
#define KT_GUEST_GDT 0x800
#define KT_GUEST_TABLES_SCRATCH 0xff0

// Offsets in struct kt_guest_page as the assembler needs them; guest.c checks them.
#define KT_PAGE_DID (4 * KT_GUEST_KINDS)
#define KT_PAGE_TIMER_TSC (8 * KT_GUEST_KINDS)
#define KT_PAGE_SPIN_TSC (KT_PAGE_TIMER_TSC + 8)
#define KT_PAGE_BEGIN_TSC (KT_PAGE_TIMER_TSC + 16)
#define KT_PAGE_SPUN_TSC (KT_PAGE_TIMER_TSC + 24)
#define KT_PAGE_DEADLINE_TSC (KT_PAGE_TIMER_TSC + 32)
#define KT_PAGE_ONESHOT_TSC (KT_PAGE_TIMER_TSC + 40)
#define KT_PAGE_DONE (KT_PAGE_TIMER_TSC + 48)
#define KT_PAGE_NEXT_PAGE (KT_PAGE_DONE + 4)
#define KT_PAGE_NEXT_DELAYED (KT_PAGE_DONE + 8)
#define KT_PAGE_MMIO (KT_PAGE_DONE + 12)
#define KT_PAGE_IS_AMD (KT_PAGE_DONE + 16)
#define KT_PAGE_HAS_IRQCHIP (KT_PAGE_DONE + 20)
#define KT_PAGE_TABLES (KT_PAGE_DONE + 24)
#define KT_PAGE_TIMER_NS (KT_PAGE_DONE + 28)
#define KT_PAGE_IPI_TARGET (KT_PAGE_DONE + 32)
#define KT_PAGE_IPI_FIRST (KT_PAGE_DONE + 36)
#define KT_PAGE_FIRED (KT_PAGE_DONE + 40)
#define KT_PAGE_TICKS_LEFT (KT_PAGE_DONE + 44)
#define KT_PAGE_IPIS (KT_PAGE_DONE + 48)
#define KT_PAGE_OWN_RDMSR (KT_PAGE_DONE + 52)
#define KT_PAGE_OWN_WRMSR (KT_PAGE_DONE + 56)
#define KT_PAGE_OWN_OUT (KT_PAGE_DONE + 60)
#define KT_PAGE_INTERRUPTS (KT_PAGE_DONE + 64)
#define KT_PAGE_SAMPLES (KT_PAGE_DONE + 68)
#define KT_PAGE_NEXT_SAMPLE (KT_PAGE_DONE + 72)

#ifndef __ASSEMBLER__
#include <linux/kvm.h>
#include <stddef.h>
#include <stdint.h>

// The page that a virtual CPU shares with its host: the host writes what it wants, the guest counts what it did.
struct kt_guest_page {
	uint32_t want[KT_GUEST_KINDS]; // per lap; of KT_GUEST_HALT those between the first and the last
	uint32_t did[KT_GUEST_KINDS];  // of KT_GUEST_HALT: every HLT, whatever for
	uint64_t timer_tsc;            // TSC cycles until a deadline
	uint64_t spin_tsc;             // TSC cycles that a spin lasts
	uint64_t begin_tsc;            // when the guest began to wait or to spin
	uint64_t spun_tsc;             // sums of TSC cycles: spins,
	uint64_t deadline_tsc;         // from before HLT until after it, of deadlines
	uint64_t oneshot_tsc;          // and of one-shot timers
	uint32_t done;                 // set before the pause that ends a lap
	uint32_t next_page;            // address of the next page to touch
	uint32_t next_delayed;         // address of the next page that comes late
	uint32_t mmio;                 // address without memory behind it
	uint32_t is_amd;               // VMMCALL instead of VMCALL
	uint32_t has_irqchip;          // interrupts work, and HLT does not come to user space
	uint32_t tables;               // address of the page of tables
	uint32_t timer_ns;             // initial count of the APIC timer, whose bus runs at 1 GHz
	uint32_t ipi_target;           // APIC id of the other one of the pair
	uint32_t ipi_first;            // sends before it waits
	uint32_t fired;                // timer interrupts since it was armed
	uint32_t ticks_left;           // of a periodic timer
	uint32_t ipis;                 // received and not yet answered
	uint32_t own_rdmsr;            // RDMSR, WRMSR and OUT beyond those of `did`: the APIC's set-up, arming, end of
	uint32_t own_wrmsr;            // interrupt, sending, the control port
	uint32_t own_out;
	uint32_t interrupts;           // handled
	uint32_t samples;              // address of the page of samples; 0: nothing is clocked
	uint32_t next_sample;          // address of the next one, uint32_t: TSC cycles
};

// The guest's code: 32-bit, flat, without paging, position independent. It starts at its first byte, with %ebp the
// address of its struct kt_guest_page.
const void *kt_guest_code(void);
size_t kt_guest_code_size(void);

// Where in the code the handlers of interrupts and exceptions begin.
uint32_t kt_guest_timer_handler(void);
uint32_t kt_guest_ipi_handler(void);
uint32_t kt_guest_spurious_handler(void);
uint32_t kt_guest_exception_handler(void);

// fork(2), which Swift hides; only for a process with a single thread.
int kt_guest_fork(void);

// Names the calling thread and returns its id: both need _GNU_SOURCE, which Swift's Glibc does not set.
int kt_guest_name_thread(const char *name);
int kt_guest_thread_id(void);

// Whether the calling thread may run on a CPU; binds it to one. 0 or an errno.
int kt_guest_may_use_cpu(int cpu);
int kt_guest_pin(int cpu);
// The CPU that the calling thread is on, or a negative errno.
int kt_guest_current_cpu(void);

// A userfaultfd for missing pages in a range of memory, or a negative errno.
int kt_guest_userfault_open(void *start, size_t bytes);
// The address of the next missing page (non-blocking), or 0.
uint64_t kt_guest_userfault_next(int descriptor);
// Gives a page, zeroed, and wakes who waits for it. 0 or an errno.
int kt_guest_userfault_fill(int descriptor, uint64_t address);

// A process that stops this one: forked, then waits for a byte; `delay_ns` later sends SIGSTOP, `stop_ns` later SIGCONT.
// Two int64_t come back, CLOCK_MONOTONIC in ns after the one and before the other. May be called with threads: it does
// nothing in the child that a signal handler may not.
struct kt_guest_stopper {
	int pid; // negative: an errno
	int start, report;
};
struct kt_guest_stopper kt_guest_stopper_fork(int64_t delay_ns, int64_t stop_ns);

// Requests of /dev/kvm that are macros in the kernel's header.
static const unsigned long kt_kvm_create_vm = KVM_CREATE_VM;
static const unsigned long kt_kvm_get_vcpu_mmap_size = KVM_GET_VCPU_MMAP_SIZE;
static const unsigned long kt_kvm_get_supported_cpuid = KVM_GET_SUPPORTED_CPUID;
static const unsigned long kt_kvm_set_tss_addr = KVM_SET_TSS_ADDR;
static const unsigned long kt_kvm_set_user_memory_region = KVM_SET_USER_MEMORY_REGION;
static const unsigned long kt_kvm_create_irqchip = KVM_CREATE_IRQCHIP;
static const unsigned long kt_kvm_create_vcpu = KVM_CREATE_VCPU;
static const unsigned long kt_kvm_set_cpuid2 = KVM_SET_CPUID2;
static const unsigned long kt_kvm_get_sregs = KVM_GET_SREGS;
static const unsigned long kt_kvm_set_sregs = KVM_SET_SREGS;
static const unsigned long kt_kvm_set_regs = KVM_SET_REGS;
static const unsigned long kt_kvm_get_regs = KVM_GET_REGS;
static const unsigned long kt_kvm_set_mp_state = KVM_SET_MP_STATE;
static const unsigned long kt_kvm_get_tsc_khz = KVM_GET_TSC_KHZ;
static const unsigned long kt_kvm_get_stats_fd = KVM_GET_STATS_FD;
static const unsigned long kt_kvm_run = KVM_RUN;
#endif
