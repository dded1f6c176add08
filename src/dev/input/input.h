/*
 * Keys and pointer movements on their way from whoever drives a VM (a VNC client, the control
 * socket) to the keyboards and pointing devices that its board has.
 *
 * A device adds a sink. Keys go to the latest keyboard that the guest uses; a position goes to a
 * device that takes positions (a tablet) if the guest uses one, else the way from the latest
 * position goes to a mouse.
 *
 * Threads: any. One lock, held during the calls of sinks; it comes before the devices' own.
 */
#ifndef SILL_DEV_INPUT_INPUT_H
#define SILL_DEV_INPUT_INPUT_H

#include "base/types.h"

/*
 * A key is its scan code of set 1 without the release bit, 0x01 to 0x7f; INPUT_EXTENDED marks those
 * whose code follows an 0xe0 prefix. INPUT_KEY_PAUSE is the one key without a release.
 */
#define INPUT_EXTENDED 0x80
#define INPUT_KEY_PAUSE 0x100

enum input_button {
    INPUT_LEFT = 1 << 0,
    INPUT_RIGHT = 1 << 1,
    INPUT_MIDDLE = 1 << 2,
};

/* Positions go from 0, left or top, to this. */
#define INPUT_POSITION_MAX 0x7fff

/* That of the pixel `at`, of `extent` in a row. */
static inline unsigned input_position(unsigned at, unsigned extent)
{
    return extent > 1 ? at * INPUT_POSITION_MAX / (extent - 1) : 0;
}

struct input_sink_ops {
    /* Does the guest use the device now? NULL: always. */
    bool (*in_use)(void *opaque);
    /* A keyboard. */
    void (*key)(void *opaque, unsigned code, bool down);
    /* Has the guest taken all keys that came? For those who type faster than people. */
    bool (*keys_taken)(void *opaque);
    /* A mouse: the way right and down in its counts, the wheel towards the user. */
    void (*move)(void *opaque, int dx, int dy, int dz, unsigned buttons);
    /* A tablet. */
    void (*place)(void *opaque, unsigned x, unsigned y, int dz, unsigned buttons);
};

struct input_sink {
    const struct input_sink_ops *ops; /* what a device is not is NULL */
    void *opaque;
    struct input_sink *next;
};

struct input;

/* NULL: no memory. */
struct input *input_new(void);
/* No sink may be left. */
void input_free(struct input *input);

/* The device's, until it removes it. */
void input_add(struct input *input, struct input_sink *sink);
void input_remove(struct input *input, struct input_sink *sink);

void input_key(struct input *input, unsigned code, bool down);
bool input_keys_taken(struct input *input);
/* Where the pointer is, how far the wheel has turned, which buttons are down. */
void input_place(struct input *input, unsigned x, unsigned y, int dz, unsigned buttons);

#endif
