/*
 * Runs workloads and prints, for each,
 *
 *     begin NAME
 *     result NAME GROUP ITERATIONS SECONDS CHECKSUM TOTAL
 *
 * SECONDS is what the ITERATIONS took by this machine's own clock. TOTAL runs from the `begin` line
 * to the `result` line, preparation and one untimed warm-up round included: whoever reads the lines
 * can compare it with the time that passed between them on his clock.
 *
 *     workloads [-t SECONDS] [NAME | GROUP]...     default: 0.3 s each, all but group smp
 *     workloads -l                                 list
 */
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "workload.h"

static const struct workload *const lists[] = {
    integer_workloads, control_workloads, memory_workloads, float_workloads,
    simd_workloads,    system_workloads,  tool_workloads,   smp_workloads,
};

const char *self_path;

void give_up(const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    exit(1);
}

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

static void measure(const struct workload *w, double seconds)
{
    printf("begin %s\n", w->name);
    fflush(stdout);

    double begin = now();
    if (w->prepare)
        w->prepare();
    uint64_t checksum = w->run();

    unsigned long iterations = 0;
    double start = now(), elapsed;
    do {
        if (w->run() != checksum)
            give_up("%s: two rounds gave different results", w->name);
        iterations++;
        elapsed = now() - start;
    } while (elapsed < seconds);

    if (w->finish)
        w->finish();
    printf("result %s %s %lu %.6f %016llx %.6f\n", w->name, w->group, iterations, elapsed,
           (unsigned long long)checksum, now() - begin);
    fflush(stdout);
}

static bool wanted(const struct workload *w, char **names)
{
    if (!*names)
        return strcmp(w->group, "smp") != 0;
    for (; *names; names++)
        if (strcmp(*names, w->name) == 0 || strcmp(*names, w->group) == 0)
            return true;
    return false;
}

int main(int argc, char **argv)
{
    double seconds = 0.3;
    bool list = false;
    int option;

    self_path = argv[0];
    /* The fork+exec workload runs this program with this one argument. */
    if (argc == 2 && strcmp(argv[1], "nothing") == 0)
        return 7;
    while ((option = getopt(argc, argv, "lt:")) != -1) {
        if (option == 't')
            seconds = atof(optarg);
        else if (option == 'l')
            list = true;
        else
            return 1;
    }

    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
        for (const struct workload *w = lists[i]; w->name; w++) {
            if (list)
                printf("%s %s\n", w->group, w->name);
            else if (wanted(w, argv + optind))
                measure(w, seconds);
        }
    }
    return 0;
}
