/*
 * VM time and its timers; see clock.h.
 *
 * Armed timers lie in a binary heap ordered by deadline. A real clock has one service thread, which
 * sleeps until the earliest deadline and calls what is due without holding the lock; a manual clock
 * does the same on the thread that calls clock_advance().
 *
 * Reading the time takes no lock, because guests read their clocks very often. All that it needs is
 * in one word, `time`:
 *
 *      63   62                            0
 *     +---+-------------------------------+
 *     | 0 | host time at VM time 0        |  running: VM time = host time - this, modulo 2^63
 *     | 1 | VM time                       |  standing: stopped, or a manual clock
 *     +---+-------------------------------+
 */
#include "base/clock.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>

#define TIME_STANDING (1ull << 63)
#define TIME_MASK (TIME_STANDING - 1)

/* Armed timers at once. They are embedded in the board's devices and vCPUs, a few each, so no guest
 * can come near it; being fixed, timer_set() cannot fail. */
#define CLOCK_MAX_ARMED 8192

/* Guests arm timers centuries ahead; sleeping in pieces keeps the arithmetic of timespec simple. */
#define LONGEST_SLEEP_NS (3600 * NS_PER_SEC)

struct clock {
    _Atomic uint64_t time; /* written under the lock */
    pthread_mutex_t lock;  /* all below; innermost, never held in a callback */
    pthread_cond_t wake;   /* the service thread: the heap's first entry or the time changed */
    pthread_cond_t idle;   /* `firing` became NULL */
    struct timer *firing;  /* whose callback runs now; only compared, it may be freed meanwhile */
    size_t armed;
    struct timer *heap[CLOCK_MAX_ARMED + 1]; /* [1..armed]; children of i are 2i and 2i+1 */
    pthread_t thread;
    bool manual;
    bool quit;
};

static uint64_t host_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * NS_PER_SEC + (uint64_t)now.tv_nsec;
}

static uint64_t vm_time(uint64_t word)
{
    return (word & TIME_STANDING ? word : host_now() - word) & TIME_MASK;
}

static bool standing(const struct clock *clock)
{
    return atomic_load(&clock->time) & TIME_STANDING;
}

/* Heap. */

static void heap_put(struct clock *clock, size_t i, struct timer *timer)
{
    clock->heap[i] = timer;
    timer->heap_index = i;
}

static void heap_sift_up(struct clock *clock, size_t i, struct timer *timer)
{
    while (i > 1 && timer->deadline < clock->heap[i / 2]->deadline) {
        heap_put(clock, i, clock->heap[i / 2]);
        i /= 2;
    }
    heap_put(clock, i, timer);
}

static void heap_sift_down(struct clock *clock, size_t i, struct timer *timer)
{
    for (size_t child = 2 * i; child <= clock->armed; child = 2 * i) {
        if (child < clock->armed && clock->heap[child + 1]->deadline < clock->heap[child]->deadline)
            child++;
        if (timer->deadline <= clock->heap[child]->deadline)
            break;
        heap_put(clock, i, clock->heap[child]);
        i = child;
    }
    heap_put(clock, i, timer);
}

static void heap_insert(struct clock *clock, struct timer *timer)
{
    assert(clock->armed < CLOCK_MAX_ARMED);
    heap_sift_up(clock, ++clock->armed, timer);
}

static void heap_remove(struct clock *clock, struct timer *timer)
{
    size_t hole = timer->heap_index;
    struct timer *last = clock->heap[clock->armed--];
    timer->heap_index = 0;
    if (last == timer)
        return;
    if (hole > 1 && last->deadline < clock->heap[hole / 2]->deadline)
        heap_sift_up(clock, hole, last);
    else
        heap_sift_down(clock, hole, last);
}

/* Firing. */

/* Disarms the first timer and runs its callback. Lock held on entry and return, not in between. */
static void fire_first(struct clock *clock)
{
    struct timer *timer = clock->heap[1];
    void (*fire)(void *opaque) = timer->fire;
    void *opaque = timer->opaque;

    heap_remove(clock, timer);
    clock->firing = timer;
    pthread_mutex_unlock(&clock->lock);
    fire(opaque);
    pthread_mutex_lock(&clock->lock);
    clock->firing = NULL;
    pthread_cond_broadcast(&clock->idle);
}

static void sleep_until_first(struct clock *clock, uint64_t now)
{
    uint64_t delta = clock->heap[1]->deadline - now;
    uint64_t until = host_now() + (delta < LONGEST_SLEEP_NS ? delta : LONGEST_SLEEP_NS);
    struct timespec ts = {
        .tv_sec = (time_t)(until / NS_PER_SEC),
        .tv_nsec = (long)(until % NS_PER_SEC),
    };
    /* It matters not why this returns: the caller looks at everything again. */
    pthread_cond_timedwait(&clock->wake, &clock->lock, &ts);
}

static void *service_thread(void *opaque)
{
    struct clock *clock = opaque;

    /* The default slack of 50 us would be added to each timer of the guest. */
    prctl(PR_SET_TIMERSLACK, 1);
    pthread_mutex_lock(&clock->lock);
    while (!clock->quit) {
        if (!clock->armed || standing(clock)) {
            pthread_cond_wait(&clock->wake, &clock->lock);
            continue;
        }
        uint64_t now = clock_now(clock);
        if (clock->heap[1]->deadline <= now)
            fire_first(clock);
        else
            sleep_until_first(clock, now);
    }
    pthread_mutex_unlock(&clock->lock);
    return NULL;
}

/* Clocks. */

static void locks_init(struct clock *clock)
{
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&clock->wake, &attr);
    pthread_condattr_destroy(&attr);
    pthread_cond_init(&clock->idle, NULL);
    pthread_mutex_init(&clock->lock, NULL);
}

static void locks_done(struct clock *clock)
{
    pthread_mutex_destroy(&clock->lock);
    pthread_cond_destroy(&clock->idle);
    pthread_cond_destroy(&clock->wake);
}

int clock_new(struct clock **out, struct error *err)
{
    struct clock *clock = calloc(1, sizeof(*clock));
    if (!clock)
        return error_set(err, -ENOMEM, "no memory for the VM's clock");
    locks_init(clock);
    atomic_store(&clock->time, host_now());
    int ret = pthread_create(&clock->thread, NULL, service_thread, clock);
    if (ret) {
        locks_done(clock);
        free(clock);
        return error_set(err, -ret, "cannot start the timer thread: %s", strerror(ret));
    }
    pthread_setname_np(clock->thread, "timers");
    *out = clock;
    return 0;
}

int clock_new_manual(struct clock **out)
{
    struct clock *clock = calloc(1, sizeof(*clock));
    if (!clock)
        return -ENOMEM;
    locks_init(clock);
    clock->manual = true;
    atomic_store(&clock->time, TIME_STANDING);
    *out = clock;
    return 0;
}

void clock_free(struct clock *clock)
{
    if (!clock)
        return;
    if (!clock->manual) {
        pthread_mutex_lock(&clock->lock);
        clock->quit = true;
        pthread_cond_signal(&clock->wake);
        pthread_mutex_unlock(&clock->lock);
        pthread_join(clock->thread, NULL);
    }
    assert(!clock->armed);
    locks_done(clock);
    free(clock);
}

uint64_t clock_now(struct clock *clock)
{
    return vm_time(atomic_load_explicit(&clock->time, memory_order_acquire));
}

static void set_standing_time(struct clock *clock, uint64_t now)
{
    atomic_store(&clock->time, TIME_STANDING | (now & TIME_MASK));
}

void clock_advance(struct clock *clock, uint64_t ns)
{
    assert(clock->manual);
    pthread_mutex_lock(&clock->lock);
    uint64_t target = clock_now(clock) + ns;
    while (clock->armed && clock->heap[1]->deadline <= target) {
        if (clock->heap[1]->deadline > clock_now(clock))
            set_standing_time(clock, clock->heap[1]->deadline);
        fire_first(clock);
    }
    set_standing_time(clock, target);
    pthread_mutex_unlock(&clock->lock);
}

void clock_stop(struct clock *clock)
{
    assert(!clock->manual);
    pthread_mutex_lock(&clock->lock);
    set_standing_time(clock, clock_now(clock));
    while (clock->firing)
        pthread_cond_wait(&clock->idle, &clock->lock);
    pthread_mutex_unlock(&clock->lock);
}

void clock_start(struct clock *clock)
{
    assert(!clock->manual);
    pthread_mutex_lock(&clock->lock);
    if (standing(clock)) {
        atomic_store(&clock->time, (host_now() - clock_now(clock)) & TIME_MASK);
        pthread_cond_signal(&clock->wake);
    }
    pthread_mutex_unlock(&clock->lock);
}

void clock_set(struct clock *clock, uint64_t now)
{
    pthread_mutex_lock(&clock->lock);
    assert(standing(clock));
    set_standing_time(clock, now);
    pthread_mutex_unlock(&clock->lock);
}

/* Timers. */

void timer_init(struct timer *timer, struct clock *clock, void (*fire)(void *opaque), void *opaque)
{
    *timer = (struct timer){.clock = clock, .fire = fire, .opaque = opaque};
}

void timer_set(struct timer *timer, uint64_t deadline_ns)
{
    struct clock *clock = timer->clock;

    pthread_mutex_lock(&clock->lock);
    if (timer->heap_index)
        heap_remove(clock, timer);
    timer->deadline = deadline_ns;
    heap_insert(clock, timer);
    /* A timer that moved away from the front costs at most one wake-up for nothing. */
    if (timer->heap_index == 1)
        pthread_cond_signal(&clock->wake);
    pthread_mutex_unlock(&clock->lock);
}

void timer_cancel(struct timer *timer)
{
    struct clock *clock = timer->clock;

    pthread_mutex_lock(&clock->lock);
    if (timer->heap_index)
        heap_remove(clock, timer);
    pthread_mutex_unlock(&clock->lock);
}

void timer_cancel_sync(struct timer *timer)
{
    struct clock *clock = timer->clock;

    pthread_mutex_lock(&clock->lock);
    /* The running callback may arm it again, so disarm after the wait as well as before. */
    while (timer->heap_index || clock->firing == timer) {
        if (timer->heap_index)
            heap_remove(clock, timer);
        if (clock->firing == timer)
            pthread_cond_wait(&clock->idle, &clock->lock);
    }
    pthread_mutex_unlock(&clock->lock);
}

bool timer_armed(const struct timer *timer)
{
    struct clock *clock = timer->clock;

    pthread_mutex_lock(&clock->lock);
    bool armed = timer->heap_index;
    pthread_mutex_unlock(&clock->lock);
    return armed;
}
