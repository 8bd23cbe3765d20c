//go:build ignore

// observer FILE COUNT MIN_US MAX_US GRAIN_US
//
// Writes 0 to FILE and measures how long it stays there: the clock starts
// before the write and stops when a read finds 1 again. Between two samples it
// sleeps between MIN_US and MAX_US, at random; between two reads GRAIN_US, or
// not at all with 0. It prints each sample in nanoseconds, -1 for a 0 that
// stood for five seconds, and ends after the first of those. The first
// sample warms up and is not printed.

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static const long long limit = 5000000000LL;

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

static long long sample(int fd, long grain)
{
	long long start = now(), stood;
	char c;

	if (pwrite(fd, "0", 1, 0) != 1)
		return -2;
	for (;;) {
		if (pread(fd, &c, 1, 0) != 1)
			return -2;
		stood = now() - start;
		if (c == '1')
			return stood;
		if (stood > limit)
			return -1;
		if (grain)
			pause_us(grain);
	}
}

int main(int argc, char **argv)
{
	if (argc != 6) {
		fprintf(stderr, "usage: observer FILE COUNT MIN_US MAX_US GRAIN_US\n");
		return 2;
	}
	int count = atoi(argv[2]);
	long min = atol(argv[3]), max = atol(argv[4]), grain = atol(argv[5]);
	long long *samples = calloc(count + 1, sizeof *samples);
	int n = 0, fd = open(argv[1], O_RDWR);

	if (fd < 0 || !samples) {
		perror(argv[1]);
		return 1;
	}
	srandom(getpid());
	while (n <= count) {
		pause_us(min + random() % (max - min + 1));
		samples[n] = sample(fd, grain);
		if (samples[n] == -2) {
			perror(argv[1]);
			return 1;
		}
		if (samples[n++] == -1)
			break;
	}
	for (int i = samples[0] == -1 ? 0 : 1; i < n; i++)
		printf("%lld\n", samples[i]);
	return 0;
}
