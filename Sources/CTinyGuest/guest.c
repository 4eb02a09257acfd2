#define _GNU_SOURCE
#include "tinyguest.h"

#include <pthread.h>
#include <unistd.h>

#define TEXT(x) #x
#define NUMBER(x) TEXT(x)

// The offsets of struct kt_guest_page as the assembler needs them: plain numbers, checked below.
#define KINDS 9
#define DONE 72
#define NEXT_PAGE 76
#define MMIO 80
_Static_assert(KT_GUEST_KINDS == KINDS, "the assembler counts the kinds itself");
_Static_assert(offsetof(struct kt_guest_page, did) == 4 * KINDS, "did");
_Static_assert(offsetof(struct kt_guest_page, done) == DONE, "done");
_Static_assert(offsetof(struct kt_guest_page, next_page) == NEXT_PAGE, "next_page");
_Static_assert(offsetof(struct kt_guest_page, mmio) == MMIO, "mmio");
_Static_assert(KT_GUEST_CPUID == 0 && KT_GUEST_PORT_OUT == 1 && KT_GUEST_PORT_IN == 2 && KT_GUEST_MMIO_WRITE == 3 &&
	KT_GUEST_MMIO_READ == 4 && KT_GUEST_RDMSR == 5 && KT_GUEST_WRMSR == 6 && KT_GUEST_TOUCH == 7 && KT_GUEST_HALT == 8,
	"the numbers below");

#define WANT(kind) "4*" TEXT(kind) "(%ebp)"
#define DID(kind) "4*(" NUMBER(KINDS) "+" TEXT(kind) ")(%ebp)"

// Does one thing want[kind] times. %esi counts down and survives every body.
#define TIMES(kind, body)                                                                                              \
	"	mov " WANT(kind) ", %esi\n"                                                                                    \
	"	test %esi, %esi\n"                                                                                             \
	"	jz 2f\n"                                                                                                       \
	"1:\n" body                                                                                                        \
	"	incl " DID(kind) "\n"                                                                                          \
	"	dec %esi\n"                                                                                                    \
	"	jnz 1b\n"                                                                                                      \
	"2:\n"

// The first halt says "ready": code and data pages are mapped by then, so that what follows faults only where it means
// to. The last one ends a lap; resumed, the guest begins the next. The MSR is IA32_PAT (0x277), which exits on Intel and on
// AMD; what is written is its value at reset, so that nothing changes.
__asm__(".section .rodata\n"
	".code32\n"
	"kt_guest_begin:\n"
	"	incl " DID(8) "\n"
	"	hlt\n"
	"3:\n"
	TIMES(0,
		"	xor %eax, %eax\n"
		"	xor %ecx, %ecx\n"
		"	cpuid\n")
	TIMES(1,
		"	mov $" NUMBER(KT_GUEST_OUT_PORT) ", %edx\n"
		"	mov $0x41, %al\n"
		"	out %al, %dx\n")
	TIMES(2,
		"	mov $" NUMBER(KT_GUEST_IN_PORT) ", %edx\n"
		"	in %dx, %al\n")
	"	mov " NUMBER(MMIO) "(%ebp), %edi\n"
	TIMES(3, "	mov %esi, (%edi)\n")
	TIMES(4, "	mov 4(%edi), %eax\n")
	"	mov $0x277, %ecx\n"
	TIMES(5, "	rdmsr\n")
	"	mov $0x00070406, %eax\n"
	"	mov $0x00070406, %edx\n"
	TIMES(6, "	wrmsr\n")
	"	mov " NUMBER(NEXT_PAGE) "(%ebp), %edi\n"
	TIMES(7,
		"	movl $1, (%edi)\n"
		"	add $4096, %edi\n")
	"	mov %edi, " NUMBER(NEXT_PAGE) "(%ebp)\n"
	"	mov " WANT(8) ", %esi\n"
	"5:\n"
	"	test %esi, %esi\n"
	"	jz 6f\n"
	"	incl " DID(8) "\n"
	"	hlt\n"
	"	dec %esi\n"
	"	jmp 5b\n"
	"6:\n"
	"	movl $1, " NUMBER(DONE) "(%ebp)\n"
	"	incl " DID(8) "\n"
	"	hlt\n"
	"	jmp 3b\n"
	"kt_guest_end:\n"
	".code64\n"
	".text\n");

extern const unsigned char kt_guest_begin[], kt_guest_end[];

const void *kt_guest_code(void)
{
	return kt_guest_begin;
}

size_t kt_guest_code_size(void)
{
	return (size_t)(kt_guest_end - kt_guest_begin);
}

int kt_guest_fork(void)
{
	return fork();
}

int kt_guest_name_thread(const char *name)
{
	pthread_setname_np(pthread_self(), name);
	return gettid();
}
