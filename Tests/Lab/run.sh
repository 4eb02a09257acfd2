# What the lab's machine runs, in /tmp/out, all of which is brought out. Each line of /lab/plan is a recording:
# NAME|OPTIONS OF RECORD|OPTIONS OF THE GUEST; without options of record, the guest runs untraced.
kvmtax=/kvmtax/bin/kvmtax
tracer=/kvmtax/libexec/kvmtax/kvmtax-tracer
tracing=/sys/kernel/tracing
exits=events/kvm/kvm_exit

# The witness: the kernel's own histogram of kvm_exit by thread and reason, independent of everything that is ours. A
# kernel that was built without histograms writes the events themselves.
histogram='hist:keys=common_pid,exit_reason:size=4096'
[ -e "$tracing/$exits/hist" ] || mkdir "$tracing/instances/witness"
# Names of threads are not needed, and noting them would patch the scheduler's code at every turn: not the strong side
# of emulated CPUs.
for option in "$tracing/options/record-cmd" "$tracing"/instances/*/options/record-cmd; do
	[ ! -e "$option" ] || echo 0 >"$option"
done

begin_witness() {
	if [ -e "$tracing/$exits/hist" ]; then
		echo "$histogram" >"$tracing/$exits/trigger"
	else
		echo 8192 >"$tracing/instances/witness/buffer_size_kb"
		echo 1 >"$tracing/instances/witness/$exits/enable"
	fi
}

end_witness() { # NAME
	if [ -e "$tracing/$exits/hist" ]; then
		cat "$tracing/$exits/hist" >"$1.hist"
		echo "!$histogram" >"$tracing/$exits/trigger"
	else
		echo 0 >"$tracing/instances/witness/$exits/enable"
		cat "$tracing/instances/witness/trace" >"$1.trace"
		echo >"$tracing/instances/witness/trace"
	fi
}

# Does a step in its time; its output and exit status are files of its name.
step() { # NAME COMMAND…
	step=$1
	shift
	timeout 40 "$@" >"$step.log" 2>&1 </dev/null
	echo "$?" >"$step.status"
	echo "lab: $step: $(cat "$step.status") at $(cut -d' ' -f1 /proc/uptime) s"
}

# A VM that exists from here to the end and does nothing meanwhile. With the first VM and after the last one KVM patches
# the scheduler (preempt_notifier_key), and the emulator can go on running the old instructions for ever.
mkfifo /hold
"$tracer" guest --wait </hold >/held 2>&1 &
held=$!
exec 9>/hold
until grep -q ready /held; do sleep 0.1; done

step doctor "$kvmtax" doctor
ls /sys/kernel/btf >btf
for event in "$tracing"/events/kvm/*/format; do
	mkdir -p formats
	cat "$event" >"formats/$(basename "$(dirname "$event")").format"
done
while IFS='|' read -r name record guest; do
	begin_witness
	guest="exec $tracer guest $guest >$name.guest.json"
	if [ -n "$record" ]; then
		# shellcheck disable=SC2086 # lists of words
		step "$name" "$kvmtax" record --force -o "$name.kvmtax" --max-overhead 0 $record -- /bin/sh -c "$guest"
	else
		step "$name" /bin/sh -c "$guest"
	fi
	end_witness "$name"
	[ -n "$record" ] || continue
	step "$name.report" "$kvmtax" report --format json "$name.kvmtax"
	case $record in
	*--events*) step "$name.exits" "$kvmtax" report --using exits --format json "$name.kvmtax" ;;
	esac
done </lab/plan

exec 9>&-
wait "$held"

# What of BPF is held or pinned when all is over.
for descriptor in /proc/[0-9]*/fd/*; do
	readlink "$descriptor"
done 2>/dev/null | grep -c '^anon_inode:.*bpf' >left
find /sys/fs/bpf -mindepth 1 | grep -v -e '/maps.debug$' -e '/progs.debug$' >>left

# The launchers name the library that is missing. Last, and put back each time.
for library in libbpf.so.1 libelf.so.1 libtraceevent.so.1 libzstd.so.1 libz.so.1; do
	path=$(find /lib /usr/lib -name "$library" | head -n 1)
	[ -n "$path" ] || continue
	mv "$path" /hidden
	step "without.$library" "$tracer" doctor
	step "analyzer.without.$library" "$kvmtax" --version
	mv /hidden "$path"
done
