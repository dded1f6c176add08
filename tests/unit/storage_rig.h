/*
 * What the tests of disk controllers share: memory, a PCI bus, an image in a file whose sectors
 * begin with their number, and waiting for what I/O threads do.
 */
#ifndef SILL_TEST_STORAGE_RIG_H
#define SILL_TEST_STORAGE_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "dev/pci/pci.h"
#include "dev/storage/ata.h"

#define RIG_MEMORY (1 * MIB)
#define RIG_SECTORS 2048
#define RIG_BAR 0x10000000u

struct storage_rig {
    struct bus bus;
    struct memory memory;
    struct pci_bus pci;
    unsigned messages; /* MSIs sent */
    unsigned lines;    /* level of each wire, a bit each */
};

static inline void rig_msi(void *opaque, const struct msi_message *message)
{
    struct storage_rig *rig = opaque;
    __atomic_add_fetch(&rig->messages, 1, __ATOMIC_SEQ_CST);
}

static inline void rig_line(void *opaque, unsigned input, bool level)
{
    struct storage_rig *rig = opaque;
    if (level)
        __atomic_or_fetch(&rig->lines, 1u << input, __ATOMIC_SEQ_CST);
    else
        __atomic_and_fetch(&rig->lines, ~(1u << input), __ATOMIC_SEQ_CST);
}

static inline void rig_init(struct storage_rig *rig)
{
    struct msi_sink sink = {rig_msi, rig};

    memset(rig, 0, sizeof(*rig));
    bus_init(&rig->bus);
    memory_init(&rig->memory, 0);
    assert_int_equal(memory_add(&rig->memory, 0, RIG_MEMORY, 0, "ram", NULL), 0);
    pci_bus_init(&rig->pci, &rig->bus, &rig->memory, &sink);
}

static inline void rig_done(struct storage_rig *rig)
{
    pci_bus_done(&rig->pci);
    bus_done(&rig->bus);
    memory_done(&rig->memory);
}

/* An image of RIG_SECTORS sectors; the file is gone once it is closed. */
static inline struct block_device *rig_medium(const char *more)
{
    char path[] = "/tmp/sill-storage-XXXXXX", text[128];
    struct block_options options;
    struct block_device *medium;
    int fd = mkstemp(path);

    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, RIG_SECTORS * ATA_SECTOR), 0);
    for (uint32_t sector = 0; sector < RIG_SECTORS; sector++)
        assert_int_equal(pwrite(fd, &sector, 4, sector * ATA_SECTOR), 4);
    close(fd);
    snprintf(text, sizeof(text), "%s%s", path, more);
    assert_int_equal(block_parse_options(&options, text, NULL), 0);
    assert_int_equal(block_open(&medium, &options, NULL), 0);
    unlink(path);
    return medium;
}

/* Waits for what an I/O thread does; a test that waits for ever fails by its time limit. */
#define RIG_WAIT(condition)                                                                        \
    do {                                                                                           \
        while (!(condition))                                                                       \
            usleep(100);                                                                           \
    } while (0)

static inline uint32_t rig_read32(struct storage_rig *rig, gpa_t gpa)
{
    uint32_t value;
    assert_int_equal(memory_read(&rig->memory, gpa, &value, sizeof(value)), 0);
    return value;
}

static inline void rig_write(struct storage_rig *rig, gpa_t gpa, const void *from, size_t length)
{
    assert_int_equal(memory_write(&rig->memory, gpa, from, length), 0);
}

/* The state of a device, to be compared or loaded elsewhere. */
static inline void rig_save(struct device *dev, struct state_buffer *buffer)
{
    *buffer = (struct state_buffer){0};
    assert_int_equal(state_save(buffer, dev->ops->state, dev->state_object), 0);
}

static inline void rig_assert_same_state(struct device *a, struct device *b)
{
    struct state_buffer one, two;
    struct error err;

    rig_save(a, &one);
    assert_int_equal(state_load(&one, b->ops->state, b->state_object, &err), 0);
    rig_save(b, &two);
    assert_int_equal(one.length, two.length);
    assert_memory_equal(one.data, two.data, one.length);
    state_buffer_done(&one);
    state_buffer_done(&two);
}

/* Numbers that look random and are the same in each run. */
static inline uint32_t rig_random(uint32_t *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 8 ^ *seed << 16;
}

#endif
