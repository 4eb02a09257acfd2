# What scenarios are written with. Sourced by each, in a folder of its own, all of which is brought out.
export PATH=/kvmtax/bin:/usr/sbin:/usr/bin:/sbin:/bin:/run/busybox
tracer=/kvmtax/libexec/kvmtax/kvmtax-tracer
tracing=/sys/kernel/tracing
exits=events/kvm/kvm_exit
vms=/tmp/vms

fail() {
	echo "lab: $*"
	exit 1
}

# The witness: the kernel's own histogram of kvm_exit by thread and reason, independent of everything that is ours. A
# kernel that was built without histograms writes the events themselves.
histogram='hist:keys=common_pid,exit_reason:size=4096'

begin_witness() {
	if [ -e "$tracing/$exits/hist" ]; then
		echo "$histogram" >"$tracing/$exits/trigger"
	else
		echo 16384 >"$tracing/instances/witness/buffer_size_kb"
		echo 1 >"$tracing/instances/witness/$exits/enable"
	fi
}

end_witness() {
	if [ -e "$tracing/$exits/hist" ]; then
		cat "$tracing/$exits/hist" >witness.hist
		echo "!$histogram" >"$tracing/$exits/trigger"
	else
		echo 0 >"$tracing/instances/witness/$exits/enable"
		cat "$tracing/instances/witness/trace" >witness.trace
		echo >"$tracing/instances/witness/trace"
	fi
}

# kvmtax record with what every scenario wants of it. Its exit status is kept in a file.
record() { # NAME OPTIONS… -- COMMAND…
	trace=$1
	shift
	kvmtax record --force -o "$trace.kvmtax" --max-overhead 0 "$@" >"$trace.log" 2>&1 </dev/null
	echo "$?" >"$trace.status"
}

# The tiny guest, whose own account goes to guest.json.
tiny() { # OPTIONS…
	"$tracer" guest "$@" >guest.json
	code=$?
	echo "$code" >guest.status
	return "$code"
}

# QEMU guests. Each has a folder with two pipes: to the shell in the guest, and to QEMU's monitor.
vm_start() { # NAME QEMU'S OPTIONS…
	vm=$vms/$1
	shift
	mkdir -p "$vm"
	mkfifo "$vm/shell.in" "$vm/shell.out" "$vm/monitor.in" "$vm/monitor.out"
	setsid qemu-system-x86_64 -accel kvm -cpu host -nodefaults -no-user-config -no-reboot -display none -vga none \
		-serial "file:$vm/console" -chardev pipe,id=shell,path="$vm/shell" -monitor "pipe:$vm/monitor" "$@" \
		>"$vm/log" 2>&1 </dev/null &
	echo "$!" >"$vm/pid"
}

vm_linux() { # NAME QEMU'S OPTIONS…: a Linux guest; returns when it is ready
	name=$1
	shift
	vm_start "$name" -kernel /lab/vmlinuz -initrd "${initrd:-/lab/guest.cpio}" \
		-append "console=ttyS0 quiet mitigations=off no_timer_check tsc=reliable panic=-1 nokaslr clearcpuid=141" \
		-device virtio-serial-pci -device virtserialport,chardev=shell,name=lab "$@"
	vm_answer "$name" 60 || {
		for text in console log; do tail -n 20 "$vms/$name/$text"; done
		kill -9 "$(vm_pid "$name")"
		cp "$vms/$name/console" "$vms/$name/log" .
		rm -rf "${vms:?}/$name"
		fail "the guest $name did not boot"
	}
}

vm_pid() { cat "$vms/$1/pid"; }

# A process that has ended and was not waited for has no program.
vm_lives() { [ -s "$vms/$1/pid" ] && readlink "/proc/$(vm_pid "$1")/exe" >/dev/null; }

vm_answer() { # NAME SECONDS: what the shell in the guest says, up to its status
	while read -r -t "$2" line; do
		case $line in
		"--done "*) return "${line#--done }" ;;
		*) echo "$line" ;;
		esac
	done <"$vms/$1/shell.out"
	return 99
}

vm_do() { # NAME COMMAND: done by the shell in the guest
	vm_lives "$1" || fail "$1 is gone: $(cat "$vms/$1/log")"
	echo "$2" >"$vms/$1/shell.in"
	vm_answer "$1" 40
}

vm_monitor() { # NAME STATE COMMAND: done by QEMU's monitor; returns when the VM is in the state (running, paused …)
	tries=0
	vm_lives "$1" || fail "$1 is gone: $(cat "$vms/$1/log")"
	[ -z "$3" ] || echo "$3" >"$vms/$1/monitor.in"
	echo "info status" >"$vms/$1/monitor.in"
	while read -r -t 20 line; do
		case $line in
		"VM status: $2"*) return 0 ;;
		"VM status: "*)
			tries=$((tries + 1))
			[ "$tries" -lt 100 ] || return 1
			sleep 0.1
			echo "info status" >"$vms/$1/monitor.in"
			;;
		esac
		echo "$line" >>"$vms/$1/monitor.log"
	done <"$vms/$1/monitor.out"
	return 1
}

vm_stop() { # NAME
	kill "$(vm_pid "$1")"
	wait "$(vm_pid "$1")"
	cp "$vms/$1/console" "console.$1"
	cp "$vms/$1/log" "qemu.$1"
	rm -rf "${vms:?}/$1"
}

# KVM's own counts of a VM's vCPUs together.
vm_statistics() { # NAME FILE
	for counter in /sys/kernel/debug/kvm/"$(vm_pid "$1")"-*/[a-z]*; do
		[ -f "$counter" ] && echo "${counter##*/} $(cat "$counter")"
	done >"$2"
}

# Records a VM that exists already, while a command runs. It is paused before and after, so that everybody who counts its
# exits counts the same ones.
record_vm() { # NAME OPTIONS OF RECORD -- COMMAND…
	vm=$1
	shift
	vm_monitor "$vm" paused stop || fail "$vm does not pause"
	vm_statistics "$vm" statistics.before
	begin_witness
	record trace --pid "$(vm_pid "$vm")" "$@"
	end_witness
	vm_statistics "$vm" statistics.after
	vm_pid "$vm" >vm.pid
	vm_monitor "$vm" running cont || fail "$vm does not go on"
}

# The command of record_vm: the VM runs while its shell does something.
vm_run() { # NAME COMMAND
	vm_monitor "$1" running cont || fail "$1 does not go on"
	vm_do "$1" "$2"
	echo "$?" >guest.status
	vm_monitor "$1" paused stop || fail "$1 does not pause"
}
