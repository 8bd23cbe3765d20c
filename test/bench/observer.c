//go:build ignore

// observer watch|self RIGHT FILE COUNT MIN_US MAX_US GRAIN_US
//
// RIGHT is the value that somebody keeps FILE at, 1 or 0. What follows is told of 1, of
// 0 it is the other way round.
//
// Writes 0 to FILE and measures how long it stays there, COUNT times, with a
// pause between MIN_US and MAX_US before each, at random. The clock starts
// right before the write. When it stops depends on who watches.
//
// watch: two threads, the writer on the first processor that it may use and
// the watcher on the second. The writer wakes the watcher, sleeps LEAD_US,
// sees that the watcher spins, and writes. Then both read until they find 1,
// and the first of the two to find it stops the clock. It takes both: whoever
// puts the value back runs on one of the two cores, and holds up the one who
// watches there. The writer gives its core to whoever wants it between two
// reads, as if it slept; the watcher never does. A 1 ends a thread's watch if
// it is known to be one after the 0:
//
//  - a read before it, of the same thread, found the 0, or
//  - the read began after the write had returned. Then the 0 had been stored,
//    and was gone before this thread could see it.
//
// No other 1 counts: it may be the one that stood before. The time is that of
// the end of the read, so it is never too short. It may be too long, if both
// threads were held up, and the slack says by how much at most: the value was
// still 0 when the last read that found it began, on either core. If no read
// found it, the slack is the whole time.
//
// self: one thread, not pinned, which writes and reads until it finds 1,
// GRAIN_US apart, or without a pause with 0.
//
// It prints for each sample the time, the slack, and the time until the writer
// itself found 1, in nanoseconds; -1 for a 0 that stood for five seconds, and
// ends after the first of those. The first sample warms up and is not printed.

#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { LEAD_US = 200 };

struct sample { long long stood, slack, own; };

static const long long limit = 5000000000LL;
static const char *path, *foreign;
static char right;
static long grain;

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static long long now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void pause_us(long us)
{
	struct timespec t = { us / 1000000, us % 1000000 * 1000 };

	nanosleep(&t, NULL);
}

static int open_file(void)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);

	if (fd < 0)
		fail(path);
	return fd;
}

static char read_value(int fd)
{
	char c;

	if (pread(fd, &c, 1, 0) != 1)
		fail(path);
	return c;
}

// What the writer and the watcher share. The watcher awaits go and posts done.
static sem_t go, done;
static atomic_bool spinning, returned;
static atomic_llong started;
static struct sample watched;

static void hold_on(void) {}
static void give_way(void) { sched_yield(); }
static void doze(void) { pause_us(grain); }

// until_right reads until it finds a right value that counts.
static struct sample until_right(int fd, void (*between)(void))
{
	long long start, zero = 0, began, ended;

	for (;; between()) {
		bool after = returned;

		began = now();
		char c = read_value(fd);
		ended = now();
		spinning = true;
		start = started;
		if (c == right && (zero || after))
			break;
		if (start && ended - start > limit)
			return (struct sample){ -1, 0, -1 };
		if (c != right)
			zero = began;
	}
	return (struct sample){ ended - start, ended - (zero ? zero : start), ended - start };
}

static void write_foreign(int fd)
{
	started = now();
	if (pwrite(fd, foreign, 3, 0) != 3)
		fail(path);
	returned = true;
}

static void pin(int nth)
{
	cpu_set_t may, one;

	CPU_ZERO(&one);
	if (sched_getaffinity(getpid(), sizeof may, &may))
		fail("sched_getaffinity");
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
		if (CPU_ISSET(cpu, &may) && nth-- == 0)
			CPU_SET(cpu, &one);
	if (sched_setaffinity(0, sizeof one, &one)) // none: EINVAL
		fail("sched_setaffinity");
}

static void *watcher(void *unused)
{
	int fd = open_file();

	pin(1);
	sem_post(&done);
	for (;;) {
		sem_wait(&go);
		watched = until_right(fd, hold_on);
		sem_post(&done);
	}
	return unused;
}

static void start_watcher(void)
{
	pthread_t thread;

	if (sem_init(&go, 0, 0) || sem_init(&done, 0, 0) || pthread_create(&thread, NULL, watcher, NULL))
		fail("watcher");
	sem_wait(&done); // it reads the mask of this thread, which is about to change
	pin(0);
}

static struct sample watch(int fd)
{
	sem_post(&go);
	pause_us(LEAD_US);
	while (!spinning)
		;
	write_foreign(fd);
	struct sample own = until_right(fd, give_way), first = own;

	sem_wait(&done);
	if (own.stood < 0 || watched.stood < 0)
		return (struct sample){ -1, 0, -1 };
	long long still = own.stood - own.slack; // it was 0 so long for certain

	if (still < watched.stood - watched.slack)
		still = watched.stood - watched.slack;
	if (first.stood > watched.stood)
		first.stood = watched.stood;
	first.slack = first.stood - still;
	return first;
}

static struct sample self(int fd)
{
	write_foreign(fd);
	return until_right(fd, grain ? doze : hold_on);
}

int main(int argc, char **argv)
{
	if (argc != 8) {
		fprintf(stderr, "usage: observer watch|self RIGHT FILE COUNT MIN_US MAX_US GRAIN_US\n");
		return 2;
	}
	bool watching = strcmp(argv[1], "watch") == 0;
	int count = atoi(argv[4]), n = 0;
	long min = atol(argv[5]), max = atol(argv[6]);
	struct sample *samples = calloc(count + 1, sizeof *samples);

	if (!samples)
		fail("calloc");
	right = argv[2][0];
	foreign = right == '1' ? "0x0" : "0x1";
	path = argv[3];
	grain = atol(argv[7]);
	int fd = open_file();
	if (watching)
		start_watcher();
	srandom(getpid());
	while (n <= count) {
		pause_us(min + random() % (max - min + 1));
		spinning = returned = false;
		started = 0;
		samples[n] = watching ? watch(fd) : self(fd);
		if (samples[n++].stood == -1)
			break;
	}
	for (int i = samples[0].stood == -1 ? 0 : 1; i < n; i++)
		printf("%lld %lld %lld\n", samples[i].stood, samples[i].slack, samples[i].own);
	return 0;
}
