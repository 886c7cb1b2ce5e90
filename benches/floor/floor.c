/* The floor: the kernel calls that any runtime has to make to run one program
 * under `runc spec`'s default configuration, and nothing else. No JSON, no
 * state, no log, no checks beyond "did the call work". It is a measuring stick
 * for `make bench`; it must not grow features and is not a container runtime.
 *
 *   floor [-m BYTES] v1|v2 ROOTFS CGROUP HIERARCHY:... PROGRAM [ARG...]
 *
 * CGROUP is a path below each hierarchy. v1: HIERARCHY:... are the directories
 * of /sys/fs/cgroup. v2: /sys/fs/cgroup is the cgroup2 mount, and the container
 * gets a cgroup namespace, as `runc spec` writes it on such a host.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/mount.h>
#include <linux/sched.h>
#include <net/if.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#define COUNT(table) (sizeof(table) / sizeof((table)[0]))
#define MAX_HIERARCHIES 32

/* Ends the program with the call's text: a floor that skipped a step would
 * measure nothing. */
#define MUST(call) must((long)(call), #call)
static long must(long result, const char *call)
{
	if (result >= 0)
		return result;
	int error = errno;
	dprintf(2, "floor: %s: %s\n", call, strerror(error));
	_exit(125);
}

/* glibc 2.36 has wrappers for these, but its header clashes with the kernel's. */
static int fs_open(const char *type) { return syscall(SYS_fsopen, type, FSOPEN_CLOEXEC); }
static int fs_set(int fs, const char *key, const char *value) { return syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, key, value, 0); }
static int fs_create(int fs) { return syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0); }
static int fs_mount(int fs, unsigned attr) { return syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, attr); }
static int tree_clone(int dir, const char *path, unsigned flags) { return syscall(SYS_open_tree, dir, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | flags); }
static int tree_attach(int tree, int dir, const char *path) { return syscall(SYS_move_mount, tree, "", dir, path, MOVE_MOUNT_F_EMPTY_PATH); }
static int tree_set(int dir, const char *path, unsigned flags, struct mount_attr attr) { return syscall(SYS_mount_setattr, dir, path, flags, &attr, sizeof(attr)); }

/* ---- what `runc spec` asks for ---- */

#define SAFE (MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC | MOUNT_ATTR_NODEV)
static const struct filesystem {
	const char *type, *source, *target;
	unsigned attr;
	const char *options[4][2];
} filesystems[] = {
	{ "proc", "proc", "proc", 0, {} },
	{ "tmpfs", "tmpfs", "dev", MOUNT_ATTR_NOSUID | MOUNT_ATTR_STRICTATIME, { { "mode", "755" }, { "size", "65536k" } } },
	{ "devpts", "devpts", "dev/pts", MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC, { { "ptmxmode", "0666" }, { "mode", "0620" }, { "gid", "5" } } },
	{ "tmpfs", "shm", "dev/shm", SAFE, { { "mode", "1777" }, { "size", "65536k" } } },
	{ "mqueue", "mqueue", "dev/mqueue", SAFE, {} },
	{ "sysfs", "sysfs", "sys", SAFE | MOUNT_ATTR_RDONLY, {} },
};
static const struct device {
	const char *path;
	unsigned major, minor;
} devices[] = {
	{ "dev/null", 1, 3 }, { "dev/zero", 1, 5 }, { "dev/full", 1, 7 },
	{ "dev/random", 1, 8 }, { "dev/urandom", 1, 9 }, { "dev/tty", 5, 0 },
};
static const char *const links[][2] = {
	{ "/proc/self/fd", "dev/fd" }, { "/proc/self/fd/0", "dev/stdin" }, { "/proc/self/fd/1", "dev/stdout" },
	{ "/proc/self/fd/2", "dev/stderr" }, { "/proc/kcore", "dev/core" }, { "pts/ptmx", "dev/ptmx" },
};
static const char *const device_rules[] = { /* after "deny all": what every runtime allows by default */
	"c *:* m", "b *:* m", "c 1:3 rwm", "c 1:5 rwm", "c 1:7 rwm", "c 1:8 rwm", "c 1:9 rwm", "c 5:0 rwm", "c 136:* rwm", "c 5:2 rwm",
};
static const char *const masked[] = {
	"proc/acpi", "proc/asound", "proc/kcore", "proc/keys", "proc/latency_stats", "proc/timer_list",
	"proc/timer_stats", "proc/sched_debug", "sys/firmware", "proc/scsi",
};
static const char *const readonly[] = { "proc/bus", "proc/fs", "proc/irq", "proc/sys", "proc/sysrq-trigger" };
static const unsigned kept_capabilities[] = { CAP_AUDIT_WRITE, CAP_KILL, CAP_NET_BIND_SERVICE };

/* ---- what the command line says ---- */

static int v2;
static const char *rootfs, *cgroup, *memory_limit;
static const char *hierarchies[MAX_HIERARCHIES];
static int tasks[MAX_HIERARCHIES];
static size_t hierarchy_count;

/* ---- the parent's part: cgroups ---- */

static const char *cgroup_path(const char *hierarchy, const char *file)
{
	static char path[4096];
	if (v2)
		snprintf(path, sizeof(path), "/sys/fs/cgroup%s%s", cgroup, file);
	else
		snprintf(path, sizeof(path), "/sys/fs/cgroup/%s%s%s", hierarchy, cgroup, file);
	return path;
}

static void write_file(int dir, const char *file, const char *const *lines, size_t count)
{
	int fd = MUST(openat(dir, file, O_WRONLY | O_CLOEXEC));
	for (size_t i = 0; i < count; i++)
		MUST(write(fd, lines[i], strlen(lines[i])));
	close(fd);
}

static void inherit_file(int dir, const char *from, const char *to)
{
	char text[4096];
	int fd = MUST(openat(dir, from, O_RDONLY | O_CLOEXEC));
	ssize_t length = MUST(read(fd, text, sizeof(text) - 1));
	close(fd);
	text[length] = 0;
	write_file(dir, to, (const char *[]){ text }, 1);
}

static void make_v1_cgroups(void)
{
	for (size_t i = 0; i < hierarchy_count; i++) {
		const char *path = cgroup_path(hierarchies[i], "");
		MUST(mkdir(path, 0755));
		int dir = MUST(open(path, O_PATH | O_DIRECTORY | O_CLOEXEC));
		if (!strcmp(hierarchies[i], "cpuset")) { /* empty, and no task may enter, until these are set */
			inherit_file(dir, "../cpuset.cpus", "cpuset.cpus");
			inherit_file(dir, "../cpuset.mems", "cpuset.mems");
		} else if (!strcmp(hierarchies[i], "devices")) {
			write_file(dir, "devices.deny", (const char *[]){ "a" }, 1);
			write_file(dir, "devices.allow", device_rules, COUNT(device_rules));
		} else if (!strcmp(hierarchies[i], "memory") && memory_limit) {
			write_file(dir, "memory.limit_in_bytes", &memory_limit, 1);
		}
		tasks[i] = MUST(openat(dir, "tasks", O_WRONLY | O_CLOEXEC));
		close(dir);
	}
}

static void remove_cgroups(void)
{
	for (size_t i = 0; i < hierarchy_count; i++)
		MUST(rmdir(cgroup_path(hierarchies[i], "")));
}

/* ---- the child's part: everything else ---- */
/* It closes nothing: execve does. */


static void mount_filesystem(int root, const struct filesystem *f)
{
	int fs = MUST(fs_open(f->type));
	MUST(fs_set(fs, "source", f->source));
	for (size_t i = 0; i < COUNT(f->options) && f->options[i][0]; i++)
		MUST(fs_set(fs, f->options[i][0], f->options[i][1]));
	MUST(fs_create(fs));
	int tree = MUST(fs_mount(fs, f->attr));
	MUST(tree_attach(tree, root, f->target));
}

static void fill_dev(int root)
{
	for (size_t i = 0; i < COUNT(devices); i++)
		MUST(mknodat(root, devices[i].path, S_IFCHR | 0666, makedev(devices[i].major, devices[i].minor)));
	for (size_t i = 0; i < COUNT(links); i++)
		MUST(symlinkat(links[i][0], root, links[i][1]));
}

static void mount_cgroups(int root)
{
	static const struct filesystem unified = { "cgroup2", "cgroup", "sys/fs/cgroup", SAFE | MOUNT_ATTR_RDONLY, {} };
	static const struct filesystem hollow = { "tmpfs", "cgroup", "sys/fs/cgroup", SAFE, { { "mode", "755" } } };
	struct mount_attr attr = { .attr_set = SAFE | MOUNT_ATTR_RDONLY };
	if (v2) {
		mount_filesystem(root, &unified);
		return;
	}
	mount_filesystem(root, &hollow);
	for (size_t i = 0; i < hierarchy_count; i++) {
		char target[256];
		snprintf(target, sizeof(target), "sys/fs/cgroup/%s", hierarchies[i]);
		MUST(mkdirat(root, target, 0755));
		int tree = MUST(tree_clone(AT_FDCWD, cgroup_path(hierarchies[i], ""), 0));
		MUST(tree_set(tree, "", AT_EMPTY_PATH, attr));
		MUST(tree_attach(tree, root, target));
	}
	MUST(tree_set(root, "sys/fs/cgroup", 0, (struct mount_attr){ .attr_set = MOUNT_ATTR_RDONLY }));
}

static void hide_paths(int root)
{
	static const struct filesystem empty = { "tmpfs", "tmpfs", NULL, MOUNT_ATTR_RDONLY, {} };
	const char *first_directory = NULL;
	for (size_t i = 0; i < COUNT(masked); i++) {
		struct stat status;
		if (fstatat(root, masked[i], &status, 0) < 0)
			continue;
		if (S_ISDIR(status.st_mode) && !first_directory) {
			struct filesystem here = empty;
			here.target = first_directory = masked[i];
			mount_filesystem(root, &here);
			continue;
		}
		int tree = MUST(tree_clone(root, S_ISDIR(status.st_mode) ? first_directory : "dev/null", 0));
		MUST(tree_attach(tree, root, masked[i]));
	}
	for (size_t i = 0; i < COUNT(readonly); i++) {
		int tree = tree_clone(root, readonly[i], AT_RECURSIVE);
		if (tree < 0)
			continue;
		MUST(tree_set(tree, "", AT_EMPTY_PATH | AT_RECURSIVE, (struct mount_attr){ .attr_set = MOUNT_ATTR_RDONLY }));
		MUST(tree_attach(tree, root, readonly[i]));
	}
}

static void raise_loopback(void)
{
	struct ifreq request = { .ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING };
	int fd = MUST(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
	MUST(ioctl(fd, SIOCSIFFLAGS, &request));
}

static void drop_privileges(void)
{
	struct rlimit files = { 1024, 1024 };
	struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct sets[2] = { { 0 } };
	uint64_t kept = 0;
	for (size_t i = 0; i < COUNT(kept_capabilities); i++)
		kept |= 1ull << kept_capabilities[i];
	MUST(setrlimit(RLIMIT_NOFILE, &files));
	for (unsigned i = 0; i <= CAP_LAST_CAP; i++)
		if (!(kept >> i & 1) && prctl(PR_CAPBSET_DROP, i, 0, 0, 0) < 0 && errno != EINVAL)
			MUST(-1);
	MUST(setgroups(0, NULL));
	MUST(setresgid(0, 0, 0));
	MUST(setresuid(0, 0, 0));
	sets[0].effective = sets[0].permitted = kept;
	sets[1].effective = sets[1].permitted = kept >> 32;
	MUST(syscall(SYS_capset, &header, sets));
	MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
}

static void become_container(char **argv)
{
	static char *const environment[] = { "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm", NULL };
	MUST(setsid());
	MUST(tree_set(AT_FDCWD, "/", AT_RECURSIVE, (struct mount_attr){ .propagation = 1 << 19 /* MS_SLAVE */ }));
	int root = MUST(tree_clone(AT_FDCWD, rootfs, AT_RECURSIVE));
	MUST(tree_attach(root, AT_FDCWD, rootfs));
	umask(0);
	for (size_t i = 0; i < COUNT(filesystems); i++) {
		if (!strncmp(filesystems[i].target, "dev/", 4))
			MUST(mkdirat(root, filesystems[i].target, 0755));
		mount_filesystem(root, &filesystems[i]);
	}
	fill_dev(root);
	for (size_t i = 0; i < hierarchy_count && !v2; i++)
		MUST(write(tasks[i], "0", 1)); /* by the single-threaded child itself: anything else waits 10 ms for RCU */
	mount_cgroups(root);
	hide_paths(root);
	MUST(sethostname("runc", 4));
	raise_loopback();
	MUST(tree_set(root, "", AT_EMPTY_PATH, (struct mount_attr){ .attr_set = MOUNT_ATTR_RDONLY }));
	MUST(fchdir(root));
	MUST(syscall(SYS_pivot_root, ".", "."));
	MUST(syscall(SYS_umount2, ".", 2 /* MNT_DETACH */));
	MUST(chdir("/"));
	umask(0022);
	drop_privileges();
	MUST(syscall(SYS_close_range, 3, ~0u, 4 /* CLOSE_RANGE_CLOEXEC */));
	MUST(execve(argv[0], argv, environment));
}

int main(int argc, char **argv)
{
	if (argc > 2 && !strcmp(argv[1], "-m")) {
		memory_limit = argv[2];
		argv += 2, argc -= 2;
	}
	if (argc < 6) {
		dprintf(2, "usage: floor [-m BYTES] v1|v2 ROOTFS CGROUP HIERARCHY:... PROGRAM [ARG...]\n");
		return 125;
	}
	v2 = !strcmp(argv[1], "v2");
	rootfs = argv[2];
	cgroup = argv[3];
	for (char *name = strtok(argv[4], ":"); name && hierarchy_count < MAX_HIERARCHIES; name = strtok(NULL, ":"))
		hierarchies[hierarchy_count++] = name;
	if (v2)
		hierarchy_count = 1;

	struct clone_args args = {
		.flags = CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNS | CLONE_CLEAR_SIGHAND,
		.exit_signal = SIGCHLD,
	};
	if (v2) {
		MUST(mkdir(cgroup_path("", ""), 0755));
		args.cgroup = MUST(open(cgroup_path("", ""), O_PATH | O_DIRECTORY | O_CLOEXEC));
		if (memory_limit)
			write_file(args.cgroup, "memory.max", &memory_limit, 1);
		args.flags |= CLONE_INTO_CGROUP | CLONE_NEWCGROUP;
	} else {
		make_v1_cgroups();
	}
	pid_t pid = MUST(syscall(SYS_clone3, &args, sizeof(args)));
	if (pid == 0)
		become_container(argv + 5);
	int status;
	MUST(waitpid(pid, &status, 0));
	remove_cgroups();
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
