/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * The host's own interrupts on a vCPU's time. One program serves several tracepoints, whose records look alike; where
 * each is attached is user space's business.
 */
#ifndef KVMTAX_IRQ_H
#define KVMTAX_IRQ_H

static __always_inline int handle_irq(__u32 which, __u64 number)
{
	struct kt_event event = { .kind = KT_IRQ_ENTRY, .vcpu = KT_NO_VCPU, .reason = which, .arg = number };

	return step(&event, 0);
}

SEC("tp/irq_vectors/local_timer_entry") int on_timer_entry(void *context)
{
	return handle_irq(KT_HOST_IRQ_TIMER, KT_FIELD(context, __u32, KT_FIELD_VECTOR));
}

/* reschedule, call_function, call_function_single, irq_work */
SEC("tp/irq_vectors/reschedule_entry") int on_ipi_entry(void *context)
{
	return handle_irq(KT_HOST_IRQ_IPI, KT_FIELD(context, __u32, KT_FIELD_VECTOR));
}

SEC("tp/irq/irq_handler_entry") int on_device_entry(void *context)
{
	return handle_irq(KT_HOST_IRQ_DEVICE, KT_FIELD(context, __u32, KT_FIELD_IRQ));
}

SEC("tp/irq/softirq_entry") int on_softirq_entry(void *context)
{
	return handle_irq(KT_HOST_IRQ_SOFT, KT_FIELD(context, __u32, KT_FIELD_SOFTIRQ));
}

/* The end of any of them. */
SEC("tp/irq_vectors/local_timer_exit") int on_irq_exit(void *context)
{
	struct kt_event event = { .kind = KT_IRQ_EXIT, .vcpu = KT_NO_VCPU };

	return step(&event, 0);
}
#endif
