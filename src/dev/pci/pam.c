/* What the guest sees between 0xc0000 and 1 MiB; see pam.h. */
#include "dev/pci/pam.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>

#include "base/log.h"

#define READ_RAM 1u
#define WRITE_RAM 2u

enum bank { BANK_RAM, BANK_ROM, BANK_COUNT };

/* 16 KiB each, but for the last of 64 KiB. */
#define SEGMENT_SIZE (16 * KIB)
#define LAST_BASE 0xf0000u

static gpa_t segment_base(unsigned segment)
{
    return PAM_BASE + segment * SEGMENT_SIZE;
}

static uint64_t segment_size(unsigned segment)
{
    return segment == PAM_SEGMENTS - 1 ? PAM_END - LAST_BASE : SEGMENT_SIZE;
}

static unsigned segment_of(gpa_t gpa)
{
    return gpa >= LAST_BASE ? PAM_SEGMENTS - 1 : (unsigned)((gpa - PAM_BASE) / SEGMENT_SIZE);
}

/* PAM0 holds the last segment's bits in its upper half, the others two segments each. */
static uint8_t segment_bits(const uint8_t registers[PAM_REGISTERS], unsigned segment)
{
    if (segment == PAM_SEGMENTS - 1)
        return registers[0] >> 4 & (READ_RAM | WRITE_RAM);
    return registers[1 + segment / 2] >> (segment % 2 ? 4 : 0) & (READ_RAM | WRITE_RAM);
}

static int show(struct pam *pam, unsigned segment, uint8_t bits, struct error *err)
{
    gpa_t base = segment_base(segment);
    bool ram = bits & READ_RAM;
    unsigned flags = bits == (READ_RAM | WRITE_RAM) ? 0 : MEMORY_READONLY;

    if (!ram && base < PAM_ROM_BASE)
        flags |= MEMORY_HIDDEN;
    int ret = memory_show_bank(pam->memory, base, ram ? BANK_RAM : BANK_ROM);
    if (ret)
        return error_set(err, ret, "no memory to show at 0x%x: %s", (unsigned)base, strerror(-ret));
    memory_set_flags(pam->memory, base, flags);
    atomic_store(&pam->segment[segment], bits);
    return pam->changed(pam->opaque, base, segment_size(segment), err);
}

void pam_update(struct pam *pam, const uint8_t registers[PAM_REGISTERS])
{
    for (unsigned i = 0; i < PAM_SEGMENTS; i++) {
        uint8_t bits = segment_bits(registers, i);
        struct error why;

        if (bits != atomic_load(&pam->segment[i]) && show(pam, i, bits, &why))
            log_error("pam: %s", why.text);
    }
}

/* Reads come here only where there is nothing. */
static enum bus_result pam_read(void *opaque, uint64_t offset, unsigned size, uint64_t *value)
{
    return BUS_UNHANDLED;
}

static enum bus_result pam_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct pam *pam = opaque;
    gpa_t gpa = PAM_BASE + offset;

    if (atomic_load(&pam->segment[segment_of(gpa)]) != WRITE_RAM)
        return BUS_UNHANDLED;
    return memory_write_bank(pam->memory, gpa, BANK_RAM, &value, size) ? BUS_ERROR : BUS_OK;
}

static const struct region_ops pam_ops = {.read = pam_read, .write = pam_write};

int pam_init(struct pam *pam, struct error *err)
{
    int ret = 0;

    for (unsigned i = 0; i < PAM_SEGMENTS && !ret; i++) {
        ret = memory_add_banks(pam->memory, segment_base(i), segment_size(i), BANK_COUNT, "shadow",
                               err);
        if (!ret)
            ret = show(pam, i, 0, err);
    }
    pam->region =
        (struct region){.name = "pam", .ops = &pam_ops, .opaque = pam, .size = PAM_END - PAM_BASE};
    return ret ? ret : bus_add(pam->bus, BUS_MMIO, &pam->region, PAM_BASE, err);
}

void pam_done(struct pam *pam)
{
    if (pam->region.added)
        bus_remove(pam->bus, BUS_MMIO, &pam->region);
}

int pam_set_rom(struct pam *pam, const void *rom, uint64_t size, struct error *err)
{
    const uint8_t *end = (const uint8_t *)rom + size;
    uint64_t part = size < PAM_END - PAM_ROM_BASE ? size : PAM_END - PAM_ROM_BASE;

    for (unsigned i = segment_of(PAM_ROM_BASE); i < PAM_SEGMENTS; i++) {
        uint64_t from_end = PAM_END - segment_base(i);
        if (from_end > part)
            continue;
        int ret = memory_write_bank(pam->memory, segment_base(i), BANK_ROM, end - from_end,
                                    segment_size(i));
        if (ret)
            return error_set(err, ret, "no memory for the firmware: %s", strerror(-ret));
    }
    return 0;
}
