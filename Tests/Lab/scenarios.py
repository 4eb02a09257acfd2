"""The scenarios. One is a few lines: a name, what runs in the machine, the parameters that are drawn for each run, what is
injected and what must come of it. Change an expectation after a run only with the reason in the commit."""
from checks import (at_least, computed, counts_equal, halted, imported, paths_agree, replayed, slept, spun, vm_counts_equal,
                    vm_life_equal, waited)
from checks_special import (calibrated, churned, competed, disk_full, doctor, migrated, nested_ran, packets_received,
                            request_counts, shared, snapshot_taken, stopped, survived_kill, transferred)
from scenario import Scenario, tiny

# What nearly every deed of the tiny guest looks like: as many of each as drawn.
DEEDS = "--cpuid {a} --out {b} --in {c} --mmio-write {d} --mmio-read {e} --rdmsr {f} --wrmsr {g} --touch {h}"
MANY = {letter: (20, 300) for letter in "abcdefgh"}
INTERRUPTS = "--hypercall {a} --pause {b} --deadline {c} --oneshot {d} --periodic {e} --ipi {f}"
SOME = {"a": (20, 200), "b": (20, 200), "c": (10, 40), "d": (10, 40), "e": (10, 40), "f": (10, 60)}
ANY = ("all", "counts", "smoke", "intel")
MOST = ("all", "counts", "intel")

TINY = (
    Scenario("doctor", "kvmtax doctor >doctor.log 2>&1; echo $? >doctor.status", (doctor,), sets=ANY),
    Scenario("untraced", "begin_witness\ntiny --vcpus 2 --hlt {i} " + DEEDS + "\nend_witness", (counts_equal,),
             {**MANY, "i": (20, 300)}, sets=ANY),
    Scenario("accounts-tp", tiny("--vcpus 2 --hlt {i} " + DEEDS, "--attach tp"), (counts_equal,), {**MANY, "i": (20, 300)},
             sets=ANY),
    Scenario("accounts-btf", tiny("--vcpus 2 --hlt {i} " + DEEDS, "--attach btf"), (counts_equal,),
             {**MANY, "i": (20, 300)}, sets=MOST),
    Scenario("events-tp", tiny("--vcpus 2 --hlt {i} " + DEEDS, "--attach tp --events"), (counts_equal,),
             {**MANY, "i": (20, 300)}, sets=MOST),
    Scenario("events-btf", tiny("--vcpus 2 --hlt {i} " + DEEDS, "--attach btf --events"), (counts_equal,),
             {**MANY, "i": (20, 300)}, sets=ANY),
    Scenario("beside-perf", tiny("--vcpus 2 " + DEEDS, "--events", beside="perf"), (counts_equal,), MANY),
    Scenario("beside-trace-cmd", tiny("--vcpus 2 " + DEEDS, "--events", beside="trace-cmd"), (counts_equal, imported), MANY),
    Scenario("both-paths", "begin_witness\nrecord tp --attach tp -- /bin/sh -c '. /lab/lib.sh; record btf --attach btf -- "
             "/bin/sh -c \". /lab/lib.sh; tiny --vcpus 2 " + DEEDS + "\"'\nend_witness", (paths_agree,), MANY, sets=MOST,
             needs_typed=True),
    Scenario("interrupts-tp", tiny("--vcpus 2 " + INTERRUPTS, "--attach tp"), (counts_equal,), SOME, sets=MOST),
    Scenario("interrupts-events", tiny("--vcpus 2 " + INTERRUPTS, "--events"), (counts_equal,), SOME, sets=ANY),
    Scenario("raw-events", tiny("--vcpus 2 " + INTERRUPTS + " --out {a} --touch {b} --rdmsr {a} --mmio-read {b}",
                                "--events=raw"), (counts_equal, replayed), SOME, sets=MOST),
    # One thing at a time, each with the class of its exits.
    Scenario("cpuid-storm", tiny("--vcpus 2 --cpuid {n}"), (counts_equal,), {"n": (2000, 6000)}, {"CPU.id": "2*n"}),
    Scenario("port-io", tiny("--out {n} --in {m}"), (counts_equal,), {"n": (200, 600), "m": (200, 600)},
             {"PIO.emul": "n+m"}),
    Scenario("mmio", tiny("--mmio-write {n} --mmio-read {m}"), (counts_equal,), {"n": (200, 600), "m": (200, 600)},
             {"MMIO.emul": "n+m"}),
    Scenario("msr", tiny("--rdmsr {n} --wrmsr {m}"), (counts_equal,), {"n": (500, 1500), "m": (500, 1500)},
             {"MSR.other": "n+m"}),
    Scenario("first-touch", tiny("--vcpus 2 --touch {n}"), (counts_equal,), {"n": (500, 2000)}, {"EPT.populate": "2*n"}),
    Scenario("timer-deadline", tiny("--deadline {n} --timer-us {us}", "--events"), (counts_equal,),
             {"n": (50, 200), "us": (300, 2000)}, {"TIMER.arm": "n", "IDLE": "n"}),
    Scenario("timer-periodic", tiny("--periodic {n} --timer-us {us}"), (counts_equal,), {"n": (30, 100), "us": (1000, 4000)},
             {"TIMER.expire": "n"}),
    Scenario("ipi", tiny("--vcpus 2 --ipi {n}", "--events"), (counts_equal,), {"n": (100, 400)}, {"IPI": "2*n"}),
    Scenario("hypercall", tiny("--hypercall {n}"), (counts_equal,), {"n": (500, 2000)}, {"HYPERCALL": "n"}),
    Scenario("halt-to-user-space", tiny("--hlt {n}"), (counts_equal,), {"n": (200, 800)}, {"IDLE": "n"}),
    Scenario("idle-guest", tiny("--deadline {n} --timer-us 20000"),
             (counts_equal, halted("deadline_halt")), {"n": (20, 40)}, {"IDLE": "n"}),
    Scenario("computing-guest", tiny("--rdtsc-spin {n} --guest-spin-us 5000"),
             (counts_equal, computed), {"n": (40, 100)}),
    # Several at once.
    Scenario("vms-at-once", tiny("--vms 4 --vcpus 2 " + DEEDS), (counts_equal,), MANY),
    Scenario("two-vms-one-cpu", tiny("--vms 2 --pin 1 --rdtsc-spin {n} --cpuid {m}", "--events"), (counts_equal, shared),
             {"n": (50, 120), "m": (100, 400)}),
    Scenario("vm-churn", tiny("--churn {n} --cpuid {m} --out 20"), (counts_equal, churned), {"n": (15, 25), "m": (20, 60)},
             {"CPU.id": "n*m"}),
    # Durations that are known.
    Scenario("reads-answered-by-spinning", tiny("--in-spin {n} --spin-us {us} --in {n}", "--events"),
             (counts_equal, spun), {"n": (100, 300), "us": (150, 250)}, {"PIO.emul": "2*n"}),
    Scenario("reads-answered-by-sleeping", tiny("--in-sleep {n} --sleep-us {us}", "--events"),
             (counts_equal, slept), {"n": (50, 150), "us": (800, 1500)}, {"PIO.emul": "n"}),
    Scenario("timer-halt", tiny("--oneshot {n} --timer-us {us}", "--events"),
             (counts_equal, halted("oneshot_halt")), {"n": (50, 150), "us": (500, 3000)}, {"TIMER.arm": "n"}),
    Scenario("competitor", tiny("--pin 1 --competitor 1 --rdtsc-spin {n} --guest-spin-us 1000", "--events"),
             (counts_equal, competed), {"n": (300, 600)}),
    Scenario("page-from-userfaultfd", tiny("--touch-delayed {n} --fault-us {us}", "--events"),
             (counts_equal, waited), {"n": (30, 100), "us": (1500, 2500)},
             {"EPT.swapin": "n"}),
    Scenario("stopped-process", tiny("--rdtsc-spin {n} --stop-ms 1000", "--events"), (counts_equal, stopped),
             {"n": (300, 500)}),
    # A delay of known length in the traced path.
    Scenario("calibration", "kvmtax calibrate -o calibration --rounds 5 --inject-delay {n} >calibrate.log 2>&1\n"
             "echo $? >calibrate.status\n" + tiny("--cpuid {m}", "--calibration calibration"), (calibrated,),
             {"n": (2000, 4000), "m": (4000, 8000)}, sets=MOST, seconds=240),
    # The tracer in trouble.
    Scenario("tracer-killed", """
"$tracer" guest --cpuid 200000 --in-sleep {n} --vcpus 2 --time-limit 30 >guest.json 2>/dev/null &
guest=$!
kvmtax record --force -o trace.kvmtax --interval 200ms --pid $guest >trace.log 2>&1 &
recorder=$!
until [ -e trace.kvmtax ]; do sleep 0.1; done
sleep 2
kill -9 "$recorder"
sleep 1
kill "$guest"
for descriptor in /proc/[0-9]*/fd/*; do readlink "$descriptor"; done 2>/dev/null | grep -c '^anon_inode:.*bpf' >held
true""",
             (survived_kill,), {"n": (4000, 5000)}),
    Scenario("disk-full", """
mkdir /tmp/small; mount -t tmpfs -o size=3m small /tmp/small
begin_witness
kvmtax record --force --events -o /tmp/small/trace.kvmtax --max-overhead 0 -- \\
	/bin/sh -c '. /lab/lib.sh; tiny --vcpus 2 --cpuid {n}' >trace.log 2>&1
echo $? >trace.status
end_witness
cp /tmp/small/trace.kvmtax .; umount /tmp/small""", (disk_full,), {"n": (60000, 80000)}),
)

# The Linux guest, with one of each device. Started by the first scenario that needs it.
START = """
if ! vm_lives linux; then
	rm -rf "$vms/linux"
	mkdir -p /tmp/web; dd if=/dev/urandom of=/tmp/web/blob bs=1k count=4096 2>/dev/null
	httpd -p 8080 -h /tmp/web
	qemu-img create -q -f qcow2 /tmp/a.qcow2 64M; qemu-img create -q -f qcow2 /tmp/ide.qcow2 64M
	for disk in b c d; do truncate -s 64M /tmp/$disk.raw; done
	drive() {{ echo "-drive file=$1,format=${{1##*.}},if=none,id=$2${{3:+,$3}}"; }}
	vm_linux linux -machine pc -smp 2 -m 192 -object iothread,id=thread \\
		$(drive /tmp/a.qcow2 a) -device virtio-blk-pci,drive=a,num-queues=1 \\
		$(drive /tmp/b.raw b readonly=on) -device virtio-blk-pci,drive=b,ioeventfd=off,num-queues=1 \\
		$(drive /tmp/c.raw c readonly=on) -device virtio-blk-pci,drive=c,iothread=thread,num-queues=1 \\
		$(drive /tmp/d.raw d readonly=on) -device virtio-scsi-pci,id=scsi,num_queues=1 -device scsi-hd,bus=scsi.0,drive=d \\
		$(drive /tmp/ide.qcow2 ide) -device ide-hd,drive=ide \\
		-netdev tap,id=n0,ifname=tap0,script=no,downscript=no -device virtio-net-pci,netdev=n0,romfile= \\
		-netdev tap,id=n1,ifname=tap1,script=no,downscript=no,vhost=on -device virtio-net-pci,netdev=n1,romfile= >vm.log
	for tap in 0 1; do ip address add 10.9.$tap.1/24 dev tap$tap; ip link set tap$tap up; done
	vm_do linux 'ip address add 10.9.0.2/24 dev eth0; ip address add 10.9.1.2/24 dev eth1; ls /sys/block' >vm.disks
fi
"""


def linux(command, run='vm_run linux "$(cat command)"'):
    """The script that records the Linux guest while its shell does something."""
    return (START + f"cat >command <<'END'\n{command}\nEND\n"
            f"record_vm linux -- /bin/sh -c '. /lab/lib.sh; {run}'\n")


def read_disk(disk):
    statistics = f"cat /sys/block/{disk}/stat"
    return linux(f"{statistics}; dd if=/dev/{disk} of=/dev/null bs=4k count={{n}} iflag=direct; {statistics}")


def fetch(network):
    received = f"$(cat /sys/class/net/eth{network}/statistics/rx_bytes)"
    return linux(f"before={received}; for i in $(seq {{n}}); do "
                 f"wget -q -O /dev/null http://10.9.{network}.1:8080/blob || exit 1; done; "
                 f"echo before $before after {received}")


REAL = ("all", "real")
GUESTS = (
    Scenario("linux-idle", linux("sleep {n}"), (vm_counts_equal,), {"n": (2, 3)}, sets=REAL, seconds=90),
    Scenario("linux-computes", linux("i=0; while [ $i -lt {n} ]; do i=$((i+1)); done"), (vm_counts_equal,),
             {"n": (20000, 40000)}, sets=REAL),
    # With ioeventfd another thread of QEMU takes requests, and asks for no kick while it is at it: a request may do without.
    Scenario("virtio-blk-reads", read_disk("vda"), (vm_counts_equal, request_counts("read"), at_least("npf", "n//2")),
             {"n": (200, 500)}, {"VIRTIO.kick": "n//2"}, sets=REAL),
    Scenario("virtio-blk-writes", linux("cat /sys/block/vda/stat; "
             "dd if=/dev/zero of=/dev/vda bs=64k count={n} oflag=direct; cat /sys/block/vda/stat"),
             (vm_counts_equal, request_counts("write"), at_least("npf", "n//2")),
             {"n": (50, 150)}, {"VIRTIO.kick": "n//2"}, sets=REAL),
    Scenario("virtio-blk-no-ioeventfd", read_disk("vdb"), (vm_counts_equal, request_counts("read"), at_least("npf", "n")),
             {"n": (200, 500)}, {"MMIO.emul": "n"}, sets=REAL),
    Scenario("virtio-blk-iothread", read_disk("vdc"), (vm_counts_equal, request_counts("read"), at_least("npf", "n//2")),
             {"n": (200, 500)}, {"VIRTIO.kick": "n//2"}, sets=REAL),
    Scenario("virtio-scsi-reads", read_disk("sda"), (vm_counts_equal, request_counts("read"), at_least("npf", "n//2")),
             {"n": (200, 500)}, {"VIRTIO.kick": "n//2"}, sets=REAL),
    Scenario("ide-reads", read_disk("sdb"), (vm_counts_equal, request_counts("read"), at_least("io", "10*n")),
             {"n": (100, 200)}, {"PIO.emul": "10*n"}, sets=REAL),
    Scenario("virtio-net", fetch(0), (vm_counts_equal, transferred), {"n": (1, 3)}, sets=REAL),
    Scenario("vhost-net", fetch(1), (vm_counts_equal, transferred), {"n": (1, 3)}, sets=REAL),
    # By pages of 2 MiB, where the host gives such, of which some were in use before.
    Scenario("memory-touched", linux("dd if=/dev/zero of=/tmp/filled bs=1M count={n}; rm /tmp/filled"),
             (vm_counts_equal,), {"n": (16, 40)}, {"EPT.populate": "1"}, sets=REAL),
    # The guest writes until its memory has been copied, after which QEMU leaves it paused.
    Scenario("migration", linux("while :; do dd if=/dev/zero of=/tmp/dirty bs=1M count={n}; done >/dev/null 2>&1 & "
             "echo $! >/tmp/writer", """
vm_monitor linux running cont
vm_do linux "$(cat command)"
echo $? >guest.status
vm_monitor linux running "migrate_set_parameter downtime-limit 3000"
vm_monitor linux "paused (postmigrate)" "migrate -d \\"exec:cat >/tmp/migrated\\"" || fail "the migration did not end"
ls -l /tmp/migrated; rm /tmp/migrated""") + "vm_do linux 'kill $(cat /tmp/writer); sleep 0.2; rm -f /tmp/dirty'\n",
             (vm_counts_equal, migrated), {"n": (16, 32)}, {"EPT.wprot": "n"}, sets=REAL, seconds=60),
    Scenario("snapshot", linux("i=0; while [ $i -lt {n} ]; do i=$((i+1)); done", """
vm_monitor linux running cont
vm_monitor linux running "savevm taken" || fail "the snapshot was not taken"
vm_do linux "$(cat command)"
echo $? >guest.status
vm_monitor linux paused stop""") + "vm_monitor linux running 'info snapshots'\ncp $vms/linux/monitor.log .\n",
             (vm_counts_equal, snapshot_taken), {"n": (2000, 4000)}, sets=REAL, seconds=60),
    Scenario("e1000-tftp", """
mkdir -p /tmp/pxe; dd if=/dev/urandom of=/tmp/pxe/blob bs=1k count={n} 2>/dev/null
printf '#!ipxe\nimgfetch tftp://10.0.2.2/blob\nreboot\n' >/tmp/pxe/boot.ipxe
begin_witness
record trace -- /bin/sh -c '. /lab/lib.sh; echo $$ >vm.pid
exec timeout 50 qemu-system-x86_64 -accel kvm -cpu host -machine pc -m 64 -nodefaults -no-user-config -no-reboot \\
	-display none -vga none -boot n -netdev user,id=n,tftp=/tmp/pxe,bootfile=boot.ipxe -device e1000,netdev=n \\
	-object filter-dump,id=dump,netdev=n,file=packets.pcap'
end_witness
grep -o "status [0-9]*" trace.log | cut -d" " -f2 >guest.status
[ "$(wc -c <packets.pcap)" -gt 1000 ] || fail "the guest did not boot: its firmware never used the network"
""", (vm_life_equal, packets_received),
             {"n": (200, 400)}, {"MMIO.emul": "n"}, sets=REAL, seconds=60),
    Scenario("nested", "initrd=/lab/host.cpio vm_linux nested -machine pc -smp 1 -m 256\n"
             "echo '/kvmtax/libexec/kvmtax/kvmtax-tracer guest --cpuid {n}' >command\n"
             "record_vm nested -- /bin/sh -c '. /lab/lib.sh; vm_run nested \"$(cat command)\"'\nvm_stop nested",
             (vm_counts_equal, nested_ran), {"n": (20, 60)}, {"NESTED": "n"}, sets=("all",), seconds=90),
    # From its first exit to its last.
    Scenario("linux-life", """
begin_witness
truncate -s 16M /tmp/life.raw
record trace -- /bin/sh -c '. /lab/lib.sh; vm_linux life -machine pc -smp $(nproc) -m 128 \\
	-drive file=/tmp/life.raw,format=raw,if=none,id=d -device virtio-blk-pci,drive=d
vm_pid life >vm.pid
vm_do life "dd if=/dev/vda of=/dev/null bs=4k count={n} iflag=direct"; echo $? >guest.status
vm_do life "poweroff -f"; sleep 1; vm_stop life'
end_witness""", (vm_life_equal, at_least("io", "n")), {"n": (20, 60)}, sets=("real", "intel"), seconds=120),
)
SCENARIOS = TINY + GUESTS
