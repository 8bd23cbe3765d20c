//go:build ignore

// loop VALUE FILE...
//
// Keeps each FILE at VALUE, which is 0 or 1, with as little as that takes: the yardstick for nfguard.
// It makes the system calls that nfguard makes for a foreign write: fanotify
// wakes it, it reads each file through a descriptor that is already open,
// writes what is wrong, empties the queue, and looks once more, because an
// event may have come between the look and the emptying.

#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/fanotify.h>
#include <unistd.h>

enum { MAX = 8 };

static int files[MAX], n;
static const char *right;

static void look(void)
{
	char value[16];

	for (int i = 0; i < n; i++)
		if (pread(files[i], value, sizeof value, 0) > 0 && value[0] != right[0])
			if (pwrite(files[i], right, 1, 0) != 1)
				perror("write");
}

static void drain(int events)
{
	static char buf[4096] __attribute__((aligned(8)));
	ssize_t len = read(events, buf, sizeof buf);
	struct fanotify_event_metadata *e = (void *)buf;

	for (; FAN_EVENT_OK(e, len); e = FAN_EVENT_NEXT(e, len))
		if (e->fd >= 0)
			close(e->fd);
}

int main(int argc, char **argv)
{
	int events = fanotify_init(FAN_CLASS_NOTIF | FAN_CLOEXEC | FAN_NONBLOCK, O_RDONLY | O_CLOEXEC);

	if (events < 0 || argc < 3) {
		perror("fanotify_init");
		return 1;
	}
	right = argv[1];
	for (n = 0; n < argc - 2 && n < MAX; n++) {
		files[n] = open(argv[n + 2], O_RDWR | O_CLOEXEC);
		if (files[n] < 0 || fanotify_mark(events, FAN_MARK_ADD, FAN_MODIFY, AT_FDCWD, argv[n + 2]) < 0) {
			perror(argv[n + 2]);
			return 1;
		}
	}
	for (;;) {
		struct pollfd p = { .fd = events, .events = POLLIN };

		look();
		poll(&p, 1, -1);
		look();
		drain(events);
	}
}
