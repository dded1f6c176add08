/* What the host bridge's PAM registers show between 0xc0000 and 1 MiB, and option ROMs. */
#include "device_rig.h"

#include "dev/pci/pci_host.h"

#define PAM0 0x90
#define ROM_SIZE (256 * KIB)
#define CARD PCI_DEVFN(3, 0)

struct fixture {
    struct device_rig rig;
    struct memory memory;
    struct pci_host *host;
    struct pci_device card;
    gpa_t changed; /* the latest change that the engine was told of */
    unsigned changes;
    uint8_t rom[ROM_SIZE];
};

static int memory_changed(void *opaque, gpa_t gpa, uint64_t size, struct error *err)
{
    struct fixture *f = opaque;

    f->changed = gpa;
    f->changes++;
    return 0;
}

static int setup(void **state)
{
    static const struct pci_ident ident = {.vendor = 0x1234, .device = 0x5678};
    struct fixture *f = calloc(1, sizeof(*f));

    rig_init(&f->rig);
    memory_init(&f->memory, 0);
    const struct pci_host_config config = {
        .bus = &f->rig.bus,
        .memory = &f->memory,
        .memory_changed = memory_changed,
        .opaque = f,
    };
    assert_int_equal(pci_host_new(&f->host, &config, NULL), 0);
    for (size_t i = 0; i < ROM_SIZE; i += 2)
        pci_set16(f->rom, (unsigned)i, (uint16_t)(i / 2 | 1));
    assert_int_equal(pci_host_set_rom(f->host, f->rom, ROM_SIZE, NULL), 0);
    f->card.dev.name = "card";
    pci_device_init(&f->card, pci_host_bus(f->host), NULL, &ident);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    pci_device_done(&f->card);
    pci_host_device(f->host)->ops->destroy(pci_host_device(f->host));
    memory_done(&f->memory);
    rig_done(&f->rig);
    free(f);
    return 0;
}

static void set_pam(struct fixture *f, unsigned index, uint8_t value)
{
    pci_config_write(pci_host_bus(f->host), 0, PAM0 + index, 1, value);
}

/* A write as a vCPU does it: memory if there is any to write to, else the bus. */
static void guest_write(struct fixture *f, gpa_t gpa, uint8_t value)
{
    if (memory_write(&f->memory, gpa, &value, 1))
        mmio_write(&f->rig, gpa, 1, value);
}

static uint8_t guest_read(struct fixture *f, gpa_t gpa)
{
    uint8_t value;

    return memory_read(&f->memory, gpa, &value, 1) ? (uint8_t)mmio_read(&f->rig, gpa, 1) : value;
}

static void power_on_shows_the_roms_end(void **state)
{
    struct fixture *f = *state;
    uint8_t seen[128 * KIB];

    assert_int_equal(memory_read(&f->memory, 0xe0000, seen, sizeof(seen)), 0);
    assert_memory_equal(seen, f->rom + ROM_SIZE - sizeof(seen), sizeof(seen));
    guest_write(f, 0xfffff, 0x11);
    assert_int_equal(guest_read(f, 0xfffff), f->rom[ROM_SIZE - 1]);
    assert_int_equal(guest_read(f, 0xc0000), 0xff);
    assert_int_equal(guest_read(f, 0xdffff), 0xff);
}

static void each_segment_has_its_bits(void **state)
{
    struct fixture *f = *state;

    for (unsigned i = 0; i < 13; i++) {
        gpa_t base = 0xc0000 + i * 0x4000;
        unsigned reg = i == 12 ? 0 : 1 + i / 2;
        uint8_t bits = i == 12 || i % 2 ? 0x30 : 0x03;
        uint8_t rom = guest_read(f, base);

        set_pam(f, reg, bits);
        assert_int_equal(f->changed, base);
        assert_int_equal(guest_read(f, base), 0); /* RAM that nobody wrote */
        guest_write(f, base, (uint8_t)(0x40 + i));
        assert_int_equal(guest_read(f, base), 0x40 + i);
        set_pam(f, reg, bits & 0x11); /* read-only RAM */
        guest_write(f, base, 0);
        assert_int_equal(guest_read(f, base), 0x40 + i);
        set_pam(f, reg, 0);
        assert_int_equal(guest_read(f, base), rom);
    }
    assert_int_equal(f->changes, 13 + 13 * 3);
}

static void rom_is_copied_to_ram_at_its_own_place(void **state)
{
    struct fixture *f = *state;

    set_pam(f, 0, 0x20);
    for (unsigned i = 0; i < 16; i++)
        guest_write(f, 0xf0000 + i, guest_read(f, 0xf0000 + i) + 1);
    mmio_write(&f->rig, 0xf0010, 8, 0x1122334455667788);
    assert_int_equal(guest_read(f, 0xf0003), f->rom[ROM_SIZE - 64 * KIB + 3]);
    set_pam(f, 0, 0x30);
    for (unsigned i = 0; i < 16; i++)
        assert_int_equal(guest_read(f, 0xf0000 + i),
                         (uint8_t)(f->rom[ROM_SIZE - 64 * KIB + i] + 1));
    assert_int_equal(guest_read(f, 0xf0011), 0x77);
    assert_int_equal(guest_read(f, 0xf0017), 0x11);
}

static void reset_shows_the_rom_again(void **state)
{
    struct fixture *f = *state;
    struct device *host = pci_host_device(f->host);

    set_pam(f, 0, 0x30);
    guest_write(f, 0xf0000, 0x77);
    host->ops->reset(host);
    assert_int_equal(guest_read(f, 0xf0000), f->rom[ROM_SIZE - 64 * KIB]);
}

static void state_brings_the_segments_back(void **state)
{
    struct fixture *f = *state;
    struct device *host = pci_host_device(f->host);

    set_pam(f, 0, 0x30);
    set_pam(f, 1, 0x11);
    guest_write(f, 0xf0000, 0x77);
    rig_check_state(host);
    assert_int_equal(guest_read(f, 0xf0000), 0x77);
    assert_int_equal(guest_read(f, 0xc0000), 0);
}

static void option_rom_is_sized_and_decoded(void **state)
{
    struct fixture *f = *state;
    struct pci_bus *bus = pci_host_bus(f->host);
    uint8_t image[5000] = {0x55, 0xaa};
    struct error err;

    image[sizeof(image) - 1] = 0x77;
    assert_int_equal(pci_add_rom(&f->card, "no", 2, &err), -EINVAL);
    assert_int_equal(pci_add_rom(&f->card, image, 1, &err), -EINVAL);
    assert_int_equal(pci_add_rom_file(&f->card, "/nonexistent", "some-package", &err), -ENOENT);
    assert_non_null(strstr(err.text, "some-package"));
    assert_int_equal(pci_add_rom(&f->card, image, sizeof(image), &err), 0);
    assert_int_equal(pci_device_attach(&f->card, CARD, &err), 0);

    pci_config_write(bus, CARD, 0x30, 4, 0xfffff800);
    assert_int_equal(pci_config_read(bus, CARD, 0x30, 4), 0xffffe000);
    pci_config_write(bus, CARD, 0x30, 4, 0xe0000000);
    pci_config_write(bus, CARD, 0x04, 2, 2);
    assert_int_equal(mmio_read(&f->rig, 0xe0000000, 2), 0xffff); /* not enabled */
    pci_config_write(bus, CARD, 0x30, 4, 0xe0000001);
    assert_int_equal(mmio_read(&f->rig, 0xe0000000, 2), 0xaa55);
    mmio_write(&f->rig, 0xe0000000, 4, 0);
    assert_int_equal(mmio_read(&f->rig, 0xe0000000, 4), 0x0000aa55);
    assert_int_equal(mmio_read(&f->rig, 0xe0000000 + sizeof(image) - 1, 1), 0x77);
    assert_int_equal(mmio_read(&f->rig, 0xe0001ff8, 8), UINT64_MAX); /* behind the image */
    pci_config_write(bus, CARD, 0x30, 4, 0xffffffff);
    assert_int_equal(mmio_read(&f->rig, 0xe0000000, 2), 0xffff);
    pci_config_write(bus, CARD, 0x30, 4, 0xd0000001);
    assert_int_equal(mmio_read(&f->rig, 0xd0000000, 2), 0xaa55);
    pci_device_reset(&f->card);
    assert_int_equal(mmio_read(&f->rig, 0xd0000000, 2), 0xffff);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(power_on_shows_the_roms_end),           TEST(each_segment_has_its_bits),
        TEST(rom_is_copied_to_ram_at_its_own_place), TEST(reset_shows_the_rom_again),
        TEST(state_brings_the_segments_back),        TEST(option_rom_is_sized_and_decoded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
