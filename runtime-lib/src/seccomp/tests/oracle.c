/* What libseccomp makes of a profile, for the differential tests: reads lines, writes numbers or a program.
 *
 *   resolve ARCH NAME              prints the number (negative: none)
 *   filter VERDICT                 begins a program with this default
 *   arch ARCH                      for this architecture; without any: for this machine's
 *   rule VERDICT NAME [INDEX OPERATOR FIRST SECOND]...
 *   export                         writes the program to standard output
 * Numbers are decimal; ARCH, VERDICT and OPERATOR are libseccomp's. */
#include <errno.h>
#include <inttypes.h>
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void fail(const char *what, int code) {
	fprintf(stderr, "%s: %s\n", what, strerror(-code));
	exit(1);
}

int main(void) {
	static char line[65536];
	scmp_filter_ctx filter = NULL;
	int archs = 0;
	while (fgets(line, sizeof line, stdin)) {
		char *verb = strtok(line, " \n");
		if (verb == NULL)
			continue;
		if (strcmp(verb, "resolve") == 0) {
			uint32_t arch = strtoul(strtok(NULL, " \n"), NULL, 10);
			printf("%d\n", seccomp_syscall_resolve_name_arch(arch, strtok(NULL, " \n")));
		} else if (strcmp(verb, "filter") == 0) {
			filter = seccomp_init(strtoul(strtok(NULL, " \n"), NULL, 10));
			if (filter == NULL)
				fail("seccomp_init", -EINVAL);
		} else if (strcmp(verb, "arch") == 0) {
			uint32_t arch = strtoul(strtok(NULL, " \n"), NULL, 10);
			int code;
			if (archs++ == 0 && (code = seccomp_arch_remove(filter, seccomp_arch_native())) < 0)
				fail("seccomp_arch_remove", code);
			if ((code = seccomp_arch_add(filter, arch)) < 0)
				fail("seccomp_arch_add", code);
		} else if (strcmp(verb, "rule") == 0) {
			uint32_t verdict = strtoul(strtok(NULL, " \n"), NULL, 10);
			char *name = strtok(NULL, " \n"), *word;
			struct scmp_arg_cmp args[6];
			unsigned count = 0;
			while (count < 6 && (word = strtok(NULL, " \n")) != NULL) {
				args[count].arg = strtoul(word, NULL, 10);
				args[count].op = strtoul(strtok(NULL, " \n"), NULL, 10);
				args[count].datum_a = strtoull(strtok(NULL, " \n"), NULL, 10);
				args[count].datum_b = strtoull(strtok(NULL, " \n"), NULL, 10);
				count++;
			}
			int number = seccomp_syscall_resolve_name(name);
			if (number == __NR_SCMP_ERROR)
				continue;
			int code = seccomp_rule_add_array(filter, verdict, number, count, args);
			/* EACCES: it says what the default says. */
			if (code < 0 && code != -EACCES) {
				fprintf(stderr, "%s: ", name);
				fail("seccomp_rule_add_array", code);
			}
		} else if (strcmp(verb, "export") == 0) {
			int code = seccomp_export_bpf(filter, 1);
			if (code < 0)
				fail("seccomp_export_bpf", code);
		}
	}
	return 0;
}
