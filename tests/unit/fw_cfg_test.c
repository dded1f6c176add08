/* The firmware configuration device: items, files, DMA with good and with hostile descriptors. */
#include "device_rig.h"

#include <endian.h>
#include <stdio.h>

#include "dev/legacy/fw_cfg.h"

#define RAM_SIZE 0x10000u
#define DESCRIPTOR 0x1000u
#define TARGET 0x2000u

#define DMA_ERROR 1u
#define DMA_READ 2u
#define DMA_SKIP 4u
#define DMA_SELECT 8u
#define DMA_WRITE 16u

struct fixture {
    struct device_rig rig;
    struct memory memory;
    struct fw_cfg *dev;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct fw_cfg_config config = {.memory = 64 * MIB, .cpus = 2, .dma_memory = &f->memory};

    rig_init(&f->rig);
    memory_init(&f->memory, 0);
    assert_int_equal(memory_add(&f->memory, 0, RAM_SIZE, 0, "ram", NULL), 0);
    assert_int_equal(fw_cfg_new(&f->dev, &config), 0);
    assert_int_equal(fw_cfg_attach(f->dev, &f->rig.bus, NULL), 0);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    fw_cfg_device(f->dev)->ops->destroy(fw_cfg_device(f->dev));
    memory_done(&f->memory);
    rig_done(&f->rig);
    free(f);
    return 0;
}

static void outl_be(struct fixture *f, uint16_t port, uint32_t value)
{
    bus_write(&f->rig.bus, BUS_PORT, port, 4, htobe32(value));
}

/* Starts a transfer and returns what became of its control word. */
static uint32_t dma(struct fixture *f, uint32_t control, uint32_t length, uint64_t address)
{
    const uint32_t words[] = {htobe32(control), htobe32(length), htobe32((uint32_t)(address >> 32)),
                              htobe32((uint32_t)address)};
    uint32_t after;

    assert_int_equal(memory_write(&f->memory, DESCRIPTOR, words, sizeof(words)), 0);
    outl_be(f, 0x514, 0);
    outl_be(f, 0x518, DESCRIPTOR);
    assert_int_equal(memory_read(&f->memory, DESCRIPTOR, &after, sizeof(after)), 0);
    return be32toh(after);
}

static const uint8_t *ram(struct fixture *f, gpa_t gpa)
{
    return memory_host(&f->memory, gpa, 1, false);
}

static void files_are_found_by_the_directory(void **state)
{
    struct fixture *f = *state;
    struct error err;

    assert_int_equal(fw_cfg_add_file(f->dev, "opt/one", "first", 5, &err), 0);
    assert_int_equal(fw_cfg_add_file(f->dev, "opt/two", "the second", 10, &err), 0);
    assert_int_equal(dma(f, 0x19u << 16 | DMA_SELECT | DMA_READ, 4 + 2 * 64, TARGET), 0);
    assert_memory_equal(ram(f, TARGET), "\0\0\0\2\0\0\0\5\0\x20\0\0opt/one", 4 + 8 + 8);
    assert_memory_equal(ram(f, TARGET + 4 + 64), "\0\0\0\x0a\0\x21\0\0opt/two", 8 + 8);

    /* By DMA, from the third byte on; zeros follow the end. */
    memset(memory_host(&f->memory, TARGET, 16, true), 0xee, 16);
    assert_int_equal(dma(f, 0x21u << 16 | DMA_SELECT | DMA_SKIP, 4, 0), 0);
    assert_int_equal(dma(f, DMA_READ, 8, TARGET), 0);
    assert_memory_equal(ram(f, TARGET), "second\0\0\xee", 9);
    /* By the port. */
    outw(&f->rig, 0x510, 0x20);
    assert_int_equal(inb(&f->rig, 0x511), 'f');
    assert_int_equal(inb(&f->rig, 0x511), 'i');
}

static void names_are_checked(void **state)
{
    struct fixture *f = *state;
    struct error err;
    char name[FW_CFG_NAME_SIZE + 1];

    memset(name, 'n', sizeof(name));
    name[FW_CFG_NAME_SIZE] = '\0';
    assert_int_equal(fw_cfg_add_file(f->dev, name, "", 0, &err), -ENAMETOOLONG);
    assert_int_equal(fw_cfg_add_file(f->dev, "same", "", 0, &err), 0);
    assert_int_equal(fw_cfg_add_file(f->dev, "same", "", 0, &err), -EEXIST);
    for (unsigned i = 1; i < FW_CFG_MAX_FILES; i++) {
        snprintf(name, sizeof(name), "file%u", i);
        assert_int_equal(fw_cfg_add_file(f->dev, name, name, strlen(name), &err), 0);
    }
    assert_int_equal(fw_cfg_add_file(f->dev, "more", "", 0, &err), -ENOSPC);
}

static void dma_tells_that_it_is_there(void **state)
{
    struct fixture *f = *state;

    outw(&f->rig, 0x510, 1);
    assert_int_equal(inb(&f->rig, 0x511), 3);
    assert_int_equal(rig_read(&f->rig, BUS_PORT, 0x514, 4), 0x554d4551);
    assert_int_equal(rig_read(&f->rig, BUS_PORT, 0x518, 4), 0x47464320);
    assert_int_equal(inb(&f->rig, 0x51b), 'G');
}

static void hostile_descriptors_end_with_an_error(void **state)
{
    struct fixture *f = *state;

    /* Items cannot be written; targets must be RAM, all of them. */
    assert_int_equal(dma(f, 0x03u << 16 | DMA_SELECT | DMA_WRITE, 4, TARGET), DMA_ERROR);
    assert_int_equal(dma(f, DMA_READ, 4, RAM_SIZE), DMA_ERROR);
    assert_int_equal(dma(f, DMA_READ, 4, UINT64_MAX - 1), DMA_ERROR);
    assert_int_equal(dma(f, DMA_READ, UINT32_MAX, TARGET), DMA_ERROR);
    assert_int_equal(dma(f, 0xffffu << 16 | DMA_SELECT | DMA_READ, 4, TARGET), 0);
    assert_memory_equal(ram(f, TARGET), "\0\0\0\0", 4);
    assert_int_equal(dma(f, 0, UINT32_MAX, 0), 0);

    /* Skipping does not wrap around to the item's start. */
    assert_int_equal(dma(f, 0x00u << 16 | DMA_SELECT | DMA_SKIP, UINT32_MAX, 0), 0);
    assert_int_equal(dma(f, DMA_SKIP, UINT32_MAX, 0), 0);
    assert_int_equal(dma(f, DMA_READ, 4, TARGET), 0);
    assert_memory_equal(ram(f, TARGET), "\0\0\0\0", 4);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(inb(&f->rig, 0x511), 0);

    /* Descriptors beyond memory, and in two parts of which one is. */
    outl_be(f, 0x518, RAM_SIZE);
    outl_be(f, 0x518, RAM_SIZE - 4);
    outl_be(f, 0x514, UINT32_MAX);
    outl_be(f, 0x518, UINT32_MAX);
    /* The upper half is used once. */
    assert_int_equal(dma(f, DMA_READ | DMA_SELECT, 4, TARGET), 0);
    assert_memory_equal(ram(f, TARGET), "QEMU", 4);
    for (unsigned port = 0x510; port < 0x51c; port++) {
        for (unsigned size = 1; size <= 4; size *= 2) {
            bus_write(&f->rig.bus, BUS_PORT, port, size, UINT32_MAX);
            rig_read(&f->rig, BUS_PORT, port, size);
        }
    }
}

static void state_survives(void **state)
{
    struct fixture *f = *state;

    outw(&f->rig, 0x510, 0);
    inb(&f->rig, 0x511);
    outl_be(f, 0x514, 0x12345678);
    rig_check_state(fw_cfg_device(f->dev));
    assert_int_equal(inb(&f->rig, 0x511), 'E');
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(files_are_found_by_the_directory),
        TEST(names_are_checked),
        TEST(dma_tells_that_it_is_there),
        TEST(hostile_descriptors_end_with_an_error),
        TEST(state_survives),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
