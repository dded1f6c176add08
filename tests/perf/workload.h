/*
 * A workload is one kind of work that guests do, in a form that can be timed: a function that does
 * a fixed amount of it (1 to 3 ms on a bare CPU of 2023) and returns a checksum of the result.
 * main.c repeats it for a given time. The same static program runs on the host, in Sill and in
 * other emulators; equal checksums show that all of them did the same work, and did it right.
 */
#ifndef SILL_PERF_WORKLOAD_H
#define SILL_PERF_WORKLOAD_H

#include <stddef.h>
#include <stdint.h>

struct workload {
    const char *name;
    /* What the figures are grouped by: integer, control, memory, float, simd, system, tool, smp. */
    const char *group;
    uint64_t (*run)(void);
    void (*prepare)(void); /* before the clock starts; NULL if there is nothing to do */
    void (*finish)(void);  /* afterwards; NULL if there is nothing to do */
};

/* Each file of workloads ends in such a list, closed by an entry without a name. */
extern const struct workload integer_workloads[];
extern const struct workload control_workloads[];
extern const struct workload memory_workloads[];
extern const struct workload float_workloads[];
extern const struct workload simd_workloads[];
extern const struct workload system_workloads[];
extern const struct workload tool_workloads[];
extern const struct workload smp_workloads[];

/* Deterministic test data (splitmix64). */
static inline uint64_t next_random(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15ull);
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}

/* Folds a value into a checksum. */
static inline uint64_t mix(uint64_t sum, uint64_t value)
{
    return (sum ^ value) * 0x100000001b3ull + (sum >> 47);
}

/* Ends the program with a message: something a workload needs is not there. */
__attribute__((noreturn, format(printf, 1, 2))) void give_up(const char *format, ...);

/* This program's own path, to execute it again. */
extern const char *self_path;

#endif
