/* Workloads: memory. Pointer chasing, summing, library copies and the string instructions. */
#include <stdlib.h>
#include <string.h>

#include "workload.h"

#define AREA (1024 * 1024)
static uint8_t source[AREA] __attribute__((aligned(4096)));
static uint8_t target[AREA] __attribute__((aligned(4096)));

static void prepare_source(void)
{
    uint64_t seed = 11;

    for (size_t i = 0; i < AREA; i += 8) {
        uint64_t value = next_random(&seed);
        memcpy(source + i, &value, 8);
    }
    memset(target, 0, AREA);
}

static uint64_t sample(const uint8_t *area)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < AREA; i += 4093)
        sum = mix(sum, area[i]);
    return sum;
}

/* A random cycle through 4 MiB, one cache line a node. */
struct node {
    struct node *next;
    uint64_t value;
    uint8_t padding[48];
};
#define NODES (4 * 1024 * 1024 / sizeof(struct node))
static struct node nodes[NODES];

static void prepare_nodes(void)
{
    static uint32_t order[NODES];
    uint64_t seed = 12;

    for (uint32_t i = 0; i < NODES; i++)
        order[i] = i;
    for (uint32_t i = NODES - 1; i > 0; i--) {
        uint32_t j = (uint32_t)(next_random(&seed) % (i + 1)), t = order[i];
        order[i] = order[j];
        order[j] = t;
    }
    for (uint32_t i = 0; i < NODES; i++) {
        nodes[order[i]].next = &nodes[order[(i + 1) % NODES]];
        nodes[order[i]].value = i;
    }
}

static uint64_t chase_run(void)
{
    const struct node *n = nodes;
    uint64_t sum = 0;

    for (size_t i = 0; i < 2 * NODES; i++) {
        sum += n->value;
        n = n->next;
    }
    return sum;
}

/* Loads, adds and stores of 8 bytes: the plainest loop over an array there is. */
static uint64_t sum_run(void)
{
    uint64_t sum = 0;

    for (int round = 0; round < 8; round++) {
        for (size_t i = 0; i < AREA; i += 8) {
            uint64_t value;
            memcpy(&value, source + i, 8);
            asm volatile("" : "+r"(value)); /* no vector code here; simd.c has that */
            sum += value;
        }
    }
    return sum;
}

static uint64_t memcpy_run(void)
{
    for (int round = 0; round < 40; round++)
        for (size_t i = 0; i < AREA; i += 65536)
            memcpy(target + i, source + i, 65536);
    return sample(target);
}

/* Short copies of mixed length, as programs mostly make. */
static uint64_t memcpy_short_run(void)
{
    volatile size_t extra = 0; /* the compiler must call the library */
    uint64_t seed = 13;

    for (int i = 0; i < 100000; i++) {
        uint64_t r = next_random(&seed);
        memcpy(target + (r & 0xffff), source + (r >> 16 & 0xffff), (r >> 32 & 127) + extra);
    }
    return sample(target);
}

static uint64_t strings_run(void)
{
    uint64_t sum = 0;
    static char text[8192];
    volatile int rounds = 4000;

    memset(text, 'a', sizeof(text) - 1);
    for (int i = 0; i < rounds; i++) {
        text[4000 + (i & 127)] = 'b';
        asm volatile("" ::: "memory");
        sum = mix(sum, strlen(text + (i & 127)) + (size_t)((char *)memchr(text, 'b', 8000) - text));
        sum = mix(sum, (uint64_t)(strcmp(text, text + 64) < 0));
        text[4000 + (i & 127)] = 'a';
    }
    return sum;
}

static void move_bytes(void *to, const void *from, size_t count)
{
    asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(count) : : "memory");
}

static void move_words(void *to, const void *from, size_t count)
{
    asm volatile("rep movsq" : "+D"(to), "+S"(from), "+c"(count) : : "memory");
}

static void store_words(void *to, uint64_t value, size_t count)
{
    asm volatile("rep stosq" : "+D"(to), "+c"(count) : "a"(value) : "memory");
}

static uint64_t rep_movsb_run(void)
{
    for (int round = 0; round < 40; round++)
        for (size_t i = 0; i < AREA; i += 16384)
            move_bytes(target + i, source + i, 16384);
    return sample(target);
}

static uint64_t rep_movsq_run(void)
{
    for (int round = 0; round < 40; round++)
        for (size_t i = 0; i < AREA; i += 4096)
            move_words(target + i, source + i, 4096 / 8);
    return sample(target);
}

static uint64_t rep_stosq_run(void)
{
    for (int round = 0; round < 60; round++)
        for (size_t i = 0; i < AREA; i += 4096)
            store_words(target + i, (uint64_t)round + i, 4096 / 8);
    return sample(target);
}

/* Start-up cost dominates: 3 to 66 bytes. */
static uint64_t rep_short_run(void)
{
    for (size_t i = 0; i < 40000; i++)
        move_bytes(target + (i * 72 & 0xffff), source + (i * 40 & 0xffff), 3 + (i & 63));
    return sample(target);
}

const struct workload memory_workloads[] = {
    {"chase", "memory", chase_run, prepare_nodes, NULL},
    {"sum", "memory", sum_run, prepare_source, NULL},
    {"memcpy", "memory", memcpy_run, prepare_source, NULL},
    {"memcpy-short", "memory", memcpy_short_run, prepare_source, NULL},
    {"strings", "memory", strings_run, NULL, NULL},
    {"rep-movsb", "memory", rep_movsb_run, prepare_source, NULL},
    {"rep-movsq", "memory", rep_movsq_run, prepare_source, NULL},
    {"rep-stosq", "memory", rep_stosq_run, prepare_source, NULL},
    {"rep-short", "memory", rep_short_run, prepare_source, NULL},
    {0},
};
