# What the lab's machine runs, in /tmp/out, all of which is brought out. Each line of /lab/plan is a recording:
# NAME|OPTIONS OF RECORD|OPTIONS OF THE GUEST; without options of record, the guest runs untraced.
kvmtax=/kvmtax/bin/kvmtax
tracer=/kvmtax/libexec/kvmtax/kvmtax-tracer
exits=/sys/kernel/tracing/events/kvm/kvm_exit

# The witness: the kernel's own histogram of kvm_exit by thread and reason, independent of everything that is ours.
witness='hist:keys=common_pid,exit_reason:size=4096'

# Does a step in its time; its output and exit status are files of its name.
step() { # NAME COMMAND…
	name=$1
	shift
	timeout 40 "$@" >"$name.log" 2>&1 </dev/null
	echo "$?" >"$name.status"
	echo "lab: $name: $(cat "$name.status") at $(cut -d' ' -f1 /proc/uptime) s"
}

step doctor "$kvmtax" doctor
while IFS='|' read -r name record guest; do
	echo "$witness" >"$exits/trigger"
	guest="exec $tracer guest $guest >$name.guest.json"
	if [ -n "$record" ]; then
		# shellcheck disable=SC2086 # lists of words
		step "$name" "$kvmtax" record --force -o "$name.kvmtax" $record -- /bin/sh -c "$guest"
	else
		step "$name" /bin/sh -c "$guest"
	fi
	cat "$exits/hist" >"$name.hist"
	echo "!$witness" >"$exits/trigger"
	if [ -n "$record" ]; then
		step "$name.report" "$kvmtax" report --format json "$name.kvmtax"
	fi
done </lab/plan

# What stays attached when all is over.
for program in /proc/[0-9]*/fd/*; do readlink "$program"; done 2>/dev/null | grep -c bpf >bpf-left

# The launchers name the library that is missing. Last, and put back each time.
for library in libbpf.so.1 libelf.so.1 libtraceevent.so.1 libzstd.so.1 libz.so.1; do
	path=$(find /lib /usr/lib -name "$library" | head -n 1)
	[ -n "$path" ] || continue
	mv "$path" /hidden
	step "without.$library" "$tracer" doctor
	step "analyzer.without.$library" "$kvmtax" --version
	mv /hidden "$path"
done
