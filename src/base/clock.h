/*
 * VM time and the timers that device cores use.
 *
 * A device core never reads the host's clock: it asks its `struct clock`, which counts nanoseconds
 * of VM time (monotonic, stands still while the VM is paused). Timers fire on the clock's own
 * service thread, or, in unit tests, from clock_advance() on a manual clock.
 */
#ifndef SILL_BASE_CLOCK_H
#define SILL_BASE_CLOCK_H

#include "base/error.h"
#include "base/types.h"

#define NS_PER_SEC 1000000000ull

struct clock;

/*
 * One pending event. Embed it in the device; timer_init() before use, timer_cancel() before free.
 * The callback runs without any lock held and may set or cancel any timer, itself included.
 */
struct timer {
    struct clock *clock;
    void (*fire)(void *opaque);
    void *opaque;
    uint64_t deadline; /* ns of VM time; meaningful while armed */
    size_t heap_index; /* 1-based place in the clock's heap, 0 when not armed */
};

/* A clock that follows the host's CLOCK_MONOTONIC, with a service thread of its own. */
SILL_CHECKED int clock_new(struct clock **out, struct error *err);
/* A clock for tests that moves only when told. */
SILL_CHECKED int clock_new_manual(struct clock **out);
/* Stops the service thread. No timer may be armed. */
void clock_free(struct clock *clock);

uint64_t clock_now(struct clock *clock);
/* Manual clocks only: moves time forward, firing what falls due in order of deadline. */
void clock_advance(struct clock *clock, uint64_t ns);
/* Stop and restart VM time (pause and resume of the VM). Real clocks only. After clock_stop() no
 * callback runs; not from a callback, and not while holding a lock that a callback takes. */
void clock_stop(struct clock *clock);
void clock_start(struct clock *clock);
/* Moves VM time to `now` (restore of a saved VM); only while stopped, or on a manual clock. */
void clock_set(struct clock *clock, uint64_t now);

void timer_init(struct timer *timer, struct clock *clock, void (*fire)(void *opaque), void *opaque);
/* Arms (or re-arms) the timer. A deadline in the past fires at once (on a manual clock: in the next
 * clock_advance()), but never inside this call. Any thread. */
void timer_set(struct timer *timer, uint64_t deadline_ns);
/*
 * Disarms. A callback that has already started may still be running on the service thread when this
 * returns; a device whose callback takes the device's lock is safe, since it re-checks under it.
 */
void timer_cancel(struct timer *timer);
/* As timer_cancel(), and waits for a running callback to end. Not from a timer callback, and not
 * while holding a lock that the callback takes. Call it before freeing the device. */
void timer_cancel_sync(struct timer *timer);
bool timer_armed(const struct timer *timer);

#endif
