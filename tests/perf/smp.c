/* Workloads for two processors: independent work, a contended lock, contended atomics. Threads are
 * started once in prepare(); each round wakes them through a barrier. */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "workload.h"

#define THREADS 2
static pthread_t thread[THREADS];
static pthread_barrier_t begin, end;
static bool stop;
static uint64_t result[THREADS];
static uint64_t (*job)(unsigned index);

static void *worker(void *opaque)
{
    unsigned index = (unsigned)(uintptr_t)opaque;

    for (;;) {
        pthread_barrier_wait(&begin);
        if (stop)
            return NULL;
        result[index] = job(index);
        pthread_barrier_wait(&end);
    }
}

static void start(uint64_t (*what)(unsigned index))
{
    job = what;
    stop = false;
    pthread_barrier_init(&begin, NULL, THREADS + 1);
    pthread_barrier_init(&end, NULL, THREADS + 1);
    for (uintptr_t i = 0; i < THREADS; i++)
        if (pthread_create(&thread[i], NULL, worker, (void *)i))
            give_up("pthread_create: error %d", errno);
}

static void finish(void)
{
    stop = true;
    pthread_barrier_wait(&begin);
    for (int i = 0; i < THREADS; i++)
        pthread_join(thread[i], NULL);
    pthread_barrier_destroy(&begin);
    pthread_barrier_destroy(&end);
}

static uint64_t round_run(void)
{
    pthread_barrier_wait(&begin);
    pthread_barrier_wait(&end);
    return result[0] + 3 * result[1];
}

static uint64_t independent(unsigned index)
{
    uint64_t seed = index, sum = 0;

    for (int i = 0; i < 1000000; i++)
        sum ^= next_random(&seed);
    return sum;
}

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static uint64_t shared;

static uint64_t locked(unsigned index)
{
    for (int i = 0; i < 10000; i++) {
        pthread_mutex_lock(&lock);
        shared++;
        pthread_mutex_unlock(&lock);
    }
    return 10000;
}

static _Atomic uint64_t counter;

static uint64_t atomic(unsigned index)
{
    for (int i = 0; i < 50000; i++)
        atomic_fetch_add(&counter, 1);
    return 50000;
}

/* The two hand a token to each other: latency from one processor to the other. */
static _Atomic unsigned turn;

static uint64_t handoff(unsigned index)
{
    for (int i = 0; i < 5000; i++) {
        while (atomic_load(&turn) != index)
            asm volatile("pause");
        atomic_store(&turn, 1 - index);
    }
    return 5000;
}

static void prepare_independent(void)
{
    start(independent);
}

static void prepare_locked(void)
{
    start(locked);
}

static void prepare_atomic(void)
{
    start(atomic);
}

static void prepare_handoff(void)
{
    start(handoff);
}

const struct workload smp_workloads[] = {
    {"smp-independent", "smp", round_run, prepare_independent, finish},
    {"smp-lock", "smp", round_run, prepare_locked, finish},
    {"smp-atomic", "smp", round_run, prepare_atomic, finish},
    {"smp-handoff", "smp", round_run, prepare_handoff, finish},
    {0},
};
