/* The stopwatch: starts one command, waits for it, and prints what it took.
 * It is small and static so that neither its start nor its memory shows in the
 * figures: a child's ru_maxrss begins with the resident set of the process that
 * forked it (getrusage(2)), which for the benchmark itself would be megabytes.
 * It must not interpret the figures.
 *
 *   stopwatch SECONDS COMMAND [ARG...]
 *   stopwatch SECONDS @PID
 *
 * The second form waits for a process that need not be a child, for example the
 * first process of a container whose runtime has returned.
 *
 * Prints "STATUS WALL_NS CPU_US MAXRSS_KIB" on standard output. STATUS is the
 * exit status, 128 + signal, or -1 when the command was killed after SECONDS.
 * The command's own standard output goes to /dev/null.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long long now(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000000000ll + time.tv_nsec;
}

/* 0 once the process has ended or is no more, 1 after the given time. */
static int await(pid_t pid, const char *seconds)
{
	struct pollfd end = { .fd = syscall(SYS_pidfd_open, pid, 0), .events = POLLIN };
	return end.fd >= 0 && poll(&end, 1, atoi(seconds) * 1000) == 0;
}

int main(int argc, char **argv)
{
	if (argc < 3)
		return 125;
	if (argv[2][0] == '@')
		return await(atoi(argv[2] + 1), argv[1]);
	int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
	long long start = now();
	pid_t pid = vfork();
	if (pid == 0) {
		dup2(null, 1);
		execv(argv[2], argv + 2);
		_exit(127);
	}
	if (pid < 0)
		return 125;
	int late = await(pid, argv[1]);
	if (late)
		kill(pid, SIGKILL);
	int status;
	struct rusage usage;
	wait4(pid, &status, 0, &usage);
	long long wall = now() - start;
	long cpu = (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000l + usage.ru_utime.tv_usec + usage.ru_stime.tv_usec;
	printf("%d %lld %ld %ld\n", late ? -1 : WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), wall, cpu, usage.ru_maxrss);
	return 0;
}
