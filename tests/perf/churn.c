/*
 * Code that comes and goes: for as many seconds as the argument says, maps pages, writes functions
 * into them, calls them, writes them anew, calls them again, and unmaps; now and then in a child
 * process. Prints the rounds of each tenth of the time, and ends with status 1 if a function
 * returns what it should not.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PAGES 32
#define PAGE 4096
#define FUNCTION 256 /* bytes from one to the next */
#define SLICES 10

static double now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

/* mov $value, %eax; some instructions without effect; ret */
static void put_function(uint8_t *at, uint32_t value)
{
    unsigned padding = value % 40;

    at[0] = 0xb8;
    memcpy(at + 1, &value, 4);
    memset(at + 5, 0x90, padding);
    at[5 + padding] = 0xc3;
}

static uint32_t call(const uint8_t *at)
{
    uint32_t (*function)(void);

    memcpy(&function, &at, sizeof(function));
    return function();
}

/* Whether all was as it should be. */
static int round_of(uint32_t seed)
{
    uint8_t *area = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE | PROT_EXEC,
                         MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int good = area != MAP_FAILED;

    for (uint32_t time = 0; good && time < 2; time++) {
        for (uint32_t i = 0; i < PAGES * PAGE / FUNCTION; i++)
            put_function(area + i * FUNCTION, seed + i + time);
        for (uint32_t i = 0; i < PAGES * PAGE / FUNCTION; i++)
            good &= call(area + i * FUNCTION) == seed + i + time;
    }
    return good && munmap(area, PAGES * PAGE) == 0;
}

static int in_a_child(uint32_t seed)
{
    int status = -1;
    pid_t child = fork();

    if (child == 0)
        _exit(round_of(seed) ? 0 : 1);
    return child > 0 && waitpid(child, &status, 0) == child && status == 0;
}

int main(int argc, char **argv)
{
    double seconds = argc > 1 ? atof(argv[1]) : 10, end = now();
    uint32_t seed = 0;

    for (unsigned slice = 0; slice < SLICES; slice++) {
        unsigned rounds = 0;

        for (end += seconds / SLICES; now() < end; rounds++) {
            seed += 0x9e3779b9;
            if (!(rounds % 8 ? round_of(seed) : in_a_child(seed))) {
                printf("churn: a function returned something else\n");
                return 1;
            }
        }
        printf("churn: %u rounds\n", rounds);
        fflush(stdout);
    }
    printf("churn: done\n");
    return 0;
}
