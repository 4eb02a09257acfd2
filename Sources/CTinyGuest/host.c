// System calls that Swift's Glibc hides or cannot call.
#define _GNU_SOURCE
#include "tinyguest.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define PAGE_BYTES 4096

int kt_guest_fork(void)
{
	return fork();
}

int kt_guest_thread_id(void)
{
	return gettid();
}

int kt_guest_name_thread(const char *name)
{
	pthread_setname_np(pthread_self(), name);
	return gettid();
}

int kt_guest_may_use_cpu(int cpu)
{
	cpu_set_t set;

	if (cpu < 0 || cpu >= CPU_SETSIZE)
		return EINVAL;
	if (sched_getaffinity(0, sizeof(set), &set) != 0)
		return errno;
	return CPU_ISSET(cpu, &set) ? 0 : EINVAL;
}

int kt_guest_current_cpu(void)
{
	int cpu = sched_getcpu();

	return cpu < 0 ? -errno : cpu;
}

int kt_guest_pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	return sched_setaffinity(0, sizeof(set), &set) == 0 ? 0 : errno;
}

int kt_guest_userfault_open(void *start, size_t bytes)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register range = {
		.range = { (uintptr_t)start, bytes },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};
	int descriptor = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);

	if (descriptor < 0)
		return -errno;
	if (ioctl(descriptor, UFFDIO_API, &api) != 0 || ioctl(descriptor, UFFDIO_REGISTER, &range) != 0) {
		int code = errno;
		close(descriptor);
		return -code;
	}
	return descriptor;
}

uint64_t kt_guest_userfault_next(int descriptor)
{
	struct uffd_msg message;

	if (read(descriptor, &message, sizeof(message)) != sizeof(message) || message.event != UFFD_EVENT_PAGEFAULT)
		return 0;
	return message.arg.pagefault.address & ~(uint64_t)(PAGE_BYTES - 1);
}

// A copy of zeros, not UFFDIO_ZEROPAGE: the shared page of zeros would be replaced at the write, which makes KVM take the
// guest's fault again.
int kt_guest_userfault_fill(int descriptor, uint64_t address)
{
	static const unsigned char zeros[PAGE_BYTES] __attribute__((aligned(PAGE_BYTES)));
	struct uffdio_copy copy = { .dst = address, .src = (uintptr_t)zeros, .len = PAGE_BYTES };

	while (ioctl(descriptor, UFFDIO_COPY, &copy) != 0) {
		if (errno != EAGAIN)
			return errno;
		copy.copy = 0;
	}
	return 0;
}

static int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void sleep_ns(int64_t span)
{
	struct timespec left = { span / 1000000000, span % 1000000000 };

	while (nanosleep(&left, &left) != 0 && errno == EINTR)
		;
}

static void stop_parent(int parent, int start, int report, int64_t delay_ns, int64_t stop_ns)
{
	int64_t times[2];
	char byte;

	// End of file: the VM is gone, or never came to run.
	if (read(start, &byte, 1) != 1)
		return;
	sleep_ns(delay_ns);
	if (getppid() != parent || kill(parent, SIGSTOP) != 0)
		return;
	times[0] = now_ns();
	sleep_ns(stop_ns);
	times[1] = now_ns();
	kill(parent, SIGCONT);
	(void)!write(report, times, sizeof(times));
}

struct kt_guest_stopper kt_guest_stopper_fork(int64_t delay_ns, int64_t stop_ns)
{
	struct kt_guest_stopper stopper = { -1, -1, -1 };
	int start[2], report[2], parent = getpid();

	if (pipe2(start, O_CLOEXEC) != 0)
		return (struct kt_guest_stopper){ -errno, -1, -1 };
	if (pipe2(report, O_CLOEXEC) != 0) {
		stopper.pid = -errno;
		close(start[0]);
		close(start[1]);
		return stopper;
	}
	stopper.pid = fork();
	if (stopper.pid == 0) {
		close(start[1]);
		close(report[0]);
		stop_parent(parent, start[0], report[1], delay_ns, stop_ns);
		_exit(0);
	}
	if (stopper.pid < 0)
		stopper.pid = -errno;
	close(start[0]);
	close(report[1]);
	stopper.start = start[1];
	stopper.report = report[0];
	return stopper;
}
