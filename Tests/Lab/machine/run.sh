# What the lab's machine runs: each file in /lab/scenarios is a scenario, NUMBER.NAME.SECONDS, which gets a folder in
# /tmp/out and its time. Nothing of it survives it but QEMU guests that later ones use.
. /lab/lib.sh
mkdir -p /run/busybox "$vms"
/lab/busybox --install -s /run/busybox
cd /tmp/out || exit 3

[ -e "$tracing/$exits/hist" ] || mkdir "$tracing/instances/witness"
# Names of threads are not needed, and noting them would patch the scheduler's code at every turn: not the strong side
# of emulated CPUs.
for option in "$tracing/options/record-cmd" "$tracing"/instances/*/options/record-cmd; do
	[ ! -e "$option" ] || echo 0 >"$option"
done
ls /sys/kernel/btf >btf
cat /sys/kernel/security/lockdown >lockdown 2>/dev/null
for event in "$tracing"/events/kvm/*/format; do
	mkdir -p formats
	cat "$event" >"formats/$(basename "$(dirname "$event")").format"
done

# A VM that exists from here to the end and does nothing meanwhile. With the first VM and after the last one KVM patches
# the scheduler (preempt_notifier_key), and the emulator can go on running the old instructions for ever.
mkfifo /tmp/hold
"$tracer" guest --wait </tmp/hold >/tmp/held 2>&1 &
held=$!
exec 9>/tmp/hold
tries=0
until grep -q ready /tmp/held; do
	tries=$((tries + 1))
	[ "$tries" -lt 200 ] || fail "no VM can run here: $(cat /tmp/held); modules: $(lsmod | cut -d' ' -f1 | tr '\n' ' ')"
	sleep 0.1
done

# For the same reason two listeners, which are switched off, hold every tracepoint that the tracer uses: a third one is
# added without patching any code.
for one in 1 2; do
	mkdir "$tracing/instances/hold$one"
	echo 0 >"$tracing/instances/hold$one/tracing_on"
	for events in sched/sched_switch sched/sched_waking sched/sched_process_exit irq irq_vectors kvm; do
		echo 1 >"$tracing/instances/hold$one/events/$events/enable"
	done
done

uptime() { cut -d' ' -f1 /proc/uptime; }
for scenario in /lab/scenarios/*; do
	name=${scenario##*/}
	name=${name#*.}
	seconds=${name##*.}
	name=${name%.*}
	mkdir "$name"
	began=$(uptime)
	cd "$name" || exit 3
	setsid sh "$scenario" >said 2>&1 </dev/null 9>&- &
	worker=$!
	(
		sleep "$seconds" && echo "not finished after $seconds s" >late && kill -9 "-$worker"
	) 9>&- &
	clock=$!
	wait "$worker"
	echo "$?" >status
	kill "$clock" 2>/dev/null
	kill -9 "-$worker" 2>/dev/null
	cd ..
	echo "$began $(uptime)" >"$name/time"
	echo "lab: $name: $(cat "$name/status") after $(uptime) s"
done

for vm in "$vms"/*; do
	[ -e "$vm/pid" ] || continue
	kill -9 "$(cat "$vm/pid")"
	cp "$vm/console" "console.${vm##*/}"
	cp "$vm/log" "qemu.${vm##*/}"
	cp "$vm/monitor.log" "monitor.${vm##*/}" 2>/dev/null
done
exec 9>&-
wait "$held"

# What of BPF is held or pinned when all is over.
for descriptor in /proc/[0-9]*/fd/*; do
	readlink "$descriptor"
done 2>/dev/null | grep -c '^anon_inode:.*bpf' >left
find /sys/fs/bpf -mindepth 1 | grep -v -e '/maps.debug$' -e '/progs.debug$' >>left

# The launchers name the library that is missing. Last, and put back each time.
[ -e /lab/hides-libraries ] || exit 0
for library in libbpf.so.1 libelf.so.1 libtraceevent.so.1 libzstd.so.1 libz.so.1; do
	path=$(find /lib /usr/lib -name "$library" 2>/dev/null | head -n 1)
	[ -n "$path" ] || continue
	mv "$path" /hidden
	timeout 40 "$tracer" doctor >"without.$library.log" 2>&1 </dev/null
	echo "$?" >"without.$library.status"
	timeout 40 kvmtax --version >"analyzer.without.$library.log" 2>&1 </dev/null
	echo "$?" >"analyzer.without.$library.status"
	mv /hidden "$path"
done
exit 0
