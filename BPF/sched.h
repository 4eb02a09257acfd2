/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* The scheduler's events: they come for every task of the host, so that those of other threads must end at once. */
#ifndef KVMTAX_SCHED_H
#define KVMTAX_SCHED_H

SEC("tp/sched/sched_switch") int on_switch(void *context)
{
	struct kt_event out = { .kind = KT_SCHED_OUT, .vcpu = KT_NO_VCPU,
		.reason = KT_FIELD(context, __u64, KT_FIELD_SWITCH_PREV_STATE) };
	struct kt_event in = { .kind = KT_SCHED_IN, .vcpu = KT_NO_VCPU };
	struct kt_control *settings;
	struct kt_slot *slot;
	__u32 number;

	step(&out, 0);
	slot = slot_of(KT_FIELD(context, __u32, KT_FIELD_SWITCH_NEXT), &number);
	if (!slot) return 0;
	settings = controls();
	return settings ? step_slot(slot, number, settings, &in) : 0;
}

/* Runs on the waker's time and writes one word of the sleeper's slot, which nobody else writes. */
SEC("tp/sched/sched_waking") int on_waking(void *context)
{
	struct kt_event event = { .kind = KT_WAKING, .vcpu = KT_NO_VCPU };
	struct kt_control *settings;
	struct kt_slot *slot;
	__u32 number;

	slot = slot_of(KT_FIELD(context, __u32, KT_FIELD_WAKING_PID), &number);
	if (!slot) return 0;
	settings = controls();
	event.time_ns = bpf_ktime_get_ns();
	if (!settings || !is_heard(settings->heartbeat_ns, event.time_ns)) return 0;
	slot->wake_ns = event.time_ns;
	if (settings->events == KT_RAW_RECORDS) record_event(slot, &event);
	return 0;
}
#endif
