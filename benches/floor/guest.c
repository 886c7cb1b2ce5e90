/* What runs inside the containers of the benchmark, under two names: `true`
 * ends at once, `pause` sleeps until it is killed. It must do nothing else: what
 * it costs is added to every runtime's figures alike.
 */
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	const char *slash = argc > 0 ? strrchr(argv[0], '/') : NULL;
	if (slash && !strcmp(slash + 1, "pause"))
		for (;;)
			pause();
	return 0;
}
