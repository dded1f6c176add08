/*
 * Video memory as the CPU sees it through the window at 0xa0000: the graphics controller between
 * the CPU's byte and the four planes. IBM VGA XGA Technical Reference Manual, 2-82 to 2-91
 * (graphics controller), 2-54 (memory mode).
 *
 *     CPU byte -> rotate -> set/reset -> function with the latches -> bit mask -> planes of map
 * mask
 */
#include "dev/display/vga_regs.h"

#include <string.h>

/* A byte for each plane whose bit is set: 0b0101 -> 0x00ff00ff. */
static uint32_t planes(unsigned mask)
{
    return ((mask & 1) | (mask & 2) << 7 | (mask & 4) << 14 | (mask & 8) << 21) * 0xffu;
}

static uint32_t in_all_planes(uint8_t byte)
{
    return byte * 0x01010101u;
}

/* The offset into what the window shows (memory map select, 2-89), or false: nothing is there. */
static bool decode(const struct vga_registers *reg, uint32_t *offset)
{
    switch (reg->graphics[VGA_GR_MISC] >> VGA_GR_MISC_MAP_SHIFT & 3) {
    case 0:
        return true;
    case 1:
        return *offset < 0x10000;
    case 2:
        *offset -= 0x10000;
        return *offset < 0x8000;
    default:
        *offset -= 0x18000;
        return *offset < 0x8000;
    }
}

/* Where the four planes' bytes are, and which of them the CPU's address bits select. */
struct place {
    uint8_t *at;
    unsigned plane;      /* that a read takes */
    unsigned write_mask; /* planes that a write reaches, before the map mask */
};

static struct place find(const struct vga *vga, uint32_t offset)
{
    const struct vga_registers *reg = &vga->reg;
    struct place place = {.plane = reg->graphics[VGA_GR_READ_MAP], .write_mask = 0x0f};
    uint32_t size = VGA_PLANAR_SIZE;

    if (vga_dispi_on(reg)) {
        offset += (uint32_t)reg->dispi[VGA_DISPI_BANK] << 16;
        size = vga->vram_size;
    }
    if (reg->sequencer[VGA_SR_MEMORY] & VGA_SR_MEMORY_CHAIN4) {
        place.plane = offset & 3;
        place.write_mask = 1u << place.plane;
        offset &= ~3u;
    } else {
        if (reg->graphics[VGA_GR_MODE] & VGA_GR_MODE_ODD_EVEN)
            place.plane = (place.plane & 2) | (offset & 1);
        if (!(reg->sequencer[VGA_SR_MEMORY] & VGA_SR_MEMORY_SEQUENTIAL))
            place.write_mask = offset & 1 ? 0x0a : 0x05;
        if (reg->graphics[VGA_GR_MISC] & VGA_GR_MISC_ODD_EVEN)
            offset &= ~1u;
    }
    place.at = vga->vram + (4ull * offset & (size - 1));
    return place;
}

/* The linear modes show 64 KiB of their bytes in the window. */
static uint8_t *linear_byte(const struct vga *vga, uint32_t offset)
{
    uint64_t at = ((uint64_t)vga->reg.dispi[VGA_DISPI_BANK] << 16) + offset;
    return &vga->vram[at & (vga->vram_size - 1)];
}

uint8_t vga_memory_read(struct vga *vga, uint32_t offset)
{
    struct vga_registers *reg = &vga->reg;

    if (!decode(reg, &offset))
        return 0xff;
    if (vga_is_linear(reg))
        return *linear_byte(vga, offset);

    struct place place = find(vga, offset);
    memcpy(&reg->latch, place.at, sizeof(reg->latch));
    if (!(reg->graphics[VGA_GR_MODE] & VGA_GR_MODE_READ_COMPARE))
        return (uint8_t)(reg->latch >> 8 * place.plane);

    /* Read mode 1: bits whose planes all have the compared colour. */
    uint32_t differ = (reg->latch ^ planes(reg->graphics[VGA_GR_COLOUR_COMPARE])) &
                      planes(reg->graphics[VGA_GR_DONT_CARE]);
    return (uint8_t) ~(differ | differ >> 8 | differ >> 16 | differ >> 24);
}

static uint32_t apply_function(const struct vga_registers *reg, uint32_t value)
{
    switch (reg->graphics[VGA_GR_ROTATE] >> 3) {
    case 1:
        return value & reg->latch;
    case 2:
        return value | reg->latch;
    case 3:
        return value ^ reg->latch;
    default:
        return value;
    }
}

/* What the four planes are to hold (write mode, 2-87). */
static uint32_t compose(const struct vga_registers *reg, uint8_t value)
{
    unsigned rotate = reg->graphics[VGA_GR_ROTATE] & 7;
    uint8_t rotated = (uint8_t)(value >> rotate | value << (8 - rotate));
    uint32_t set_reset = planes(reg->graphics[VGA_GR_SET_RESET]);
    uint32_t bit_mask = in_all_planes(reg->graphics[VGA_GR_BIT_MASK]);
    uint32_t result;

    switch (reg->graphics[VGA_GR_MODE] & VGA_GR_MODE_WRITE) {
    case 0: {
        uint32_t enable = planes(reg->graphics[VGA_GR_ENABLE_SET_RESET]);
        result = apply_function(reg, (in_all_planes(rotated) & ~enable) | (set_reset & enable));
        break;
    }
    case 1:
        return reg->latch;
    case 2:
        result = apply_function(reg, planes(value & 0x0f));
        break;
    default:
        bit_mask &= in_all_planes(rotated);
        result = apply_function(reg, set_reset);
        break;
    }
    return (result & bit_mask) | (reg->latch & ~bit_mask);
}

void vga_memory_write(struct vga *vga, uint32_t offset, uint8_t value)
{
    const struct vga_registers *reg = &vga->reg;

    if (!decode(reg, &offset))
        return;
    if (vga_is_linear(reg)) {
        *linear_byte(vga, offset) = value;
        return;
    }
    struct place place = find(vga, offset);
    uint32_t mask = planes(place.write_mask & reg->sequencer[VGA_SR_MAP_MASK]);
    uint32_t old;
    memcpy(&old, place.at, sizeof(old));
    uint32_t now = (compose(reg, value) & mask) | (old & ~mask);
    memcpy(place.at, &now, sizeof(now));
}
