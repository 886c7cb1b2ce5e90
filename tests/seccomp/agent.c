/* A seccomp agent: listens on a Unix socket, prints the message that each connection brings, and answers what
 * the descriptors of all ask.
 *
 *   agent PATH errno NUMBER     refuses with it
 *   agent PATH value NUMBER     says that the call returned it
 *   agent PATH continue         lets the call through
 * It prints "ready" when it listens, each message on a line, and "asked NUMBER" for each call. */
#include <errno.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static void answer(int fd, const char *how, int number) {
	struct seccomp_notif ask;
	struct seccomp_notif_resp reply;
	memset(&ask, 0, sizeof ask);
	if (ioctl(fd, SECCOMP_IOCTL_NOTIF_RECV, &ask) < 0)
		return;
	printf("asked %d\n", ask.data.nr);
	fflush(stdout);
	memset(&reply, 0, sizeof reply);
	reply.id = ask.id;
	if (strcmp(how, "errno") == 0)
		reply.error = -number;
	else if (strcmp(how, "value") == 0)
		reply.val = number;
	else
		reply.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
	ioctl(fd, SECCOMP_IOCTL_NOTIF_SEND, &reply);
}

int main(int argc, char **argv) {
	static char text[65536];
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct pollfd polled[64];
	int count = 1, listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (argc < 3)
		return 2;
	strncpy(address.sun_path, argv[1], sizeof address.sun_path - 1);
	if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0 || listen(listener, 8) < 0)
		return 1;
	puts("ready");
	fflush(stdout);
	polled[0] = (struct pollfd){.fd = listener, .events = POLLIN};
	while (poll(polled, count, -1) > 0) {
		for (int n = count - 1; n > 0; n--) {
			if (polled[n].revents & POLLIN)
				answer(polled[n].fd, argv[2], argc > 3 ? atoi(argv[3]) : 0);
			else if (polled[n].revents) {
				close(polled[n].fd);
				polled[n] = polled[--count];
			}
		}
		if (polled[0].revents & POLLIN) {
			int stream = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
			union {
				struct cmsghdr header;
				char space[CMSG_SPACE(8 * sizeof(int))];
			} control;
			struct iovec part = {.iov_base = text, .iov_len = sizeof text - 1};
			struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
			ssize_t length = recvmsg(stream, &message, MSG_CMSG_CLOEXEC);
			struct cmsghdr *header = CMSG_FIRSTHDR(&message);
			if (length > 0 && header != NULL && count < 64) {
				int fds = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
				text[length] = 0;
				printf("%d %s\n", fds, text);
				fflush(stdout);
				memcpy(&polled[count].fd, CMSG_DATA(header), sizeof(int));
				polled[count++].events = POLLIN;
			}
			close(stream);
		}
	}
	return 0;
}
