//go:build ignore

// sleepers COUNT
//
// Has COUNT processes of the user nobody sleep, says "ready" when they do, and
// sleeps with them until it is killed, and they with it.

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	const int nobody = 65534;

	if (argc != 2 || setgid(nobody) != 0 || setuid(nobody) != 0) {
		perror("become nobody");
		return 1;
	}
	// Who changes his ids gives up the signal that he was to get.
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (int n = atoi(argv[1]); n > 0; n--) {
		switch (fork()) {
		case -1:
			perror("fork");
			return 1;
		case 0:
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			pause();
			return 0;
		}
	}
	puts("ready");
	fflush(stdout);
	pause();
	return 0;
}
