/*
 * The VGA's regions, state and refresh; see vga.h.
 *
 * A refresh looks for what changed by comparing: registers with those of the latest picture, video
 * memory with a copy of what was drawn, drawn lines with the surface. So the guest's writes cost
 * nothing, and it may write video memory in any way.
 */
#include "dev/display/vga.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "dev/display/vga_regs.h"

/* Half periods of blinking, in frames at 70 Hz: 2-68 (cursor), 2-96 (characters). */
#define FRAME_NS (NS_PER_SEC / 70)
#define CURSOR_FRAMES 8
#define CHARACTER_FRAMES 16

/* The widest line that the registers can describe: 256 characters of 9 dots, twice as wide. */
#define LINE_MOST (256 * 9 * 2)

/* ---- regions ---- */

static enum bus_result port_read(void *opaque, uint64_t offset, unsigned size, uint64_t *value)
{
    const struct vga_ports *ports = opaque;
    struct vga *vga = ports->vga;

    pthread_mutex_lock(&vga->lock);
    *value = vga_port_read(vga, (unsigned)(ports->region.base + offset));
    pthread_mutex_unlock(&vga->lock);
    return BUS_OK;
}

static enum bus_result port_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    const struct vga_ports *ports = opaque;
    struct vga *vga = ports->vga;

    pthread_mutex_lock(&vga->lock);
    vga_port_write(vga, (unsigned)(ports->region.base + offset), (uint8_t)value);
    pthread_mutex_unlock(&vga->lock);
    return BUS_OK;
}

static const struct region_ops port_ops = {
    .read = port_read,
    .write = port_write,
    .max_size = 1,
};

/* Words at odd addresses: index at 0x1ce, data at 0x1cf. */
#define DISPI_BASE 0x1ceu
#define DISPI_PORTS 3 /* the data word's second byte is at 0x1d0 */

static enum bus_result dispi_read(void *opaque, uint64_t offset, unsigned size, uint64_t *value)
{
    struct vga *vga = opaque;

    if (offset > 1)
        return BUS_UNHANDLED;
    pthread_mutex_lock(&vga->lock);
    *value = offset ? vga_dispi_read(vga, vga->reg.dispi_index) : vga->reg.dispi_index;
    pthread_mutex_unlock(&vga->lock);
    return BUS_OK;
}

static enum bus_result dispi_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct vga *vga = opaque;

    if (offset > 1)
        return BUS_UNHANDLED;
    pthread_mutex_lock(&vga->lock);
    if (offset)
        vga_dispi_write(vga, vga->reg.dispi_index, (uint16_t)value);
    else
        vga->reg.dispi_index = (uint16_t)value;
    pthread_mutex_unlock(&vga->lock);
    return BUS_OK;
}

static const struct region_ops dispi_ops = {
    .read = dispi_read,
    .write = dispi_write,
    .min_size = 2,
    .max_size = 2,
};

static enum bus_result window_read(void *opaque, uint64_t offset, unsigned size, uint64_t *value)
{
    struct vga *vga = opaque;

    *value = 0;
    pthread_mutex_lock(&vga->lock);
    for (unsigned i = 0; i < size; i++)
        *value |= (uint64_t)vga_memory_read(vga, (uint32_t)offset + i) << 8 * i;
    pthread_mutex_unlock(&vga->lock);
    return BUS_OK;
}

static enum bus_result window_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct vga *vga = opaque;

    pthread_mutex_lock(&vga->lock);
    for (unsigned i = 0; i < size; i++)
        vga_memory_write(vga, (uint32_t)offset + i, (uint8_t)(value >> 8 * i));
    pthread_mutex_unlock(&vga->lock);
    return BUS_OK;
}

static const struct region_ops window_ops = {.read = window_read, .write = window_write};

/* Where in the memory BAR an access is. */
static bool in_mmio_ports(uint64_t offset, unsigned size)
{
    return offset >= VGA_MMIO_PORTS && offset + size <= VGA_MMIO_PORTS + VGA_MMIO_PORTS_SIZE;
}

static bool in_mmio_dispi(uint64_t offset, unsigned size)
{
    return size == 2 && !(offset & 1) && offset >= VGA_MMIO_DISPI &&
           offset < VGA_MMIO_DISPI + VGA_MMIO_DISPI_SIZE;
}

static enum bus_result mmio_read(void *opaque, uint64_t offset, unsigned size, uint64_t *value)
{
    struct vga *vga = opaque;
    enum bus_result result = BUS_OK;

    *value = 0;
    if (offset + size <= EDID_SIZE) {
        memcpy(value, vga->edid + offset, size);
        return BUS_OK;
    }
    pthread_mutex_lock(&vga->lock);
    if (in_mmio_ports(offset, size)) {
        for (unsigned i = 0; i < size; i++)
            *value |= (uint64_t)vga_port_read(vga, (unsigned)(0x3c0 + offset - VGA_MMIO_PORTS) + i)
                      << 8 * i;
    } else if (in_mmio_dispi(offset, size)) {
        *value = vga_dispi_read(vga, (unsigned)(offset - VGA_MMIO_DISPI) / 2);
    } else {
        result = BUS_UNHANDLED;
    }
    pthread_mutex_unlock(&vga->lock);
    return result;
}

static enum bus_result mmio_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct vga *vga = opaque;
    enum bus_result result = BUS_OK;

    pthread_mutex_lock(&vga->lock);
    if (in_mmio_ports(offset, size)) {
        for (unsigned i = 0; i < size; i++)
            vga_port_write(vga, (unsigned)(0x3c0 + offset - VGA_MMIO_PORTS) + i,
                           (uint8_t)(value >> 8 * i));
    } else if (in_mmio_dispi(offset, size)) {
        vga_dispi_write(vga, (unsigned)(offset - VGA_MMIO_DISPI) / 2, (uint16_t)value);
    } else {
        result = BUS_UNHANDLED;
    }
    pthread_mutex_unlock(&vga->lock);
    return result;
}

const struct region_ops vga_mmio_ops = {.read = mmio_read, .write = mmio_write, .max_size = 2};

static enum bus_result memory_read_bar(void *opaque, uint64_t offset, unsigned size,
                                       uint64_t *value)
{
    struct vga *vga = opaque;

    *value = 0;
    memcpy(value, vga->vram + offset, size);
    return BUS_OK;
}

static enum bus_result memory_write_bar(void *opaque, uint64_t offset, unsigned size,
                                        uint64_t value)
{
    struct vga *vga = opaque;

    memcpy(vga->vram + offset, &value, size);
    return BUS_OK;
}

const struct region_ops vga_memory_bar_ops = {.read = memory_read_bar, .write = memory_write_bar};

/* ---- lifecycle ---- */

int vga_init(struct vga *vga, const char *name, struct clock *clock, uint8_t *vram,
             uint32_t vram_size)
{
    static const struct {
        uint16_t base, count;
    } ranges[VGA_PORT_RANGES] = {{0x3b4, 2}, {0x3ba, 1}, {0x3c0, 16}, {0x3d4, 2}, {0x3da, 1}};

    *vga = (struct vga){.clock = clock, .name = name, .vram = vram, .vram_size = vram_size};
    vga->seen = calloc(1, vram_size);
    if (!vga->seen)
        return -ENOMEM;
    edid_fill(vga->edid, VGA_PREFERRED_WIDTH, VGA_PREFERRED_HEIGHT);
    pthread_mutex_init(&vga->lock, NULL);
    for (unsigned i = 0; i < VGA_PORT_RANGES; i++) {
        struct vga_ports *ports = &vga->ports[i];
        ports->vga = vga;
        ports->region = (struct region){.name = name,
                                        .ops = &port_ops,
                                        .opaque = ports,
                                        .base = ranges[i].base,
                                        .size = ranges[i].count};
    }
    vga->dispi_ports =
        (struct region){.name = name, .ops = &dispi_ops, .opaque = vga, .size = DISPI_PORTS};
    vga->window =
        (struct region){.name = name, .ops = &window_ops, .opaque = vga, .size = VGA_WINDOW_SIZE};
    vga_reset(vga);
    return 0;
}

void vga_done(struct vga *vga)
{
    if (!vga->seen)
        return;
    pthread_mutex_destroy(&vga->lock);
    free(vga->seen);
    vga->seen = NULL;
}

int vga_attach(struct vga *vga, struct bus *bus, struct error *err)
{
    int result = 0;

    for (unsigned i = 0; i < VGA_PORT_RANGES && !result; i++)
        result = bus_add(bus, BUS_PORT, &vga->ports[i].region, vga->ports[i].region.base, err);
    if (!result)
        result = bus_add(bus, BUS_PORT, &vga->dispi_ports, DISPI_BASE, err);
    if (!result)
        result = bus_add(bus, BUS_MMIO, &vga->window, VGA_WINDOW_BASE, err);
    return result;
}

void vga_detach(struct vga *vga, struct bus *bus)
{
    for (unsigned i = 0; i < VGA_PORT_RANGES; i++) {
        if (vga->ports[i].region.added)
            bus_remove(bus, BUS_PORT, &vga->ports[i].region);
    }
    if (vga->dispi_ports.added)
        bus_remove(bus, BUS_PORT, &vga->dispi_ports);
    if (vga->window.added)
        bus_remove(bus, BUS_MMIO, &vga->window);
}

void vga_reset(struct vga *vga)
{
    pthread_mutex_lock(&vga->lock);
    memset(&vga->reg, 0, sizeof(vga->reg));
    vga_dispi_reset(vga);
    pthread_mutex_unlock(&vga->lock);
}

/* ---- state ---- */

const struct state_field vga_register_fields[] = {
    STATE_INT(struct vga_registers, misc),
    STATE_INT(struct vga_registers, feature),
    STATE_INT(struct vga_registers, sequencer_index),
    STATE_BYTES(struct vga_registers, sequencer),
    STATE_INT(struct vga_registers, crtc_index),
    STATE_BYTES(struct vga_registers, crtc),
    STATE_INT(struct vga_registers, graphics_index),
    STATE_BYTES(struct vga_registers, graphics),
    STATE_INT(struct vga_registers, attribute_index),
    STATE_BYTES(struct vga_registers, attribute),
    STATE_BOOL(struct vga_registers, attribute_data),
    STATE_INT(struct vga_registers, dac_mask),
    STATE_INT(struct vga_registers, dac_read),
    STATE_INT(struct vga_registers, dac_write),
    STATE_INT(struct vga_registers, dac_component),
    STATE_BYTES(struct vga_registers, dac_part),
    STATE_BOOL(struct vga_registers, dac_reading),
    STATE_BYTES(struct vga_registers, dac),
    STATE_INT(struct vga_registers, latch),
    STATE_INT(struct vga_registers, dispi_index),
    STATE_INT_ARRAY(struct vga_registers, dispi),
    STATE_END,
};

int vga_post_load(struct vga *vga, struct error *err)
{
    struct vga_registers *reg = &vga->reg;

    if (reg->dispi[VGA_DISPI_MEMORY] != vga->vram_size / 0x10000)
        return error_set(err, -EBADMSG, "%s: the saved state is of one with other video memory",
                         vga->name);
    if (reg->dac_component > 2)
        return error_set(err, -EBADMSG, "%s: a colour has three parts", vga->name);
    vga_registers_mask(reg);
    vga_dispi_fit(reg, vga->vram_size);
    return 0;
}

/* ---- the picture ---- */

/* No phase of blinking. */
#define NOTHING_DRAWN UINT_MAX

void vga_forget_drawn(struct vga *vga)
{
    vga->drawn_phase = NOTHING_DRAWN;
}

struct refresh {
    struct vga *vga;
    struct display *display;
    struct vga_registers reg;
    uint32_t colours[VGA_COLOURS];
    bool all; /* not only what video memory says has changed */
    uint32_t *pixels;
    unsigned stride;
    uint32_t line[LINE_MOST];
};

/* Puts refresh->line onto the surface. */
static void show_line(struct refresh *refresh, unsigned y, unsigned width)
{
    uint32_t *to = refresh->pixels + (size_t)y * refresh->stride;
    unsigned first = 0, end = width;

    while (first < width && to[first] == refresh->line[first])
        first++;
    if (first == width)
        return;
    while (to[end - 1] == refresh->line[end - 1])
        end--;
    memcpy(to + first, refresh->line + first, (end - first) * sizeof(*to));
    display_damage(refresh->display, first, y, end - first, 1);
}

/* A surface of that size, or false: it stays as it is. */
static bool begin(struct refresh *refresh, unsigned width, unsigned height)
{
    unsigned now_width, now_height;

    if (display_resize(refresh->display, width, height))
        return false;
    refresh->pixels = display_pixels(refresh->display, &now_width, &now_height, &refresh->stride);
    refresh->all |= display_must_redraw(refresh->display);
    vga_colours(&refresh->reg, refresh->colours);
    return true;
}

static void show_blank(struct refresh *refresh)
{
    unsigned width, height;

    refresh->pixels = display_pixels(refresh->display, &width, &height, &refresh->stride);
    if (!refresh->all && !display_must_redraw(refresh->display))
        return;
    for (unsigned y = 0; y < height; y++)
        memset(refresh->pixels + (size_t)y * refresh->stride, 0, width * sizeof(uint32_t));
    display_damage(refresh->display, 0, 0, width, height);
}

/* The modes of the dispi interface. */
static void show_dispi(struct refresh *refresh)
{
    const struct vga_registers *reg = &refresh->reg;
    struct vga *vga = refresh->vga;
    unsigned width = reg->dispi[VGA_DISPI_WIDTH], height = reg->dispi[VGA_DISPI_HEIGHT];
    uint32_t stride = vga_dispi_stride(reg);
    uint32_t per_8_pixels = stride / (reg->dispi[VGA_DISPI_VIRTUAL_WIDTH] / 8);
    uint32_t bytes = width / 8 * per_8_pixels;
    /* Four planes move by 8 pixels. */
    unsigned skip = reg->dispi[VGA_DISPI_X];
    uint32_t left = vga_is_linear(reg) ? skip * (per_8_pixels / 8) : skip / 8 * per_8_pixels;

    if (!begin(refresh, width, height))
        return;
    for (unsigned y = 0; y < height; y++) {
        uint32_t at = (reg->dispi[VGA_DISPI_Y] + y) * stride + left;
        if (!refresh->all && !memcmp(vga->seen + at, vga->vram + at, bytes))
            continue;
        memcpy(vga->seen + at, vga->vram + at, bytes);
        vga_draw_dispi(reg, vga->seen + at, width, refresh->colours, refresh->line);
        show_line(refresh, y, width);
    }
}

/* The modes of the IBM VGA. */
static void show_scan(struct refresh *refresh, struct vga_blink blink)
{
    const struct vga_registers *reg = &refresh->reg;
    struct vga *vga = refresh->vga;
    struct vga_scan scan;

    vga_scan_of(reg, &scan);
    unsigned width = scan.columns * scan.dots * scan.dot_width;
    if (!begin(refresh, width, scan.lines))
        return;
    if (!refresh->all && !memcmp(vga->seen, vga->vram, VGA_PLANAR_SIZE))
        return;
    memcpy(vga->seen, vga->vram, VGA_PLANAR_SIZE);
    for (unsigned y = 0; y < scan.lines; y++) {
        vga_draw_line(reg, vga->seen, &scan, y, blink, refresh->colours, refresh->line);
        show_line(refresh, y, width);
    }
}

static bool shows_text(const struct vga_registers *reg)
{
    return !vga_dispi_on(reg) && !(reg->attribute[VGA_AR_MODE] & VGA_AR_MODE_GRAPHICS);
}

void vga_refresh(struct vga *vga, struct display *display)
{
    struct refresh refresh = {.vga = vga, .display = display};
    uint64_t frame = clock_now(vga->clock) / FRAME_NS;
    struct vga_blink blink = {
        .cursor = !(frame / CURSOR_FRAMES & 1),
        .characters = !(frame / CHARACTER_FRAMES & 1),
    };

    pthread_mutex_lock(&vga->lock);
    memcpy(&refresh.reg, &vga->reg, sizeof(vga->reg));
    pthread_mutex_unlock(&vga->lock);

    unsigned phase = shows_text(&refresh.reg) ? blink.cursor + 2u * blink.characters : 0;
    refresh.all =
        phase != vga->drawn_phase || memcmp(&refresh.reg, &vga->drawn, sizeof(vga->drawn)) != 0;
    if (vga_is_blank(&refresh.reg))
        show_blank(&refresh);
    else if (vga_dispi_on(&refresh.reg))
        show_dispi(&refresh);
    else
        show_scan(&refresh, blink);
    memcpy(&vga->drawn, &refresh.reg, sizeof(vga->drawn));
    vga->drawn_phase = phase;
}
