#include "tinyguest.h"

// Where the assembler looks for what it shares with its host.
#define AT(field, offset) _Static_assert(offsetof(struct kt_guest_page, field) == (offset), #field)
AT(want, 0);
AT(did, KT_PAGE_DID);
AT(timer_tsc, KT_PAGE_TIMER_TSC);
AT(spin_tsc, KT_PAGE_SPIN_TSC);
AT(begin_tsc, KT_PAGE_BEGIN_TSC);
AT(spun_tsc, KT_PAGE_SPUN_TSC);
AT(deadline_tsc, KT_PAGE_DEADLINE_TSC);
AT(oneshot_tsc, KT_PAGE_ONESHOT_TSC);
AT(done, KT_PAGE_DONE);
AT(next_page, KT_PAGE_NEXT_PAGE);
AT(next_delayed, KT_PAGE_NEXT_DELAYED);
AT(mmio, KT_PAGE_MMIO);
AT(is_amd, KT_PAGE_IS_AMD);
AT(has_irqchip, KT_PAGE_HAS_IRQCHIP);
AT(tables, KT_PAGE_TABLES);
AT(timer_ns, KT_PAGE_TIMER_NS);
AT(ipi_target, KT_PAGE_IPI_TARGET);
AT(ipi_first, KT_PAGE_IPI_FIRST);
AT(fired, KT_PAGE_FIRED);
AT(ticks_left, KT_PAGE_TICKS_LEFT);
AT(ipis, KT_PAGE_IPIS);
AT(own_rdmsr, KT_PAGE_OWN_RDMSR);
AT(own_wrmsr, KT_PAGE_OWN_WRMSR);
AT(own_out, KT_PAGE_OWN_OUT);
AT(interrupts, KT_PAGE_INTERRUPTS);
AT(samples, KT_PAGE_SAMPLES);
AT(next_sample, KT_PAGE_NEXT_SAMPLE);

// In guest.S.
extern const unsigned char kt_guest_begin[], kt_guest_end[], kt_guest_on_timer[], kt_guest_on_ipi[],
	kt_guest_on_spurious[], kt_guest_on_exception[];

const void *kt_guest_code(void)
{
	return kt_guest_begin;
}

size_t kt_guest_code_size(void)
{
	return (size_t)(kt_guest_end - kt_guest_begin);
}

uint32_t kt_guest_timer_handler(void)
{
	return (uint32_t)(kt_guest_on_timer - kt_guest_begin);
}

uint32_t kt_guest_ipi_handler(void)
{
	return (uint32_t)(kt_guest_on_ipi - kt_guest_begin);
}

uint32_t kt_guest_spurious_handler(void)
{
	return (uint32_t)(kt_guest_on_spurious - kt_guest_begin);
}

uint32_t kt_guest_exception_handler(void)
{
	return (uint32_t)(kt_guest_on_exception - kt_guest_begin);
}
