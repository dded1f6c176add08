/*
 * A PS/2 keyboard (IBM PS/2 Hardware Interface Technical Reference, "Keyboards"): commands, scan
 * code sets 1 and 2, typematic repetition. Set 3 is refused, as many keyboards do.
 *
 * Keys arrive as codes of set 1 (i8042.h). See ps2.h for who calls.
 */
#include "dev/legacy/ps2.h"

#include <string.h>

#include "base/clock.h"
#include "dev/legacy/i8042.h"

#define PREFIX_EXTENDED 0xe0
#define PREFIX_PAUSE 0xe1
#define PREFIX_RELEASE 0xf0 /* set 2 */
#define RELEASE_BIT 0x80    /* set 1 */

#define KEY_COUNT 0x100 /* codes with INPUT_EXTENDED; Pause is never down */
#define LONGEST_SEQUENCE 8

#define TYPEMATIC_DEFAULT 0x2b /* 500 ms, then 10.9 a second */

enum command {
    COMMAND_LEDS = 0xed,
    COMMAND_ECHO = 0xee,
    COMMAND_SCAN_CODE_SET = 0xf0,
    COMMAND_IDENTIFY = 0xf2,
    COMMAND_TYPEMATIC = 0xf3,
    COMMAND_ENABLE = 0xf4,
    COMMAND_DISABLE = 0xf5,
    COMMAND_DEFAULTS = 0xf6,
    COMMAND_RESEND = 0xfe,
    COMMAND_RESET = 0xff,
};

uint8_t ps2_translate(uint8_t set2)
{
    static const uint8_t set1[0x80] = {
        0xff, 0x43, 0x41, 0x3f, 0x3d, 0x3b, 0x3c, 0x58, 0x64, 0x44, 0x42, 0x40, 0x3e, 0x0f, 0x29,
        0x59, 0x65, 0x38, 0x2a, 0x70, 0x1d, 0x10, 0x02, 0x5a, 0x66, 0x71, 0x2c, 0x1f, 0x1e, 0x11,
        0x03, 0x5b, 0x67, 0x2e, 0x2d, 0x20, 0x12, 0x05, 0x04, 0x5c, 0x68, 0x39, 0x2f, 0x21, 0x14,
        0x13, 0x06, 0x5d, 0x69, 0x31, 0x30, 0x23, 0x22, 0x15, 0x07, 0x5e, 0x6a, 0x72, 0x32, 0x24,
        0x16, 0x08, 0x09, 0x5f, 0x6b, 0x33, 0x25, 0x17, 0x18, 0x0b, 0x0a, 0x60, 0x6c, 0x34, 0x35,
        0x26, 0x27, 0x19, 0x0c, 0x61, 0x6d, 0x73, 0x28, 0x74, 0x1a, 0x0d, 0x62, 0x6e, 0x3a, 0x36,
        0x1c, 0x1b, 0x75, 0x2b, 0x63, 0x76, 0x55, 0x56, 0x77, 0x78, 0x79, 0x7a, 0x0e, 0x7b, 0x7c,
        0x4f, 0x7d, 0x4b, 0x47, 0x7e, 0x7f, 0x6f, 0x52, 0x53, 0x50, 0x4c, 0x4d, 0x48, 0x01, 0x45,
        0x57, 0x4e, 0x51, 0x4a, 0x37, 0x49, 0x46, 0x54,
    };

    if (set2 < ARRAY_SIZE(set1))
        return set1[set2];
    if (set2 == 0x83) /* F7 */
        return 0x41;
    if (set2 == 0x84) /* Alt+PrintScreen */
        return 0x54;
    return set2;
}

/* The other way round. Where two codes of set 2 translate to one of set 1 (0x02 and 0x83), the
 * higher one is a real key. */
static uint8_t set2_of_set1(uint8_t set1)
{
    unsigned code = 0x84;

    while (code && ps2_translate(code) != set1)
        code--;
    return code;
}

/* Queues the bytes of one key, all or none. */
static void send_key(struct ps2_keyboard *keyboard, unsigned key, bool down)
{
    static const uint8_t pause_set1[] = {PREFIX_PAUSE, 0x1d, 0x45, PREFIX_PAUSE, 0x9d, 0xc5};
    static const uint8_t pause_set2[] = {PREFIX_PAUSE,   0x14, 0x77,           PREFIX_PAUSE,
                                         PREFIX_RELEASE, 0x14, PREFIX_RELEASE, 0x77};
    bool set2 = keyboard->scan_code_set == 2;
    uint8_t code = key & ~INPUT_EXTENDED;

    if (ps2_queue_room(&keyboard->codes) < LONGEST_SEQUENCE)
        return;
    if (key == INPUT_KEY_PAUSE) {
        const uint8_t *bytes = set2 ? pause_set2 : pause_set1;
        size_t count = set2 ? sizeof(pause_set2) : sizeof(pause_set1);

        for (size_t i = 0; i < count; i++)
            ps2_queue_push(&keyboard->codes, bytes[i]);
        return;
    }
    if (key & INPUT_EXTENDED)
        ps2_queue_push(&keyboard->codes, PREFIX_EXTENDED);
    if (!set2) {
        ps2_queue_push(&keyboard->codes, code | (down ? 0 : RELEASE_BIT));
    } else {
        if (!down)
            ps2_queue_push(&keyboard->codes, PREFIX_RELEASE);
        ps2_queue_push(&keyboard->codes, set2_of_set1(code));
    }
}

/* Typematic byte: bits 6:5 delay, 4:3 exponent and 2:0 mantissa of the period. */

static uint64_t repeat_delay_ns(const struct ps2_keyboard *keyboard)
{
    return ((keyboard->typematic >> 5 & 3) + 1) * (NS_PER_SEC / 4);
}

static uint64_t repeat_period_ns(const struct ps2_keyboard *keyboard)
{
    return ((8 + (keyboard->typematic & 7)) << (keyboard->typematic >> 3 & 3)) * (NS_PER_SEC / 240);
}

void ps2_keyboard_key(struct ps2_keyboard *keyboard, unsigned code, bool down, uint64_t now)
{
    uint8_t *byte, bit;

    if (!keyboard->scanning || code > INPUT_KEY_PAUSE || !(code & ~INPUT_EXTENDED))
        return;
    if (code == INPUT_KEY_PAUSE) {
        if (down)
            send_key(keyboard, code, true);
        return;
    }
    byte = &keyboard->down[code / 8];
    bit = 1 << code % 8;
    if (!!(*byte & bit) == down) /* repetition is this keyboard's own business */
        return;
    *byte ^= bit;
    send_key(keyboard, code, down);
    if (down) {
        keyboard->repeating = code;
        keyboard->repeat_deadline = now + repeat_delay_ns(keyboard);
    } else if (keyboard->repeating == code) {
        keyboard->repeating = 0;
    }
}

void ps2_keyboard_repeat(struct ps2_keyboard *keyboard, uint64_t now)
{
    if (!keyboard->repeating || now < keyboard->repeat_deadline)
        return;
    send_key(keyboard, keyboard->repeating, true);
    keyboard->repeat_deadline = now + repeat_period_ns(keyboard);
}

static void set_defaults(struct ps2_keyboard *keyboard)
{
    keyboard->scan_code_set = 2;
    keyboard->typematic = TYPEMATIC_DEFAULT;
    keyboard->repeating = 0;
    memset(keyboard->down, 0, sizeof(keyboard->down));
    ps2_queue_clear(&keyboard->codes);
}

void ps2_keyboard_reset(struct ps2_keyboard *keyboard)
{
    *keyboard = (struct ps2_keyboard){.scanning = true};
    set_defaults(keyboard);
}

static void write_argument(struct ps2_keyboard *keyboard, uint8_t command, uint8_t byte)
{
    bool known = true;

    switch (command) {
    case COMMAND_LEDS:
        keyboard->leds = byte & 7;
        break;
    case COMMAND_TYPEMATIC:
        keyboard->typematic = byte & 0x7f;
        break;
    case COMMAND_SCAN_CODE_SET:
        known = byte <= 2;
        if (byte && known)
            keyboard->scan_code_set = byte;
        break;
    }
    ps2_queue_push(&keyboard->replies, known ? PS2_ACK : PS2_RESEND);
    if (command == COMMAND_SCAN_CODE_SET && !byte) /* the question which set is in use */
        ps2_queue_push(&keyboard->replies, keyboard->scan_code_set);
}

static void write_command(struct ps2_keyboard *keyboard, uint8_t byte)
{
    /* A new command ends whatever was being answered. */
    ps2_queue_clear(&keyboard->replies);
    switch (byte) {
    case COMMAND_ECHO:
        ps2_queue_push(&keyboard->replies, COMMAND_ECHO);
        return;
    case COMMAND_RESEND:
        ps2_queue_push(&keyboard->replies, keyboard->last_sent);
        return;
    case COMMAND_LEDS:
    case COMMAND_TYPEMATIC:
    case COMMAND_SCAN_CODE_SET:
        keyboard->command = byte;
        break;
    case COMMAND_IDENTIFY:
        ps2_queue_push(&keyboard->replies, PS2_ACK);
        ps2_queue_push(&keyboard->replies, 0xab);
        ps2_queue_push(&keyboard->replies, 0x83);
        return;
    case COMMAND_ENABLE:
        ps2_queue_clear(&keyboard->codes);
        keyboard->scanning = true;
        break;
    case COMMAND_DISABLE:
        set_defaults(keyboard);
        keyboard->scanning = false;
        break;
    case COMMAND_DEFAULTS:
        set_defaults(keyboard);
        break;
    case COMMAND_RESET:
        ps2_keyboard_reset(keyboard);
        ps2_queue_push(&keyboard->replies, PS2_ACK);
        ps2_queue_push(&keyboard->replies, PS2_SELF_TEST_PASSED);
        return;
    default:
        ps2_queue_push(&keyboard->replies, PS2_RESEND);
        return;
    }
    ps2_queue_push(&keyboard->replies, PS2_ACK);
}

void ps2_keyboard_write(struct ps2_keyboard *keyboard, uint8_t byte)
{
    uint8_t command = keyboard->command;

    keyboard->command = 0;
    /* A command in place of an argument is taken as a command. */
    if (command && byte < COMMAND_LEDS)
        write_argument(keyboard, command, byte);
    else
        write_command(keyboard, byte);
}

bool ps2_keyboard_read(struct ps2_keyboard *keyboard, uint8_t *byte)
{
    /* While an argument is awaited no key comes in between. */
    if (!ps2_queue_pop(&keyboard->replies, byte) &&
        (keyboard->command || !ps2_queue_pop(&keyboard->codes, byte)))
        return false;
    keyboard->last_sent = *byte;
    return true;
}

bool ps2_keyboard_is_valid(const struct ps2_keyboard *keyboard)
{
    return ps2_queue_is_valid(&keyboard->replies) && ps2_queue_is_valid(&keyboard->codes) &&
           (keyboard->scan_code_set == 1 || keyboard->scan_code_set == 2) &&
           keyboard->repeating < KEY_COUNT;
}

const struct state_field ps2_queue_fields[] = {
    STATE_BYTES(struct ps2_queue, data),
    STATE_INT(struct ps2_queue, head),
    STATE_INT(struct ps2_queue, count),
    STATE_END,
};

const struct state_field ps2_keyboard_fields[] = {
    STATE_STRUCT(struct ps2_keyboard, replies, ps2_queue_fields),
    STATE_STRUCT(struct ps2_keyboard, codes, ps2_queue_fields),
    STATE_INT(struct ps2_keyboard, command),
    STATE_INT(struct ps2_keyboard, last_sent),
    STATE_BOOL(struct ps2_keyboard, scanning),
    STATE_INT(struct ps2_keyboard, scan_code_set),
    STATE_INT(struct ps2_keyboard, leds),
    STATE_INT(struct ps2_keyboard, typematic),
    STATE_BYTES(struct ps2_keyboard, down),
    STATE_INT(struct ps2_keyboard, repeating),
    STATE_INT(struct ps2_keyboard, repeat_deadline),
    STATE_END,
};
