/*
 * A PS/2 mouse (IBM PS/2 Hardware Interface Technical Reference, "Mouse") with the IntelliMouse's
 * wheel. See ps2.h for who calls.
 *
 * Movements add up while earlier packets still wait, so that a slow guest sees few large movements
 * rather than late ones.
 *
 * A packet:     bit 7   6   5   4   3   2   1   0
 *      byte 1      Yov Xov Ysg Xsg  1   M   R   L
 *      bytes 2, 3  x, y (low eight bits of nine; x to the right, y up)
 *      byte 4      z (towards the user), only after the knock
 */
#include "dev/legacy/ps2.h"

#include "dev/legacy/i8042.h"

#define PACKET_SIGN_X (1 << 4)
#define PACKET_SIGN_Y (1 << 5)
#define PACKET_ALWAYS (1 << 3)
#define PACKET_LARGEST 4
#define MOVEMENT_MAX 255
#define WHEEL_MAX 7

/* Movement that nobody fetches is bounded. */
#define PENDING_MAX 0x7fff

#define ID_PLAIN 0x00
#define ID_WHEEL 0x03

#define BUTTON_MASK (INPUT_LEFT | INPUT_RIGHT | INPUT_MIDDLE)

enum command {
    COMMAND_SCALING_1_1 = 0xe6,
    COMMAND_SCALING_2_1 = 0xe7,
    COMMAND_RESOLUTION = 0xe8,
    COMMAND_STATUS = 0xe9,
    COMMAND_STREAM_MODE = 0xea,
    COMMAND_READ = 0xeb,
    COMMAND_WRAP_OFF = 0xec,
    COMMAND_WRAP_ON = 0xee,
    COMMAND_REMOTE_MODE = 0xf0,
    COMMAND_IDENTIFY = 0xf2,
    COMMAND_SAMPLE_RATE = 0xf3,
    COMMAND_ENABLE = 0xf4,
    COMMAND_DISABLE = 0xf5,
    COMMAND_DEFAULTS = 0xf6,
    COMMAND_RESEND = 0xfe,
    COMMAND_RESET = 0xff,
};

static int32_t clamp(int64_t value, int32_t most)
{
    return value > most ? most : value < -most ? -most : (int32_t)value;
}

static void push_packet(struct ps2_mouse *mouse, struct ps2_queue *queue)
{
    int32_t x = clamp(mouse->dx, MOVEMENT_MAX);
    int32_t y = clamp(mouse->dy, MOVEMENT_MAX);
    int32_t z = mouse->wheel ? clamp(mouse->dz, WHEEL_MAX) : mouse->dz;

    ps2_queue_push(queue, PACKET_ALWAYS | mouse->buttons | (x < 0 ? PACKET_SIGN_X : 0) |
                              (y < 0 ? PACKET_SIGN_Y : 0));
    ps2_queue_push(queue, x);
    ps2_queue_push(queue, y);
    if (mouse->wheel)
        ps2_queue_push(queue, z);
    mouse->dx -= x;
    mouse->dy -= y;
    mouse->dz -= z;
    mouse->button_changed = false;
}

/* Reports what has happened, as far as there is room. */
static void report(struct ps2_mouse *mouse)
{
    if (!mouse->reporting || mouse->remote)
        return;
    while ((mouse->button_changed || mouse->dx || mouse->dy || (mouse->wheel && mouse->dz)) &&
           ps2_queue_room(&mouse->packets) >= PACKET_LARGEST)
        push_packet(mouse, &mouse->packets);
}

void ps2_mouse_move(struct ps2_mouse *mouse, int dx, int dy, int dz, unsigned buttons)
{
    buttons &= BUTTON_MASK;
    mouse->dx = clamp((int64_t)mouse->dx + dx, PENDING_MAX);
    mouse->dy = clamp((int64_t)mouse->dy - dy, PENDING_MAX);
    mouse->dz = clamp((int64_t)mouse->dz + dz, PENDING_MAX);
    mouse->button_changed |= buttons != mouse->buttons;
    mouse->buttons = buttons;
    report(mouse);
}

static void forget_movement(struct ps2_mouse *mouse)
{
    mouse->dx = mouse->dy = mouse->dz = 0;
    mouse->button_changed = false;
    ps2_queue_clear(&mouse->packets);
}

static void set_defaults(struct ps2_mouse *mouse)
{
    mouse->reporting = false;
    mouse->remote = false;
    mouse->scaling = false;
    mouse->resolution = 2; /* 4 counts/mm */
    mouse->sample_rate = 100;
    forget_movement(mouse);
}

void ps2_mouse_reset(struct ps2_mouse *mouse)
{
    *mouse = (struct ps2_mouse){.buttons = mouse->buttons};
    set_defaults(mouse);
}

/* "Set sample rate" 200, 100, 80 in a row turns the wheel on. */
static void listen_for_knock(struct ps2_mouse *mouse, uint8_t rate)
{
    static const uint8_t sequence[] = {200, 100, 80};

    if (rate != sequence[mouse->knock])
        mouse->knock = 0;
    if (rate == sequence[mouse->knock])
        mouse->knock++;
    if (mouse->knock == ARRAY_SIZE(sequence)) {
        mouse->knock = 0;
        mouse->wheel = true;
    }
}

static void push_status(struct ps2_mouse *mouse)
{
    /* Here the buttons go left, middle, right from bit 2 down. */
    uint8_t status = (mouse->buttons & INPUT_LEFT ? 4 : 0) |
                     (mouse->buttons & INPUT_MIDDLE ? 2 : 0) |
                     (mouse->buttons & INPUT_RIGHT ? 1 : 0);

    status |= mouse->scaling << 4 | mouse->reporting << 5 | mouse->remote << 6;
    ps2_queue_push(&mouse->replies, status);
    ps2_queue_push(&mouse->replies, mouse->resolution);
    ps2_queue_push(&mouse->replies, mouse->sample_rate);
}

static void write_argument(struct ps2_mouse *mouse, uint8_t command, uint8_t byte)
{
    if (command == COMMAND_RESOLUTION) {
        mouse->resolution = byte & 3;
    } else {
        mouse->sample_rate = byte;
        listen_for_knock(mouse, byte);
    }
    ps2_queue_push(&mouse->replies, PS2_ACK);
}

static void write_command(struct ps2_mouse *mouse, uint8_t byte)
{
    /* A new command ends whatever was being answered, and a packet that was cut in two comes anew.
     */
    ps2_queue_clear(&mouse->replies);
    if (mouse->packets.count) {
        ps2_queue_clear(&mouse->packets);
        mouse->button_changed = true;
    }
    if (byte == COMMAND_RESEND) {
        ps2_queue_push(&mouse->replies, mouse->last_sent);
        return;
    }
    if (mouse->wrap && byte != COMMAND_RESET && byte != COMMAND_WRAP_OFF) {
        ps2_queue_push(&mouse->replies, byte);
        return;
    }
    ps2_queue_push(&mouse->replies, PS2_ACK);
    switch (byte) {
    case COMMAND_SCALING_1_1:
        mouse->scaling = false;
        break;
    case COMMAND_SCALING_2_1:
        mouse->scaling = true;
        break;
    case COMMAND_RESOLUTION:
    case COMMAND_SAMPLE_RATE:
        mouse->command = byte;
        break;
    case COMMAND_STATUS:
        push_status(mouse);
        break;
    case COMMAND_STREAM_MODE:
        mouse->remote = false;
        break;
    case COMMAND_READ:
        push_packet(mouse, &mouse->replies);
        break;
    case COMMAND_WRAP_OFF:
        mouse->wrap = false;
        break;
    case COMMAND_WRAP_ON:
        mouse->wrap = true;
        break;
    case COMMAND_REMOTE_MODE:
        mouse->remote = true;
        break;
    case COMMAND_IDENTIFY:
        ps2_queue_push(&mouse->replies, mouse->wheel ? ID_WHEEL : ID_PLAIN);
        break;
    case COMMAND_ENABLE:
        forget_movement(mouse);
        mouse->reporting = true;
        break;
    case COMMAND_DISABLE:
        mouse->reporting = false;
        forget_movement(mouse);
        break;
    case COMMAND_DEFAULTS:
        set_defaults(mouse);
        break;
    case COMMAND_RESET:
        ps2_mouse_reset(mouse);
        ps2_queue_push(&mouse->replies, PS2_ACK);
        ps2_queue_push(&mouse->replies, PS2_SELF_TEST_PASSED);
        ps2_queue_push(&mouse->replies, ID_PLAIN);
        break;
    default:
        ps2_queue_clear(&mouse->replies);
        ps2_queue_push(&mouse->replies, PS2_RESEND);
        break;
    }
}

void ps2_mouse_write(struct ps2_mouse *mouse, uint8_t byte)
{
    uint8_t command = mouse->command;

    mouse->command = 0;
    if (command && byte != COMMAND_RESET)
        write_argument(mouse, command, byte);
    else
        write_command(mouse, byte);
}

bool ps2_mouse_read(struct ps2_mouse *mouse, uint8_t *byte)
{
    /* While an argument is awaited no packet comes in between. */
    if (!ps2_queue_pop(&mouse->replies, byte) &&
        (mouse->command || !ps2_queue_pop(&mouse->packets, byte)))
        return false;
    mouse->last_sent = *byte;
    report(mouse);
    return true;
}

bool ps2_mouse_is_valid(const struct ps2_mouse *mouse)
{
    return ps2_queue_is_valid(&mouse->replies) && ps2_queue_is_valid(&mouse->packets) &&
           mouse->knock < 3 && !(mouse->buttons & ~BUTTON_MASK) &&
           mouse->dx == clamp(mouse->dx, PENDING_MAX) &&
           mouse->dy == clamp(mouse->dy, PENDING_MAX) && mouse->dz == clamp(mouse->dz, PENDING_MAX);
}

const struct state_field ps2_mouse_fields[] = {
    STATE_STRUCT(struct ps2_mouse, replies, ps2_queue_fields),
    STATE_STRUCT(struct ps2_mouse, packets, ps2_queue_fields),
    STATE_INT(struct ps2_mouse, command),
    STATE_INT(struct ps2_mouse, last_sent),
    STATE_BOOL(struct ps2_mouse, reporting),
    STATE_BOOL(struct ps2_mouse, remote),
    STATE_BOOL(struct ps2_mouse, wrap),
    STATE_BOOL(struct ps2_mouse, scaling),
    STATE_INT(struct ps2_mouse, resolution),
    STATE_INT(struct ps2_mouse, sample_rate),
    STATE_INT(struct ps2_mouse, knock),
    STATE_BOOL(struct ps2_mouse, wheel),
    STATE_INT(struct ps2_mouse, buttons),
    STATE_BOOL(struct ps2_mouse, button_changed),
    STATE_INT(struct ps2_mouse, dx),
    STATE_INT(struct ps2_mouse, dy),
    STATE_INT(struct ps2_mouse, dz),
    STATE_END,
};
