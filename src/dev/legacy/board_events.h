/*
 * What legacy devices tell the board: the guest asked for something that concerns the whole
 * machine. One struct, filled by the board, outlives the devices.
 *
 * Called on the vCPU thread of the guest's access, with no device lock held. The callbacks only
 * take note and make the vCPUs leave the engine; the control thread does the work. A NULL function
 * means that the board does not care.
 */
#ifndef SILL_DEV_LEGACY_BOARD_EVENTS_H
#define SILL_DEV_LEGACY_BOARD_EVENTS_H

struct board_events {
    void *opaque;
    void (*reset)(void *opaque);            /* hard reset of the whole machine */
    void (*power_off)(void *opaque);        /* ACPI S5 */
    void (*crashed)(void *opaque);          /* the guest's kernel reports its own panic */
    void (*rearrange)(void *opaque);        /* see pc_rearrange() */
    void (*exit)(void *opaque, int status); /* debug-exit: end the run with this exit status */
};

static inline void board_reset(const struct board_events *events)
{
    if (events->reset)
        events->reset(events->opaque);
}

static inline void board_power_off(const struct board_events *events)
{
    if (events->power_off)
        events->power_off(events->opaque);
}

static inline void board_crashed(const struct board_events *events)
{
    if (events->crashed)
        events->crashed(events->opaque);
}

static inline void board_rearrange(const struct board_events *events)
{
    if (events->rearrange)
        events->rearrange(events->opaque);
}

static inline void board_exit(const struct board_events *events, int status)
{
    if (events->exit)
        events->exit(events->opaque, status);
}

#endif
