/*
 * The PS/2 keyboard and mouse behind an 8042: each takes bytes from the host and queues bytes for
 * it. IBM PS/2 Hardware Interface Technical Reference, "Keyboards" and "Mouse"; the wheel is
 * Microsoft's IntelliMouse extension.
 *
 * Cores of i8042.c, which calls everything here with its lock held and saves their state with its
 * own.
 */
#ifndef SILL_DEV_LEGACY_PS2_H
#define SILL_DEV_LEGACY_PS2_H

#include "base/types.h"
#include "state/state.h"

#define PS2_ACK 0xfa
#define PS2_RESEND 0xfe
#define PS2_SELF_TEST_PASSED 0xaa

#define PS2_QUEUE_SIZE 16

struct ps2_queue {
    uint8_t data[PS2_QUEUE_SIZE];
    uint8_t head; /* index of the oldest byte */
    uint8_t count;
};

extern const struct state_field ps2_queue_fields[];

static inline unsigned ps2_queue_room(const struct ps2_queue *queue)
{
    return PS2_QUEUE_SIZE - queue->count;
}

static inline void ps2_queue_clear(struct ps2_queue *queue)
{
    queue->head = queue->count = 0;
}

/* A byte that finds no room is lost. */
static inline void ps2_queue_push(struct ps2_queue *queue, uint8_t byte)
{
    if (ps2_queue_room(queue))
        queue->data[(queue->head + queue->count++) % PS2_QUEUE_SIZE] = byte;
}

/* false when there is nothing. */
static inline bool ps2_queue_pop(struct ps2_queue *queue, uint8_t *byte)
{
    if (!queue->count)
        return false;
    *byte = queue->data[queue->head];
    queue->head = (queue->head + 1) % PS2_QUEUE_SIZE;
    queue->count--;
    return true;
}

static inline bool ps2_queue_is_valid(const struct ps2_queue *queue)
{
    return queue->head < PS2_QUEUE_SIZE && queue->count <= PS2_QUEUE_SIZE;
}

struct ps2_keyboard {
    struct ps2_queue replies; /* to commands; go first */
    struct ps2_queue codes;
    uint8_t command; /* whose argument comes next, 0 for none */
    uint8_t last_sent;
    bool scanning;
    uint8_t scan_code_set; /* 1 or 2 */
    uint8_t leds;
    uint8_t typematic;        /* rate and delay as the host programs them */
    uint8_t down[32];         /* bit map of the keys that are down, as i8042_key() numbers them */
    uint16_t repeating;       /* the key that repeats, 0 for none */
    uint64_t repeat_deadline; /* VM time of the next repetition */
};

extern const struct state_field ps2_keyboard_fields[];
bool ps2_keyboard_is_valid(const struct ps2_keyboard *keyboard);

void ps2_keyboard_reset(struct ps2_keyboard *keyboard);
/* A byte from the host. */
void ps2_keyboard_write(struct ps2_keyboard *keyboard, uint8_t byte);
/* The next byte for the host; false when there is none. */
bool ps2_keyboard_read(struct ps2_keyboard *keyboard, uint8_t *byte);
/* See i8042_key(); `now` in ns of VM time. */
void ps2_keyboard_key(struct ps2_keyboard *keyboard, unsigned code, bool down, uint64_t now);
/* Repeats the key that is held, if `now` has reached repeat_deadline. */
void ps2_keyboard_repeat(struct ps2_keyboard *keyboard, uint64_t now);

/* What a controller with translation on makes of a byte of scan code set 2, a function shared by
 * the controller and by a keyboard that has to turn set 1 into set 2. */
uint8_t ps2_translate(uint8_t set2);

struct ps2_mouse {
    struct ps2_queue replies;
    struct ps2_queue packets;
    uint8_t command; /* whose argument comes next, 0 for none */
    uint8_t last_sent;
    bool reporting; /* sends movements of its own accord (in stream mode) */
    bool remote;    /* remote mode: only when asked */
    bool wrap;      /* wrap mode: echoes everything */
    bool scaling;
    uint8_t resolution;
    uint8_t sample_rate;
    uint8_t knock; /* how much of the sequence 200, 100, 80 has come */
    bool wheel;    /* four-byte packets, after the knock */
    uint8_t buttons;
    bool button_changed;
    int32_t dx, dy, dz; /* not yet reported; y up as in a packet */
};

extern const struct state_field ps2_mouse_fields[];
bool ps2_mouse_is_valid(const struct ps2_mouse *mouse);

void ps2_mouse_reset(struct ps2_mouse *mouse);
void ps2_mouse_write(struct ps2_mouse *mouse, uint8_t byte);
bool ps2_mouse_read(struct ps2_mouse *mouse, uint8_t *byte);
/* See i8042_mouse(). */
void ps2_mouse_move(struct ps2_mouse *mouse, int dx, int dy, int dz, unsigned buttons);

#endif
