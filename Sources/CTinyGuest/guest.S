// The guest. %ebp is the address of its struct kt_guest_page throughout; interrupts are off but where it waits for them.
// Every instruction that exits is counted before or after it, and none is executed uncounted: no PAUSE in loops that wait.
#include "include/tinyguest.h"

#define WANT(kind) 4*kind(%ebp)
#define DID(kind) (KT_PAGE_DID+4*kind)(%ebp)
#define PAGE(field) KT_PAGE_##field(%ebp)
#define PAGE_HIGH(field) (KT_PAGE_##field+4)(%ebp)

// x2APIC registers are MSRs. Intel SDM volume 3, table "Local APIC Register Address Map Supported by x2APIC".
#define APIC_BASE 0x1b
#define APIC_BASE_X2APIC 0xc00
#define APIC_EOI 0x80b
#define APIC_SPURIOUS 0x80f
#define APIC_SPURIOUS_ENABLE 0x100
#define APIC_COMMAND 0x830
#define APIC_COMMAND_ASSERT 0x4000
#define APIC_TIMER 0x832
#define APIC_TIMER_PERIODIC 0x20000
#define APIC_TIMER_DEADLINE 0x40000
#define APIC_TIMER_COUNT 0x838
#define APIC_TIMER_DIVIDE 0x83e
#define APIC_TIMER_DIVIDE_BY_1 0xb
#define TSC_DEADLINE 0x6e0
#define PAT 0x277

// Leaves with %esi the number of times, or not at all: to 9, which ends the deed.
.macro begin kind
	mov WANT(\kind), %esi
	test %esi, %esi
	jz 9f
.endm

// Once more from 1.
.macro again kind
	incl DID(\kind)
	dec %esi
	jnz 1b
.endm

// WRMSR of %edx:%eax, beyond those that were asked for.
.macro own_wrmsr msr
	incl PAGE(OWN_WRMSR)
	mov $\msr, %ecx
	wrmsr
.endm

// The same with a value of 32 bits.
.macro own_wrmsr_value msr, value
	mov \value, %eax
	xor %edx, %edx
	own_wrmsr \msr
.endm

// Comes to user space, and goes on when resumed: "ready", "lap done".
.macro tell_host
	cmpl $0, PAGE(HAS_IRQCHIP)
	jne 7f
	incl DID(KT_GUEST_HALT)
	hlt
	jmp 8f
7:	incl PAGE(OWN_OUT)
	mov $KT_GUEST_CONTROL_PORT, %edx
	mov $KT_GUEST_SAYS_PAUSED, %al
	out %al, %dx
8:
.endm

.macro note_tsc
	rdtsc
	mov %eax, PAGE(BEGIN_TSC)
	mov %edx, PAGE_HIGH(BEGIN_TSC)
.endm

// %edx:%eax = TSC cycles since note_tsc.
.macro since_noted
	rdtsc
	sub PAGE(BEGIN_TSC), %eax
	sbb PAGE_HIGH(BEGIN_TSC), %edx
.endm

// Between these two lies what is clocked; its TSC cycles, those of one RDTSC included, become the next sample. %edi is taken,
// and %eax, %ecx and %edx after it.
.macro clock_begin
	rdtsc
	mov %eax, %edi
.endm

.macro clock_end
	rdtsc
	sub %edi, %eax
	mov PAGE(NEXT_SAMPLE), %ecx
	mov %eax, (%ecx)
	addl $4, PAGE(NEXT_SAMPLE)
.endm

// HLT until the timer has fired. STI keeps interrupts off for one more instruction: none can come before the HLT, so that
// each HLT that is counted is executed (but see `handle`). JECXZ, because handlers spoil the flags.
.macro halt_until_fired sum
2:	incl DID(KT_GUEST_HALT)
	note_tsc
	sti
	hlt
	cli
	since_noted
	add %eax, \sum(%ebp)
	adc %edx, \sum+4(%ebp)
	mov PAGE(FIRED), %ecx
	jecxz 2b
.endm

// To be armed: a deadline 2^36 cycles ahead, ten seconds and more, which does not come.
.macro far_deadline
	rdtsc
	add $0x10, %edx
	mov $TSC_DEADLINE, %ecx
.endm

.macro disarm
	own_wrmsr_value TSC_DEADLINE, $0
.endm

.macro send_ipi
	mov $(KT_GUEST_IPI_VECTOR|APIC_COMMAND_ASSERT), %eax
	mov PAGE(IPI_TARGET), %edx
	own_wrmsr APIC_COMMAND
.endm

.macro await_ipi
3:	mov PAGE(IPIS), %ecx
	jecxz 4f
	jmp 5f
4:	incl DID(KT_GUEST_HALT)
	sti
	hlt
	cli
	jmp 3b
5:	decl PAGE(IPIS)
.endm

	.section .rodata
	.code32
	.globl kt_guest_begin, kt_guest_end, kt_guest_on_timer, kt_guest_on_ipi, kt_guest_on_spurious, kt_guest_on_exception
// All of the guest's own pages are touched before it is ready, so that what follows faults only where it means to.
kt_guest_begin:
	cmpl $0, PAGE(HAS_IRQCHIP)
	je 9f
	push %eax
	pop %eax
	mov PAGE(TABLES), %edi
	movl $1, KT_GUEST_TABLES_SCRATCH(%edi)
	incl PAGE(OWN_RDMSR)
	mov $APIC_BASE, %ecx
	rdmsr
	or $APIC_BASE_X2APIC, %eax
	own_wrmsr APIC_BASE
	own_wrmsr_value APIC_SPURIOUS, $(APIC_SPURIOUS_ENABLE|KT_GUEST_SPURIOUS_VECTOR)
	own_wrmsr_value APIC_TIMER_DIVIDE, $APIC_TIMER_DIVIDE_BY_1
9:	mov PAGE(SAMPLES), %edi
	test %edi, %edi
	jz 9f
	movl $0, (%edi)
9:	tell_host

.Llap:
	cmpl $0, PAGE(SAMPLES)
	jne .Lclocked
	begin KT_GUEST_CPUID
1:	xor %eax, %eax
	xor %ecx, %ecx
	cpuid
	again KT_GUEST_CPUID
9:
	begin KT_GUEST_PORT_OUT
	mov $KT_GUEST_OUT_PORT, %edx
	mov $0x41, %al
1:	out %al, %dx
	again KT_GUEST_PORT_OUT
9:
	begin KT_GUEST_PORT_IN
	mov $KT_GUEST_IN_PORT, %edx
1:	in %dx, %al
	again KT_GUEST_PORT_IN
9:
	mov PAGE(MMIO), %edi
	begin KT_GUEST_MMIO_WRITE
1:	mov %esi, (%edi)
	again KT_GUEST_MMIO_WRITE
9:
	begin KT_GUEST_MMIO_READ
1:	mov 4(%edi), %eax
	again KT_GUEST_MMIO_READ
9:
	// IA32_PAT exits on Intel and on AMD; what is written is its value at reset, so that nothing changes.
	mov $PAT, %ecx
	begin KT_GUEST_RDMSR
1:	rdmsr
	again KT_GUEST_RDMSR
9:
	mov $0x00070406, %eax
	mov $0x00070406, %edx
	begin KT_GUEST_WRMSR
1:	wrmsr
	again KT_GUEST_WRMSR
9:
	// KVM_HC_VAPIC_POLL_IRQ, which does nothing. KVM would rewrite the other vendor's instruction, at the cost of an exit.
	begin KT_GUEST_HYPERCALL
1:	mov $1, %eax
	cmpl $0, PAGE(IS_AMD)
	jne 2f
	vmcall
	jmp 3f
2:	vmmcall
3:	again KT_GUEST_HYPERCALL
9:
	begin KT_GUEST_PAUSE
1:	pause
	again KT_GUEST_PAUSE
9:
	begin KT_GUEST_PORT_IN_SPIN
	mov $KT_GUEST_SPIN_PORT, %edx
1:	in %dx, %al
	again KT_GUEST_PORT_IN_SPIN
9:
	begin KT_GUEST_PORT_IN_SLEEP
	mov $KT_GUEST_SLEEP_PORT, %edx
1:	in %dx, %al
	again KT_GUEST_PORT_IN_SLEEP
9:
	begin KT_GUEST_RDTSC_SPIN
1:	note_tsc
2:	since_noted
	mov %eax, %ecx
	mov %edx, %edi
	sub PAGE(SPIN_TSC), %ecx
	sbb PAGE_HIGH(SPIN_TSC), %edi
	jc 2b
	add %eax, PAGE(SPUN_TSC)
	adc %edx, PAGE_HIGH(SPUN_TSC)
	again KT_GUEST_RDTSC_SPIN
9:
	mov PAGE(NEXT_PAGE), %edi
	begin KT_GUEST_TOUCH
1:	movl $1, (%edi)
	add $4096, %edi
	again KT_GUEST_TOUCH
9:	mov %edi, PAGE(NEXT_PAGE)
	mov PAGE(NEXT_DELAYED), %edi
	begin KT_GUEST_TOUCH_DELAYED
1:	movl $1, (%edi)
	add $4096, %edi
	again KT_GUEST_TOUCH_DELAYED
9:	mov %edi, PAGE(NEXT_DELAYED)

	begin KT_GUEST_ARM
	own_wrmsr_value APIC_TIMER, $(APIC_TIMER_DEADLINE|KT_GUEST_TIMER_VECTOR)
1:	far_deadline
	wrmsr
	again KT_GUEST_ARM
	disarm
9:
	begin KT_GUEST_DEADLINE
	own_wrmsr_value APIC_TIMER, $(APIC_TIMER_DEADLINE|KT_GUEST_TIMER_VECTOR)
1:	movl $0, PAGE(FIRED)
	rdtsc
	add PAGE(TIMER_TSC), %eax
	adc PAGE_HIGH(TIMER_TSC), %edx
	own_wrmsr TSC_DEADLINE
	halt_until_fired KT_PAGE_DEADLINE_TSC
	again KT_GUEST_DEADLINE
9:
	begin KT_GUEST_ONESHOT
	own_wrmsr_value APIC_TIMER, $KT_GUEST_TIMER_VECTOR
1:	movl $0, PAGE(FIRED)
	own_wrmsr_value APIC_TIMER_COUNT, PAGE(TIMER_NS)
	halt_until_fired KT_PAGE_ONESHOT_TSC
	again KT_GUEST_ONESHOT
9:
	// The handler counts. What comes between the last tick and the end of the timer is handled, but is no tick.
	begin KT_GUEST_PERIODIC
	mov %esi, PAGE(TICKS_LEFT)
	own_wrmsr_value APIC_TIMER, $(APIC_TIMER_PERIODIC|KT_GUEST_TIMER_VECTOR)
	own_wrmsr_value APIC_TIMER_COUNT, PAGE(TIMER_NS)
	sti
1:	mov PAGE(TICKS_LEFT), %ecx
	jecxz 2f
	jmp 1b
2:	cli
	own_wrmsr_value APIC_TIMER_COUNT, $0
	sti
	nop
	cli
9:
	begin KT_GUEST_IPI
1:	cmpl $0, PAGE(IPI_FIRST)
	je 2f
	send_ipi
2:	await_ipi
	cmpl $0, PAGE(IPI_FIRST)
	jne 2f
	send_ipi
2:	again KT_GUEST_IPI
9:
	begin KT_GUEST_HALT
1:	hlt
	again KT_GUEST_HALT
9:
.Llap_done:
	movl $1, PAGE(DONE)
	tell_host
	jmp .Llap

// The lap in which each thing is clocked: apart, so that the others are not slowed. The first sample is of nothing.
.Lclocked:
	clock_begin
	clock_end
	begin KT_GUEST_CPUID
1:	clock_begin
	xor %eax, %eax
	xor %ecx, %ecx
	cpuid
	clock_end
	again KT_GUEST_CPUID
9:
	begin KT_GUEST_PORT_OUT
1:	clock_begin
	mov $KT_GUEST_OUT_PORT, %edx
	mov $0x41, %al
	out %al, %dx
	clock_end
	again KT_GUEST_PORT_OUT
9:
	begin KT_GUEST_RDMSR
1:	clock_begin
	mov $PAT, %ecx
	rdmsr
	clock_end
	again KT_GUEST_RDMSR
9:
	begin KT_GUEST_PORT_IN_SLEEP
1:	clock_begin
	mov $KT_GUEST_SLEEP_PORT, %edx
	in %dx, %al
	clock_end
	again KT_GUEST_PORT_IN_SLEEP
9:
	begin KT_GUEST_ARM
	own_wrmsr_value APIC_TIMER, $(APIC_TIMER_DEADLINE|KT_GUEST_TIMER_VECTOR)
1:	far_deadline
	mov %eax, %edi
	wrmsr
	clock_end
	again KT_GUEST_ARM
	disarm
9:	jmp .Llap_done

// Handlers return by RET, past the flags and the code segment, which are the same: KVM's emulator, which runs this code
// where the CPU cannot, knows no protected-mode IRET. STI keeps interrupts off until the RET is done.
//
// Some emulated CPUs (QEMU's TCG, in VMRUN) forget STI's respite when an exit comes right after it. Then the interrupt is
// taken before the HLT that was to wait for it, which would wait for ever: it is passed over, and not counted.
#define HLT_OPCODE 0xf4
.macro handle
	push %eax
	push %ecx
	push %edx
	incl PAGE(INTERRUPTS)
	mov 12(%esp), %ecx
	cmpb $HLT_OPCODE, (%ecx)
	jne 6f
	incl 12(%esp)
	decl DID(KT_GUEST_HALT)
6:
.endm

.macro end_of_interrupt
	own_wrmsr_value APIC_EOI, $0
	pop %edx
	pop %ecx
	pop %eax
	sti
	ret $8
.endm

kt_guest_on_timer:
	handle
	incl PAGE(FIRED)
	mov PAGE(TICKS_LEFT), %ecx
	jecxz 1f
	decl PAGE(TICKS_LEFT)
	incl DID(KT_GUEST_PERIODIC)
1:	end_of_interrupt

kt_guest_on_ipi:
	handle
	incl PAGE(IPIS)
	end_of_interrupt

kt_guest_on_spurious:
	incl PAGE(INTERRUPTS)
	sti
	ret $8

kt_guest_on_exception:
	incl PAGE(OWN_OUT)
	mov $KT_GUEST_CONTROL_PORT, %edx
	mov $KT_GUEST_SAYS_EXCEPTION, %al
	out %al, %dx
	jmp kt_guest_on_exception
kt_guest_end:

	.section .note.GNU-stack, "", @progbits
