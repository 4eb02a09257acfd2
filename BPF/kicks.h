/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * What KVM's ioeventfds listen to: a write there is a notification that the kernel takes itself, a virtio device's kick.
 * No event says so where kvm_fast_mmio is not fired; KVM's own table does, which a vCPU reads when it takes a look.
 */
#ifndef KVMTAX_KICKS_H
#define KVMTAX_KICKS_H

/* Whether the table is kept: KVM's types are known, and so are keys. */
const volatile __u8 keeps_ioeventfds;

/* include/linux/kvm_host.h: enum kvm_bus */
#define KT_MMIO_BUS 0
#define KT_PIO_BUS 1

/* At most as many devices of a bus are read in one look; of more, others in the next. */
#define KT_DEVICES_PER_LOOK 32

/* What was once seen stays until its place is needed: an address is one of a process, and no VM reuses it for long. */
struct ioeventfd_key { __u32 tgid, bus; __u64 address; };
struct { __uint(type, BPF_MAP_TYPE_LRU_HASH); __uint(max_entries, 8192);
	__type(key, struct ioeventfd_key); __type(value, __u32); } ioeventfds SEC(".maps");

static __noinline int read_bus(struct kvm_io_bus___kt *bus, __u32 which, const void *operations, __u32 tgid, __u32 turn)
{
	struct ioeventfd_key key = { tgid, which, 0 };
	__u32 count = BPF_CORE_READ(bus, dev_count), start, i, one = 1;

	if (!count) return 0;
	start = turn % ((count + KT_DEVICES_PER_LOOK - 1) / KT_DEVICES_PER_LOOK) * KT_DEVICES_PER_LOOK;
	for (i = 0; i < KT_DEVICES_PER_LOOK; i++) {
		struct kvm_io_range___kt *range = (void *)bus + bpf_core_field_offset(struct kvm_io_bus___kt, range)
			+ (start + i) * bpf_core_type_size(struct kvm_io_range___kt);

		if (start + i >= count) break;
		if (BPF_CORE_READ(range, dev, ops) != operations) continue;
		key.address = BPF_CORE_READ(range, addr);
		if (!bpf_map_lookup_elem(&ioeventfds, &key)) bpf_map_update_elem(&ioeventfds, &key, &one, BPF_ANY);
	}
	return 0;
}

/*
 * The addresses of the VM's ioeventfds. They are devices of a bus like others: what makes them known are their operations,
 * which are those of the first in the VM's list. `turn` counts the looks.
 */
static __always_inline void read_ioeventfds(void *vcpu, __u32 tgid, __u32 turn)
{
	struct kvm___kt *kvm;
	const void *operations;
	void *first;

	if (!keeps_ioeventfds) return;
	kvm = BPF_CORE_READ((struct kvm_vcpu___kvm *)vcpu, kvm);
	first = BPF_CORE_READ(kvm, ioeventfds.next);
	if (!first || first == &kvm->ioeventfds) return;
	first -= bpf_core_field_offset(struct _ioeventfd___kt, list);
	operations = BPF_CORE_READ((struct _ioeventfd___kt *)first, dev.ops);
	if (!operations) return;
	read_bus(BPF_CORE_READ(kvm, buses[KT_MMIO_BUS]), KT_MMIO_BUS, operations, tgid, turn);
	read_bus(BPF_CORE_READ(kvm, buses[KT_PIO_BUS]), KT_PIO_BUS, operations, tgid, turn);
}

/* The open exit wrote to `address`: its key learns whether an ioeventfd listens there. */
static __noinline int note_write(struct kt_slot *slot, __u32 number, __u32 bus, __u64 address)
{
	struct ioeventfd_key key = { slot->tgid, bus, address };
	struct kt_event event = { .kind = KT_IOEVENTFD, .vcpu = KT_NO_VCPU };
	struct kt_control *settings = controls();

	if (!settings || !settings->keys || !bpf_map_lookup_elem(&ioeventfds, &key)) return 0;
	return step_slot(slot, number, settings, &event);
}

/* kvm_entry: an OUT that did not go to user space may have been a kick; which port is known by now, if it ever is. */
static __always_inline int step_entry(struct kt_slot *slot, __u32 number, const struct kt_control *settings,
				      struct kt_event *event)
{
	if (keeps_ioeventfds && kt_wrote_port(slot)) note_write(slot, number, KT_PIO_BUS, slot->key.subject);
	event->run_delay_ns = run_delay(settings);
	return step_slot(slot, number, settings, event);
}
#endif
