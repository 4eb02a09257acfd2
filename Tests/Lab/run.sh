# What the lab's machine runs, in /tmp/out, all of which is brought out. Each line of /lab/plan is a recording:
# NAME|OPTIONS OF RECORD|OPTIONS OF THE GUEST; without options of record, the guest runs untraced.
kvmtax=/kvmtax/bin/kvmtax
tracer=/kvmtax/libexec/kvmtax/kvmtax-tracer
exits=/sys/kernel/tracing/events/kvm/kvm_exit

# The witness: the kernel's own histogram of kvm_exit by thread and reason, independent of everything that is ours.
witness='hist:keys=common_pid,exit_reason:size=4096'

# Does a step in its time; its output and exit status are files of its name.
step() { # NAME COMMAND…
	step=$1
	shift
	timeout 40 "$@" >"$step.log" 2>&1 </dev/null
	echo "$?" >"$step.status"
	echo "lab: $step: $(cat "$step.status") at $(cut -d' ' -f1 /proc/uptime) s"
}

step doctor "$kvmtax" doctor
while IFS='|' read -r name record guest; do
	echo "$witness" >"$exits/trigger"
	guest="exec $tracer guest $guest >$name.guest.json"
	if [ -n "$record" ]; then
		# shellcheck disable=SC2086 # lists of words
		step "$name" "$kvmtax" record --force -o "$name.kvmtax" --max-overhead 0 $record -- /bin/sh -c "$guest"
	else
		step "$name" /bin/sh -c "$guest"
	fi
	cat "$exits/hist" >"$name.hist"
	echo "!$witness" >"$exits/trigger"
	[ -n "$record" ] || continue
	step "$name.report" "$kvmtax" report --format json "$name.kvmtax"
	case $record in
	*--events*) step "$name.exits" "$kvmtax" report --using exits --format json "$name.kvmtax" ;;
	esac
done </lab/plan

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
