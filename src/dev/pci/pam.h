/*
 * The programmable attribute map of a Q35-class host bridge: what the guest sees from 0xc0000 to
 * 0xfffff. Intel 3 Series chipset (MCH) data sheet, 316966, 5.1.13 to 5.1.19 (registers PAM0 to
 * PAM6 of function 00:00.0, at 0x90).
 *
 * Thirteen segments have two bits each: reads go to RAM, and writes go to RAM. Where a bit is 0,
 * the access goes to what lies behind the bridge: the last 128 KiB of the firmware's ROM at
 * 0xe0000, and nothing below. Firmware copies itself to RAM this way, and option ROMs.
 *
 *     reads  writes
 *     RAM    RAM     a slot of RAM
 *     RAM    -       the same, read-only
 *     -      RAM     a slot of ROM (below 0xe0000: none); what is written comes by the bus
 *     -      -       the same, and what is written is lost
 *
 * Owned and called by the host bridge (pci_host.c), on the thread that writes the register.
 */
#ifndef SILL_DEV_PCI_PAM_H
#define SILL_DEV_PCI_PAM_H

#include "base/error.h"
#include "bus/bus.h"
#include "mem/memory.h"

#define PAM_BASE 0xc0000u
#define PAM_END 0x100000u
#define PAM_ROM_BASE 0xe0000u
#define PAM_REGISTERS 7
#define PAM_SEGMENTS 13

struct pam {
    struct bus *bus;
    struct memory *memory;
    /* Tells the engine that memory looks different. */
    int (*changed)(void *opaque, gpa_t gpa, uint64_t size, struct error *err);
    void *opaque;
    struct region region;                  /* takes the writes that no memory slot takes */
    _Atomic uint8_t segment[PAM_SEGMENTS]; /* the two bits of each, as the guest sees them now */
};

/* Adds the memory slots, which show what lies behind the bridge. */
SILL_CHECKED int pam_init(struct pam *pam, struct error *err);
void pam_done(struct pam *pam);
/* The firmware's image; its end is what the guest sees below 1 MiB. Before the VM runs. */
SILL_CHECKED int pam_set_rom(struct pam *pam, const void *rom, uint64_t size, struct error *err);
/* Takes over the registers. */
void pam_update(struct pam *pam, const uint8_t registers[PAM_REGISTERS]);

#endif
