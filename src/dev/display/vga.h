/*
 * A VGA without its bus: the registers of the IBM VGA, its planar memory and its picture, and the
 * linear modes of the Bochs display interface ("dispi"). The PCI functions that contain one are
 * vga_pci.h and virtio_vga.h.
 *
 * Specifications: IBM VGA XGA Technical Reference Manual (1992), chapter 2, for registers and
 * memory; the Bochs VBE display API, version 0xb0c5, for the linear modes. In short:
 *
 *     vga_registers.c   ports 0x3b0 to 0x3df        vga_dispi.c   ports 0x1ce, 0x1cf
 *     vga_memory.c      0xa0000 to 0xbffff          vga_scan.c    registers -> how to scan memory
 *     vga_draw.c        scanned memory -> pixels    vga_text.c    characters: pixels and UTF-8
 *     vga.c             regions, state, refresh
 *
 * Video memory is one array in which the byte of plane p at address a is vram[4 * a + p]. The
 * linear modes see the same array from its start.
 *
 *     vram   | p0 p1 p2 p3 | p0 p1 p2 p3 | ...       four planes: addresses 0, 1, ...
 *            | b0 b1 b2 b3 | b4 b5 b6 b7 | ...       linear: bytes 0, 1, ...
 *
 * Threads: any vCPU thread for the registers, any viewer's for the picture. `lock` comes after the
 * display's, before the bus's. Video memory needs no lock: the guest writes it under our hands.
 */
#ifndef SILL_DEV_DISPLAY_VGA_H
#define SILL_DEV_DISPLAY_VGA_H

#include <pthread.h>

#include "base/clock.h"
#include "bus/bus.h"
#include "dev/display/display.h"
#include "dev/display/edid.h"
#include "state/state.h"

/* What the planes of an IBM VGA hold, and so what its modes can reach: 64 KiB each. */
#define VGA_PLANAR_SIZE (256 * KIB)

/* The monitor's preferred mode. */
#define VGA_PREFERRED_WIDTH 1280
#define VGA_PREFERRED_HEIGHT 800

#define VGA_WINDOW_BASE 0xa0000u
#define VGA_WINDOW_SIZE 0x20000u

enum { VGA_SEQUENCER = 5, VGA_CRTC = 0x19, VGA_GRAPHICS = 9, VGA_ATTRIBUTE = 0x15 };
enum { VGA_DAC_BYTES = 3 * 256 };
enum { VGA_DISPI = 11 };

/* Everything that the guest can write but video memory. */
struct vga_registers {
    uint8_t misc;
    uint8_t feature;
    uint8_t sequencer_index, sequencer[VGA_SEQUENCER];
    uint8_t crtc_index, crtc[VGA_CRTC];
    uint8_t graphics_index, graphics[VGA_GRAPHICS];
    uint8_t attribute_index, attribute[VGA_ATTRIBUTE];
    bool attribute_data; /* the next write to port 0x3c0 is data */
    uint8_t dac_mask;
    uint8_t dac_read, dac_write; /* palette entries */
    uint8_t dac_component;       /* red, green or blue is next */
    uint8_t dac_part[2];         /* red and green of an entry half written */
    bool dac_reading;
    uint8_t dac[VGA_DAC_BYTES];
    uint32_t latch; /* a byte for each plane */
    uint16_t dispi_index;
    uint16_t dispi[VGA_DISPI];
};

struct vga_ports {
    struct region region;
    struct vga *vga;
};
enum { VGA_PORT_RANGES = 5 };

struct vga {
    struct clock *clock;
    const char *name;
    uint8_t *vram;
    uint32_t vram_size; /* a power of two, at least VGA_PLANAR_SIZE */
    struct vga_ports ports[VGA_PORT_RANGES];
    struct region dispi_ports;
    struct region window;
    uint8_t edid[EDID_SIZE];

    pthread_mutex_t lock;
    struct vga_registers reg;

    /* What the surface shows; under the display's lock. */
    struct vga_registers drawn;
    unsigned drawn_phase; /* of blinking */
    uint8_t *seen;        /* video memory as it was drawn */
};

/* -ENOMEM. `vram` is the caller's and outlives it. */
SILL_CHECKED int vga_init(struct vga *vga, const char *name, struct clock *clock, uint8_t *vram,
                          uint32_t vram_size);
void vga_done(struct vga *vga);

/* Adds the ports and the window at 0xa0000; vga_detach() takes out what was added. */
SILL_CHECKED int vga_attach(struct vga *vga, struct bus *bus, struct error *err);
void vga_detach(struct vga *vga, struct bus *bus);

void vga_reset(struct vga *vga);

/* For the state table of what contains it: STATE_STRUCT(struct my, vga.reg, vga_register_fields).
 * Video memory is guest memory, and saved with it. */
extern const struct state_field vga_register_fields[];
SILL_CHECKED int vga_post_load(struct vga *vga, struct error *err);

/* Something else drew on the surface: the next refresh draws all. Under the display's lock. */
void vga_forget_drawn(struct vga *vga);

/* As display_source_ops has them. */
void vga_refresh(struct vga *vga, struct display *display);
SILL_CHECKED int vga_text(struct vga *vga, char **out);

/* BARs of the PCI functions; `opaque` is the vga. */

/* Video memory, until it is mapped and where it cannot be. */
extern const struct region_ops vga_memory_bar_ops;

/* The registers once more: the monitor's EDID, VGA ports 0x3c0 to 0x3df, and the dispi registers of
 * 16 bits each. */
#define VGA_MMIO_EDID 0x000u
#define VGA_MMIO_PORTS 0x400u
#define VGA_MMIO_PORTS_SIZE 0x20u
#define VGA_MMIO_DISPI 0x500u
#define VGA_MMIO_DISPI_SIZE (2u * VGA_DISPI)
#define VGA_MMIO_SIZE 0x1000u
extern const struct region_ops vga_mmio_ops;

#endif
