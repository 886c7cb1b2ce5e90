/* Makes system calls by number and prints what came of each, one word a line: 0 and above as a number, else
 * the errno. It needs nothing of the container; where its filter allows no output, it ends with the last.
 *
 *   call [WAY:]NUMBER[,ARGUMENT]...      WAY: 64 (usual), x32 (the number gets its bit), 32 (int 0x80)
 *   call exit STATUS                     ends by exit_group(2) at once
 *   call thread NUMBER                   makes the call in a second thread, then says "first" in the first */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static long narrow(long number, const long *args) {
	int result = -ENOSYS;
#ifdef __x86_64__
	__asm__ volatile("int $0x80"
			 : "=a"(result)
			 : "a"((int)number), "b"(args[0]), "c"(args[1]), "d"(args[2]), "S"(args[3]), "D"(args[4])
			 : "memory", "r8", "r9", "r10", "r11");
#else
	(void)number, (void)args;
#endif
	return result;
}

static long wide(long number, const long *args) {
	long result = syscall(number, args[0], args[1], args[2], args[3], args[4], args[5]);
	return result == -1 ? -errno : result;
}

static void *second(void *number) {
	long none[6] = {0};
	wide((long)number, none);
	return NULL;
}

int main(int argc, char **argv) {
	if (argc == 3 && strcmp(argv[1], "exit") == 0)
		syscall(SYS_exit_group, atoi(argv[2]));
	if (argc == 3 && strcmp(argv[1], "thread") == 0) {
		pthread_t thread;
		pthread_create(&thread, NULL, second, (void *)strtol(argv[2], NULL, 0));
		/* A killed thread never leaves a value, but it does end. */
		sleep(1);
		puts("first");
		fflush(stdout);
		_exit(0);
	}
	for (int n = 1; n < argc; n++) {
		long args[6] = {0}, result;
		int count = 0;
		char *way = strchr(argv[n], ':'), *number = way ? way + 1 : argv[n], *rest;
		long which = strtol(number, &rest, 0);
		while (*rest == ',' && count < 6)
			args[count++] = strtoul(rest + 1, &rest, 0);
		if (strncmp(argv[n], "32:", 3) == 0)
			result = narrow(which, args);
		else if (strncmp(argv[n], "x32:", 4) == 0)
			result = wide(which | 0x40000000, args);
		else
			result = wide(which, args);
		if (result < 0)
			printf("%s\n", strerrorname_np(-result) ? strerrorname_np(-result) : "?");
		else
			printf("%ld\n", result);
		fflush(stdout);
	}
	return 0;
}
