/*
 * Fuzzes the whole board as a guest sees it: the input is a list of port, MMIO and PCI
 * configuration accesses of all sizes, of writes to guest memory (rings, descriptors, command
 * lists), of resets and pauses, and of devices that come and go in hot-plug slots, on a board with
 * every kind of device. Nothing a guest does may end the process, and what the board saves
 * afterwards another board takes and saves again to the same bytes. A damaged state another board
 * may refuse; if it takes it, it goes through the same accesses.
 *
 * The engine's vCPUs execute nothing; this file is vCPU and control thread in one.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "dev/pci/pci_regs.h"
#include "machine/pc.h"
#include "fuzz.h"

#define MEMORY (16 * MIB)
#define DISK_SIZE (1 * MIB)
#define FLOPPY_SIZE (1440 * 1024)
#define ACCESSES_MAX 256
/* DMA is interesting where accesses with few bits point to. */
#define DMA_AREA 0x10000u
#define DMA_AREA_SIZE 0x10000u

#define RTC "mc146818"

#define PCI_ADDRESS 0xcf8
#define PCI_DATA 0xcfc
#define PCI_SLOTS 32
#define HOT_SLOTS 2
#define WINDOW (2 * MIB) /* of a root port */
#define FIRST_IO 0x1000u
#define FIRST_MMIO 0xc0000000u
#define MMIO_END 0xfe000000u

int LLVMFuzzerInitialize(int *argc, char ***argv);

/* ---- an engine that only hands out the callbacks ---- */

struct engine_vm {
    struct engine_callbacks callbacks;
};

struct engine_vcpu {
    struct x86_vcpu_state state;
};

static void idle_probe(struct engine_info *info)
{
    memset(info, 0, sizeof(*info));
}

static int idle_vm_create(struct engine_vm **out, const struct engine_vm_config *config,
                          struct error *err)
{
    *out = calloc(1, sizeof(**out));
    if (!*out)
        return -ENOMEM;
    (*out)->callbacks = config->callbacks;
    return 0;
}

static void idle_vm_destroy(struct engine_vm *vm)
{
    free(vm);
}

static void idle_time_hold(struct engine_vm *vm, bool hold)
{
}

static int idle_memory_changed(struct engine_vm *vm, gpa_t gpa, uint64_t size, struct error *err)
{
    return 0;
}

static int idle_vcpu_create(struct engine_vcpu **out, struct engine_vm *vm, unsigned index,
                            struct error *err)
{
    *out = calloc(1, sizeof(**out));
    return *out ? 0 : -ENOMEM;
}

static void idle_vcpu_destroy(struct engine_vcpu *vcpu)
{
    free(vcpu);
}

static void idle_run(struct engine_vcpu *vcpu, struct engine_exit *exit)
{
    exit->kind = ENGINE_EXIT_KICKED;
}

static void idle_kick(struct engine_vcpu *vcpu)
{
}

static int idle_get_state(struct engine_vcpu *vcpu, struct x86_vcpu_state *state, unsigned mask)
{
    *state = vcpu->state;
    return 0;
}

static int idle_set_state(struct engine_vcpu *vcpu, const struct x86_vcpu_state *state,
                          unsigned mask)
{
    vcpu->state = *state;
    return 0;
}

static int idle_set_debug(struct engine_vcpu *vcpu, const struct engine_debug *debug)
{
    return 0;
}

static void idle_stats(struct engine_vm *vm, const struct stats *to)
{
}

static void idle_msi_send(struct engine_vm *vm, const struct msi_message *message)
{
}

static void idle_extint_set(struct engine_vm *vm, bool level)
{
}

static void idle_nmi(struct engine_vcpu *vcpu)
{
}

static const struct engine_ops idle_engine = {
    .name = "idle",
    .description = "executes nothing",
    .probe = idle_probe,
    .vm_create = idle_vm_create,
    .vm_destroy = idle_vm_destroy,
    .memory_changed = idle_memory_changed,
    .time_hold = idle_time_hold,
    .vcpu_create = idle_vcpu_create,
    .vcpu_destroy = idle_vcpu_destroy,
    .run = idle_run,
    .kick = idle_kick,
    .get_state = idle_get_state,
    .set_state = idle_set_state,
    .set_debug = idle_set_debug,
    .stats = idle_stats,
    .msi_send = idle_msi_send,
    .extint_set = idle_extint_set,
    .nmi = idle_nmi,
};

/* ---- the board ---- */

static const struct pc_extra extras[] = {
    {.kind = PC_DEBUG_EXIT, .port = 0xf4},
    {.kind = PC_DEBUGCON, .port = 0x402},
    {.kind = PC_PVPANIC},
    {.kind = PC_TESTDEV},
    {.kind = PC_VIRTIO_CONSOLE},
    {.kind = PC_VIRTIO_RNG},
    {.kind = PC_USB_TABLET},
    {.kind = PC_USB_KEYBOARD},
};

/* Of the board that is fuzzed, and of the one that takes its state: an image has one user. */
static const struct {
    enum block_interface interface;
    bool cdrom;
} drives[] = {{BLOCK_VIRTIO, false}, {BLOCK_AHCI, false}, {BLOCK_IDE, false}, {BLOCK_AHCI, true}};
static struct images {
    struct block_options disk[ARRAY_SIZE(drives)];
    struct block_options floppy;
} images[2];
static struct x86_cpuid cpuid;
static struct pc *pc;
static const struct engine_callbacks *guest;

/* Where accesses of MMIO go: what never moves, and the BARs behind it. */
static struct {
    uint64_t base, size;
} window[64] = {
    {0xa0000, 0x20000},     {0xfec00000, 0x1000},  {0xfed00000, 0x1000},
    {0xb0000000, 0x100000}, {0xff000000, 0x10000}, {0xffc00000, 0x400000},
};
#define FIXED_WINDOWS 6
static unsigned windows;

/* `function` is bus, device and function number. */
static uint32_t config_read(unsigned function, unsigned offset)
{
    guest->port_write(guest->opaque, PCI_ADDRESS, 4, 0x80000000u | function << 8 | offset);
    return guest->port_read(guest->opaque, PCI_DATA, 4);
}

static void config_write(unsigned function, unsigned offset, uint32_t value)
{
    guest->port_write(guest->opaque, PCI_ADDRESS, 4, 0x80000000u | function << 8 | offset);
    guest->port_write(guest->opaque, PCI_DATA, 4, value);
}

/* An address for each of the function's first `bars` BARs. */
static void place_function(unsigned function, unsigned bars, uint64_t *io, uint64_t *mmio)
{
    for (unsigned at = PCI_BAR0; at < PCI_BAR0 + 4 * bars; at += 4) {
        config_write(function, at, UINT32_MAX);
        uint32_t probe = config_read(function, at);
        if (!probe)
            continue;
        bool is_io = probe & 1;
        uint32_t size = ~(probe & (is_io ? ~3u : ~15u)) + 1;
        if (is_io)
            size &= 0xffff;
        uint64_t *next = is_io ? io : mmio;
        *next = (*next + size - 1) / size * size;
        config_write(function, at, (uint32_t)*next);
        if (!is_io && *next < MMIO_END && windows < ARRAY_SIZE(window)) {
            window[windows].base = *next;
            window[windows++].size = size;
        }
        *next += size;
        if (!is_io && (probe & 6) == 4) { /* 64 bits: the upper half */
            at += 4;
            config_write(function, at, 0);
        }
    }
    config_write(function, PCI_COMMAND, 7);
}

/* What firmware does: addresses for all there is, bus numbers and windows for root ports, decoding
 * and bus mastering on. */
static void place_bars(void)
{
    uint64_t io = FIRST_IO, mmio = FIRST_MMIO;
    unsigned bus = 0;

    windows = FIXED_WINDOWS;
    for (unsigned devfn = 0; devfn < PCI_SLOTS * 8; devfn++) {
        if (config_read(devfn, 0) == UINT32_MAX)
            continue;
        if (!(config_read(devfn, PCI_HEADER_TYPE & ~3u) & PCI_HEADER_BRIDGE << 16)) {
            place_function(devfn, PCI_BAR_COUNT, &io, &mmio);
            continue;
        }
        bus++;
        mmio = (mmio + WINDOW - 1) / WINDOW * WINDOW;
        uint64_t behind = mmio;
        mmio += WINDOW;
        config_write(devfn, PCI_PRIMARY_BUS, bus << 16 | bus << 8);
        config_write(devfn, PCI_MEMORY_BASE, (uint32_t)((mmio - 1) & 0xfff00000) | behind >> 16);
        config_write(devfn, PCI_COMMAND, 7);
        if (config_read(bus << 8, 0) != UINT32_MAX)
            place_function(bus << 8, PCI_BAR_COUNT, &io, &behind);
    }
}

static bool to_rearrange; /* the guest did something that needs pc_rearrange() */

static void rearrange_asked(void *opaque)
{
    to_rearrange = true;
}

static struct pc_config board_config(unsigned which)
{
    return (struct pc_config){
        .name = "fuzz",
        .engine = &idle_engine,
        .engine_cpuid = &cpuid,
        .cpus = 2,
        .cpu_model = "host",
        .memory = MEMORY,
        .disks = images[which].disk,
        .disk_count = ARRAY_SIZE(drives),
        .floppies = &images[which].floppy,
        .floppy_count = 1,
        .vga = PC_VGA_VIRTIO, /* which has a VGA in it */
        .extras = extras,
        .extra_count = ARRAY_SIZE(extras),
        .slot_count = HOT_SLOTS,
        .events = {.rearrange = rearrange_asked},
    };
}

static void remove_disks(void)
{
    for (unsigned i = 0; i < ARRAY_SIZE(images); i++) {
        for (unsigned j = 0; j < ARRAY_SIZE(drives); j++)
            unlink(images[i].disk[j].path);
        unlink(images[i].floppy.path);
    }
}

static void make_image(struct block_options *disk, off_t size)
{
    const char *folder = getenv("TMPDIR");

    *disk = (struct block_options){
        .format = BLOCK_FORMAT_RAW, .cache = BLOCK_CACHE_UNSAFE, .aio = BLOCK_AIO_THREAD};
    snprintf(disk->path, sizeof(disk->path), "%s/board_fuzz.XXXXXX", folder ? folder : "/tmp");
    int fd = mkstemp(disk->path);
    must(fd >= 0 && !ftruncate(fd, size));
    close(fd);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    struct error err = {{0}};

    for (unsigned i = 0; i < ARRAY_SIZE(images); i++) {
        for (unsigned j = 0; j < ARRAY_SIZE(drives); j++) {
            make_image(&images[i].disk[j], DISK_SIZE);
            images[i].disk[j].interface = drives[j].interface;
            images[i].disk[j].cdrom = images[i].disk[j].read_only = drives[j].cdrom;
        }
        make_image(&images[i].floppy, FLOPPY_SIZE);
    }
    atexit(remove_disks);
    const struct pc_config config = board_config(0);
    if (pc_new(&pc, &config, &err) || pc_reset(pc, &err) || pc_start(pc, &err)) {
        fprintf(stderr, "%s\n", err.text);
        exit(1);
    }
    guest = &pc_engine_vm(pc)->callbacks;
    return 0;
}

/* ---- one input ---- */

enum access_kind {
    PORT_READ,
    PORT_WRITE,
    MMIO_READ,
    MMIO_WRITE,
    CONFIG_READ,
    CONFIG_WRITE,
    MEMORY_WRITE,
    CONTROL, /* pause, reset, devices come and go, damage the state that is saved at the end */
    ACCESS_KINDS
};

struct access {
    uint8_t kind; /* low bits; the upper ones are log2 of the size */
    uint8_t where;
    uint16_t offset;
    uint32_t value;
};

/* What is done to the saved state: four bytes of one device's part. */
static struct access damage[16];
static unsigned damages;
static bool damaged; /* it was done, and `pc` is the board that has taken it */

static void fill_slots(struct pc *board)
{
    const struct pc_plug plug = {.kind = PC_PLUG_RNG};
    const char *name;
    struct error err;

    while (!pc_plug(board, &plug, &name, &err)) {
    }
}

/* Takes a device out, or asks for it. */
static void unplug(unsigned slot, bool force)
{
    const char *name;
    bool leaving;
    struct error err;

    must(pc_slot(pc, slot, &name, &leaving));
    if (name && pc_unplug(pc, name, force, &err))
        must(!force && leaving);
}

static void rearrange(void)
{
    struct error err;

    to_rearrange = false;
    must(!pc_rearrange(pc, &err));
}

#define PAUSE_ONLY 6

static void control(unsigned what)
{
    struct error err;

    pc_pause(pc);
    switch (what % 8) {
    case 0:
        fill_slots(pc);
        must(!pc_reset(pc, &err));
        place_bars();
        break;
    case 4:
        fill_slots(pc);
        break;
    case 2:
    case 3:
        unplug(what / 8 % HOT_SLOTS, what % 8 == 3);
        break;
    }
    if (to_rearrange)
        rearrange();
    pc_resume(pc);
}

static void run_access(const struct access *access)
{
    unsigned size = 1u << (access->kind >> 4 & 3);
    unsigned port_size = size > 4 ? 4 : size;
    unsigned in = access->where % windows;
    uint64_t mmio = window[in].base + access->offset % window[in].size;
    unsigned function = (access->offset >> 8) % (HOT_SLOTS + 1) << 8 | access->where;

    switch ((enum access_kind)(access->kind % ACCESS_KINDS)) {
    case PORT_READ:
        guest->port_read(guest->opaque, access->offset, port_size);
        break;
    case PORT_WRITE:
        guest->port_write(guest->opaque, access->offset, port_size, access->value);
        break;
    case MMIO_READ:
        guest->mmio_read(guest->opaque, mmio, size);
        break;
    case MMIO_WRITE:
        guest->mmio_write(guest->opaque, mmio, size, access->value);
        break;
    case CONFIG_READ:
        config_read(function, access->offset & 0xfc);
        break;
    case CONFIG_WRITE:
        config_write(function, access->offset & 0xfc, access->value);
        break;
    case MEMORY_WRITE:
        must(!memory_write(pc_memory(pc), DMA_AREA + access->offset % (DMA_AREA_SIZE - 4),
                           &access->value, sizeof(access->value)));
        break;
    case CONTROL:
        if (access->where % 4 != 1)
            control(access->where);
        else if (!damaged && damages < ARRAY_SIZE(damage))
            damage[damages++] = *access;
        break;
    case ACCESS_KINDS:
        break;
    }
    /* No vCPU runs on while this waits. */
    if (to_rearrange)
        control(PAUSE_ONLY);
}

static void run_accesses(const uint8_t *data, size_t size)
{
    struct access access;

    for (unsigned i = 0; i < ACCESSES_MAX && size >= sizeof(access); i++) {
        memcpy(&access, data, sizeof(access));
        data += sizeof(access);
        size -= sizeof(access);
        run_access(&access);
    }
}

/* A device's part of a saved board (state/state.h): its name, and behind it the fields. */
struct part {
    uint8_t *start, *fields;
    size_t length; /* of all of it */
};

static struct part part_at(const struct state_buffer *saved, size_t at)
{
    struct part part = {.start = saved->data + at};
    uint32_t length;

    memcpy(&length, part.start + 1 + part.start[0] + sizeof(uint32_t), sizeof(length));
    part.fields = part.start + 1 + part.start[0] + 2 * sizeof(uint32_t);
    part.length = (size_t)(part.fields - part.start) + length;
    return part;
}

/* Names the part where two saved boards differ. The real-time clock goes by the host's, which moves
 * on between the two. */
static void compare(const struct state_buffer *first, const struct state_buffer *second)
{
    size_t at = 0;

    must(first->length == second->length);
    while (at < first->length) {
        struct part part = part_at(first, at);
        size_t name = part.start[0];
        bool moves_on = name == strlen(RTC) && !memcmp(part.start + 1, RTC, name);
        for (size_t i = 0; i < part.length; i++) {
            if (moves_on || part.start[i] == second->data[at + i])
                continue;
            fprintf(stderr, "%.*s: byte %td differs\n", (int)name, part.start + 1,
                    part.start + i - part.fields);
            abort();
        }
        at += part.length;
    }
}

/* A board takes the state only of one with the same devices in the same slots. */
static void plug_as_in_board(struct pc *other)
{
    struct pc_plug plug = {.kind = PC_PLUG_RNG};
    const char *name;
    bool leaving;
    struct error err;

    while (pc_slot(pc, plug.slot++, &name, &leaving)) {
        if (name)
            must(!pc_plug(other, &plug, &name, &err));
    }
}

/* The board paused: what it saves, another takes and saves again. */
static void check_state(void)
{
    const struct pc_config config = board_config(1);
    struct state_buffer first = {0}, second = {0};
    struct error err = {{0}};
    struct pc *other;

    must(!pc_new(&other, &config, &err));
    plug_as_in_board(other);
    must(!pc_reset(other, &err));
    must(!pc_save_devices(pc, &first));
    if (pc_restore_devices(other, &first, &err)) {
        fprintf(stderr, "%s\n", err.text);
        abort();
    }
    must(!pc_save_devices(other, &second));
    compare(&first, &second);
    state_buffer_done(&first);
    state_buffer_done(&second);
    pc_free(other);
}

/* Large buffers lie in the middle of some parts, so half of the places count from the end. */
static void do_damage(struct state_buffer *saved, const struct access *how)
{
    unsigned left = how->where / 4;

    for (size_t at = 0;; left--) {
        struct part part = part_at(saved, at);
        size_t length = part.length - (size_t)(part.fields - part.start);
        at += part.length;
        if (at >= saved->length) /* fewer parts: the first again */
            at = 0;
        if (left)
            continue;
        if (length < sizeof(how->value))
            return;
        size_t places = length - sizeof(how->value) + 1, place = (how->offset >> 1) % places;
        if (how->offset & 1)
            place = places - 1 - place;
        memcpy(part.fields + place, &how->value, 1u << (how->kind >> 4 & 1));
        return;
    }
}

/* The board paused: what it saves, damaged on its way to another. */
static void check_damaged_state(const uint8_t *data, size_t size)
{
    const struct pc_config config = board_config(1);
    struct state_buffer saved = {0}, again = {0};
    struct pc *sound = pc, *other;
    struct error err = {{0}};

    must(!pc_new(&other, &config, &err));
    plug_as_in_board(other);
    must(!pc_reset(other, &err));
    must(!pc_save_devices(pc, &saved));
    for (unsigned i = 0; i < damages; i++)
        do_damage(&saved, &damage[i]);
    if (!pc_restore_devices(other, &saved, &err)) {
        pc = other;
        guest = &pc_engine_vm(pc)->callbacks;
        damaged = true;
        must(!pc_start(pc, &err));
        run_accesses(data, size);
        pc_pause(pc);
        must(!pc_save_devices(pc, &again));
        damaged = false;
        pc = sound;
        guest = &pc_engine_vm(pc)->callbacks;
    }
    state_buffer_done(&saved);
    state_buffer_done(&again);
    pc_free(other);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static unsigned inputs;
    static const uint8_t zeroes[DMA_AREA_SIZE];

    control(0);
    must(!memory_write(pc_memory(pc), DMA_AREA, zeroes, sizeof(zeroes)));
    damages = 0;
    run_accesses(data, size);
    pc_pause(pc);
    if (inputs++ % 16 == 0)
        check_state();
    if (damages)
        check_damaged_state(data, size);
    pc_resume(pc);
    return 0;
}
