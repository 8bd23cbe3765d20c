//go:build ignore

// forker PROGRAM RATE COUNT
//
// Starts PROGRAM without arguments COUNT times, RATE times a second, and waits
// for the end of each. Without arguments it does nothing, so it can be its own
// PROGRAM. Where the machine is too slow for RATE it is as fast as it can.

#define _GNU_SOURCE
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>

int main(int argc, char **argv)
{
	struct timespec next;
	char *args[] = { argv[1], NULL }, *env[] = { NULL };

	if (argc < 4)
		return 0;
	clock_gettime(CLOCK_MONOTONIC, &next);
	for (int n = atoi(argv[3]); n > 0; n--) {
		pid_t pid;

		// vfork and exec, in a way that compilers understand
		if (posix_spawn(&pid, args[0], NULL, NULL, args, env) != 0 || waitpid(pid, NULL, 0) != pid) {
			perror("start");
			return 1;
		}
		next.tv_nsec += 1000000000L / atoi(argv[2]);
		if (next.tv_nsec >= 1000000000L) {
			next.tv_nsec -= 1000000000L;
			next.tv_sec++;
		}
		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL);
	}
	return 0;
}
