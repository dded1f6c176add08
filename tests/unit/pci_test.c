/* The PCI bus: configuration space both ways, BARs, interrupts, resource assignment, routing. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "dev/pci/lpc.h"
#include "dev/pci/pci_host.h"

#define ECAM 0xb0000000ull
#define CARD PCI_DEVFN(3, 0)
#define OTHER PCI_DEVFN(4, 0)
#define MSIX_BAR_INDEX 4
#define VECTORS 3

/* A function with a register in each kind of BAR. */
struct card {
    struct pci_device pci;
    uint64_t last_offset;
};

static enum bus_result card_read(void *opaque, uint64_t offset, unsigned size, uint64_t *value)
{
    *value = 0x1000 + offset;
    return BUS_OK;
}

static enum bus_result card_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    ((struct card *)opaque)->last_offset = offset;
    return BUS_OK;
}

static const struct region_ops card_region_ops = {.read = card_read, .write = card_write};

static struct bus bus;
static struct memory mem;
static struct pci_host *host;
static struct lpc *lpc;
static struct pci_bus *pci;
static struct card card, other;
static struct msi_message sent[16];
static unsigned sent_count;
static uint8_t reset_value;
static bool ioapic_level[LPC_PIRQS];
static bool isa_level[LPC_ISA_IRQS];
static uint16_t pm_base;

static void record_message(void *opaque, const struct msi_message *message)
{
    sent[sent_count++ % ARRAY_SIZE(sent)] = *message;
}

static enum bus_result reset_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    reset_value = (uint8_t)value;
    return BUS_OK;
}

static const struct region_ops reset_ops = {.write = reset_write};
static const struct region reset_region = {.name = "reset", .ops = &reset_ops, .size = 1};

static void set_level(void *opaque, unsigned input, bool level)
{
    ((bool *)opaque)[input] = level;
}

static void set_pm_base(void *opaque, uint16_t base)
{
    pm_base = base;
}

static void card_add(struct card *c, const char *name, int devfn)
{
    static const struct pci_ident ident = {
        .vendor = 0x1234,
        .device = 0x5678,
        .subsystem_vendor = 0x1af4,
        .subsystem = 0x1100,
        .revision = 7,
        .class_code = 0x010601,
        .interrupt_pin = 1,
    };

    memset(c, 0, sizeof(*c));
    c->pci.dev.name = name;
    pci_device_init(&c->pci, pci, NULL, &ident);
    pci_add_bar(&c->pci, 0, PCI_BAR_MEM32, 0x2000, name, &card_region_ops, c);
    pci_add_bar(&c->pci, 1, PCI_BAR_IO, 0x20, name, &card_region_ops, c);
    pci_add_bar(&c->pci, 2, PCI_BAR_MEM64, 0x100000, name, &card_region_ops, c);
    pci_add_msix(&c->pci, MSIX_BAR_INDEX, VECTORS);
    pci_add_msi(&c->pci, 4);
    pci_add_express(&c->pci);
    assert_int_equal(pci_device_attach(&c->pci, devfn, NULL), 0);
}

static int setup(void **state)
{
    struct lpc_config lpc_config = {
        .initial_route = {0, 0, 0, 0, 0, 0, 0, 10},
        .initial_pm_base = 0x600,
        .set_pm_base = set_pm_base,
    };

    bus_init(&bus);
    memory_init(&mem, 0);
    sent_count = 0;
    memset(ioapic_level, 0, sizeof(ioapic_level));
    memset(isa_level, 0, sizeof(isa_level));
    const struct pci_host_config config = {
        .bus = &bus,
        .memory = &mem,
        .msi = {.send = record_message},
        .ecam_base = ECAM,
        .reset_control = &reset_region,
    };
    assert_int_equal(pci_host_new(&host, &config, NULL), 0);
    pci = pci_host_bus(host);
    for (unsigned i = 0; i < LPC_PIRQS; i++)
        lpc_config.ioapic[i] = (struct irq_line){set_level, ioapic_level, i};
    for (unsigned i = 0; i < LPC_ISA_IRQS; i++)
        lpc_config.isa[i] = (struct irq_line){set_level, isa_level, i};
    assert_int_equal(lpc_new(&lpc, pci, &lpc_config, NULL), 0);
    card_add(&card, "card", CARD);
    return 0;
}

static int teardown(void **state)
{
    pci_device_done(&card.pci);
    lpc_device(lpc)->ops->destroy(lpc_device(lpc));
    pci_host_device(host)->ops->destroy(pci_host_device(host));
    memory_done(&mem);
    bus_done(&bus);
    return 0;
}

static uint64_t mmio_read(gpa_t at, unsigned size)
{
    uint64_t value;

    bus_read(&bus, BUS_MMIO, at, size, &value);
    return value;
}

static uint64_t port_read(uint16_t port, unsigned size)
{
    uint64_t value;

    bus_read(&bus, BUS_PORT, port, size, &value);
    return value;
}

static uint32_t cfg_read(unsigned devfn, unsigned offset, unsigned size)
{
    return (uint32_t)mmio_read(ECAM + (devfn << 12) + offset, size);
}

static void cfg_write(unsigned devfn, unsigned offset, unsigned size, uint32_t value)
{
    bus_write(&bus, BUS_MMIO, ECAM + (devfn << 12) + offset, size, value);
}

static void command(uint16_t bits)
{
    cfg_write(CARD, PCI_COMMAND, 2, bits);
}

static unsigned find_capability(unsigned devfn, uint8_t id)
{
    unsigned at = cfg_read(devfn, PCI_CAPABILITY_POINTER, 1);

    while (at && cfg_read(devfn, at, 1) != id)
        at = cfg_read(devfn, at + 1, 1);
    return at;
}

/* Configuration space. */

static void both_ways_reach_the_same_registers(void **state)
{
    bus_write(&bus, BUS_PORT, 0xcf8, 4, 0x80000000 | CARD << 8 | 0);
    assert_int_equal(port_read(0xcf8, 4), 0x80000000 | CARD << 8);
    assert_int_equal(port_read(0xcfc, 4), 0x56781234);
    assert_int_equal(port_read(0xcfe, 2), 0x5678);
    assert_int_equal(port_read(0xcfd, 1), 0x12);
    assert_int_equal(cfg_read(CARD, 0, 4), 0x56781234);
    bus_write(&bus, BUS_PORT, 0xcf8, 4, 0x80000000 | CARD << 8 | PCI_INTERRUPT_LINE);
    bus_write(&bus, BUS_PORT, 0xcfc, 1, 0x5a);
    assert_int_equal(cfg_read(CARD, PCI_INTERRUPT_LINE, 2), 0x015a);
}

static void nobody_there_reads_as_ones(void **state)
{
    assert_int_equal(cfg_read(OTHER, 0, 4), 0xffffffff);
    assert_int_equal(cfg_read(OTHER, 0, 1), 0xff);
    assert_int_equal(mmio_read(ECAM + (1 << 20), 4), 0xffffffff);
    bus_write(&bus, BUS_PORT, 0xcf8, 4, CARD << 8); /* not enabled */
    assert_int_equal(port_read(0xcfc, 4), 0xffffffff);
    bus_write(&bus, BUS_PORT, 0xcf8, 4, 0x80010000); /* bus 1 */
    assert_int_equal(port_read(0xcfc, 4), 0xffffffff);
    assert_int_equal(cfg_read(CARD, 0x100, 4), 0); /* no extended capabilities */
}

static void byte_at_cf9_is_the_reset_register(void **state)
{
    bus_write(&bus, BUS_PORT, 0xcf8, 4, 0x80000000);
    bus_write(&bus, BUS_PORT, 0xcf9, 1, 6);
    assert_int_equal(reset_value, 6);
    assert_int_equal(port_read(0xcf8, 4), 0x80000000);
}

static void identity_is_read_only(void **state)
{
    for (unsigned offset = 0; offset < 0x40; offset += 4)
        if (offset != PCI_COMMAND && offset != PCI_CACHE_LINE_SIZE && offset < PCI_BAR0)
            cfg_write(CARD, offset, 4, 0xffffffff);
    cfg_write(CARD, PCI_SUBSYSTEM_VENDOR_ID, 4, 0);
    assert_int_equal(cfg_read(CARD, 0, 4), 0x56781234);
    assert_int_equal(cfg_read(CARD, PCI_REVISION_ID, 4), 0x01060107);
    assert_int_equal(cfg_read(CARD, PCI_SUBSYSTEM_VENDOR_ID, 4), 0x11001af4);
    assert_true(cfg_read(CARD, PCI_STATUS, 2) & PCI_STATUS_CAP_LIST);
}

static void ecam_moves_with_pciexbar(void **state)
{
    cfg_write(0, 0x60, 4, 0xc0000000 | 1);
    assert_int_equal(mmio_read(ECAM, 4), 0xffffffff);
    assert_int_equal(mmio_read(0xc0000000, 4), 0x29c08086);
    /* 64 MiB hold 64 buses. */
    bus_write(&bus, BUS_MMIO, 0xc0000060, 4, 0xc4000000 | 2 << 1 | 1);
    assert_int_equal(mmio_read(0xc4000000, 4), 0x29c08086);
    bus_write(&bus, BUS_MMIO, 0xc4000060, 4, 0xc4000000);
    assert_int_equal(mmio_read(0xc4000000, 4), 0xffffffff);
    pci_host_device(host)->ops->reset(pci_host_device(host));
    assert_int_equal(mmio_read(ECAM, 4), 0x29c08086);
}

static void slots_are_given_once(void **state)
{
    struct error err;

    memset(&other, 0, sizeof(other));
    other.pci.dev.name = "other";
    pci_device_init(&other.pci, pci, NULL, &(struct pci_ident){.vendor = 1});
    assert_int_equal(pci_device_attach(&other.pci, CARD, &err), -EEXIST);
    assert_non_null(strstr(err.text, "card"));
    assert_int_equal(pci_device_attach(&other.pci, PCI_DEVFN_AUTO, &err), 0);
    assert_int_equal(other.pci.devfn, PCI_DEVFN(1, 0));
    pci_device_done(&other.pci);
}

/* BARs. */

static void sizing_reads_back_the_size(void **state)
{
    static const struct {
        unsigned bar;
        uint32_t value;
    } expected[] = {{0, 0xffffe000}, {1, 0xffffffe1}, {2, 0xfff00004},
                    {3, 0xffffffff}, {4, 0xfffff000}, {5, 0}};

    command(PCI_COMMAND_IO | PCI_COMMAND_MEMORY); /* as careless software does it */
    for (unsigned i = 0; i < ARRAY_SIZE(expected); i++) {
        unsigned offset = PCI_BAR0 + 4 * expected[i].bar;
        cfg_write(CARD, offset, 4, 0xffffffff);
        assert_int_equal(cfg_read(CARD, offset, 4), expected[i].value);
    }
    for (unsigned i = 0; i < PCI_BAR_COUNT; i++)
        assert_false(card.pci.bar[i].region.added);
}

static void bars_are_decoded_while_enabled(void **state)
{
    cfg_write(CARD, PCI_BAR0, 4, 0xe0000000);
    cfg_write(CARD, PCI_BAR0 + 4, 4, 0xc100);
    cfg_write(CARD, PCI_BAR0 + 8, 4, 0x00200000);
    cfg_write(CARD, PCI_BAR0 + 12, 4, 0x10);
    assert_int_equal(mmio_read(0xe0000010, 4), 0xffffffff);

    command(PCI_COMMAND_MEMORY);
    assert_int_equal(mmio_read(0xe0000010, 4), 0x1010);
    assert_int_equal(mmio_read(0x1000200020, 4), 0x1020);
    assert_int_equal(port_read(0xc104, 4), 0xffffffff);
    command(PCI_COMMAND_IO);
    assert_int_equal(mmio_read(0xe0000010, 4), 0xffffffff);
    assert_int_equal(port_read(0xc104, 4), 0x1004);

    command(PCI_COMMAND_MEMORY);
    cfg_write(CARD, PCI_BAR0, 4, 0xe1000000);
    assert_int_equal(mmio_read(0xe0000010, 4), 0xffffffff);
    assert_int_equal(mmio_read(0xe1000010, 4), 0x1010);
    pci_device_reset(&card.pci);
    assert_int_equal(mmio_read(0xe1000010, 4), 0xffffffff);
    assert_int_equal(cfg_read(CARD, PCI_BAR0, 4), 0);
}

static void overlapping_bar_appears_when_the_place_is_free(void **state)
{
    card_add(&other, "other", OTHER);
    cfg_write(CARD, PCI_BAR0, 4, 0xe0000000);
    cfg_write(OTHER, PCI_BAR0, 4, 0xe0000000);
    command(PCI_COMMAND_MEMORY);
    cfg_write(OTHER, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
    bus_write(&bus, BUS_MMIO, 0xe0000008, 4, 0);
    assert_int_equal(card.last_offset, 8);
    assert_int_equal(other.last_offset, 0);
    cfg_write(CARD, PCI_BAR0, 4, 0xe2000000);
    bus_write(&bus, BUS_MMIO, 0xe000000c, 4, 0);
    assert_int_equal(other.last_offset, 12);
    pci_device_done(&other.pci);
}

static void bar_on_the_host_bridges_ports_is_not_mapped(void **state)
{
    cfg_write(CARD, PCI_BAR0 + 4, 4, 0xce0); /* up to 0xcff */
    command(PCI_COMMAND_IO);
    assert_false(card.pci.bar[1].region.added);
    cfg_write(CARD, PCI_BAR0, 4, ECAM);
    command(PCI_COMMAND_MEMORY);
    assert_false(card.pci.bar[0].region.added);
}

static void resources_are_assigned_without_overlap(void **state)
{
    static const struct pci_windows windows = {
        .memory32_base = 0xc0001000,
        .memory32_size = 0x240000,
        .memory64_base = 0x8000000000,
        .memory64_size = GIB,
        .io_base = 0xc000,
        .io_size = 0x1000,
    };

    card_add(&other, "other", OTHER);
    assert_int_equal(pci_assign_resources(pci, &windows, NULL), 0);
    /* One of the two large BARs still fits below 4 GiB, the other goes up. */
    for (unsigned bar = 0; bar < PCI_BAR_COUNT; bar++) {
        assert_int_equal(card.pci.bar[bar].region.added, card.pci.bar[bar].size != 0);
        assert_int_equal(other.pci.bar[bar].region.added, other.pci.bar[bar].size != 0);
    }
    assert_int_equal(card.pci.bar[2].region.base, 0xc0100000);
    assert_int_equal(other.pci.bar[2].region.base, 0x8000000000);
    assert_int_equal(cfg_read(CARD, PCI_COMMAND, 2), PCI_COMMAND_IO | PCI_COMMAND_MEMORY);
    /* Slot 3, INTA is PIRQH, which is routed to 10; slot 4 goes nowhere. */
    assert_int_equal(cfg_read(CARD, PCI_INTERRUPT_LINE, 1), 10);
    assert_int_equal(cfg_read(OTHER, PCI_INTERRUPT_LINE, 1), 0xff);
    pci_device_done(&other.pci);
}

static void too_little_space_is_an_error(void **state)
{
    static const struct pci_windows windows = {
        .memory32_base = 0xc0000000,
        .memory32_size = 0x100000,
        .io_base = 0xc000,
        .io_size = 0x1000,
    };
    struct error err;

    assert_int_equal(pci_assign_resources(pci, &windows, &err), -ENOSPC);
    assert_non_null(strstr(err.text, "card"));
}

/* Interrupts. */

#define MSIX_BASE 0xe0100000ull

static unsigned enable_msix(uint16_t extra)
{
    unsigned cap = find_capability(CARD, PCI_CAP_MSIX);

    cfg_write(CARD, PCI_BAR0 + 4 * MSIX_BAR_INDEX, 4, MSIX_BASE);
    command(PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
    for (unsigned i = 0; i < VECTORS; i++) {
        bus_write(&bus, BUS_MMIO, MSIX_BASE + 16 * i, 8, 0xfee00000 + 0x1000 * i);
        bus_write(&bus, BUS_MMIO, MSIX_BASE + 16 * i + 8, 8, 0x40 + i); /* unmasked */
    }
    cfg_write(CARD, cap + PCI_MSIX_CONTROL, 2, PCI_MSIX_CONTROL_ENABLE | extra);
    return cap;
}

static void msix_sends_its_entry(void **state)
{
    unsigned cap = enable_msix(0);

    assert_int_equal(cfg_read(CARD, cap + PCI_MSIX_CONTROL, 2) & 0x7ff, VECTORS - 1);
    assert_int_equal(cfg_read(CARD, cap + PCI_MSIX_TABLE, 4), MSIX_BAR_INDEX);
    assert_true(pci_msix_enabled(&card.pci));
    pci_msix_notify(&card.pci, 1);
    assert_int_equal(sent_count, 1);
    assert_int_equal(sent[0].address, 0xfee01000);
    assert_int_equal(sent[0].data, 0x41);
    pci_msix_notify(&card.pci, VECTORS); /* there is none */
    pci_msix_notify(&card.pci, 0xffff);
    assert_int_equal(sent_count, 1);
}

static void masked_msix_waits_in_the_pending_bits(void **state)
{
    unsigned cap = enable_msix(PCI_MSIX_CONTROL_FUNCTION_MASK);
    uint32_t pba = cfg_read(CARD, cap + PCI_MSIX_PBA, 4);

    pci_msix_notify(&card.pci, 2);
    pci_msix_notify(&card.pci, 2);
    assert_int_equal(sent_count, 0);
    assert_int_equal(mmio_read(MSIX_BASE + (pba & ~7u), 8), 1 << 2);
    bus_write(&bus, BUS_MMIO, MSIX_BASE + 16 * 2 + 12, 4, 1);
    cfg_write(CARD, cap + PCI_MSIX_CONTROL, 2, PCI_MSIX_CONTROL_ENABLE);
    assert_int_equal(sent_count, 0);
    bus_write(&bus, BUS_MMIO, MSIX_BASE + 16 * 2 + 12, 4, 0);
    assert_int_equal(sent_count, 1);
    assert_int_equal(sent[0].data, 0x42);
    assert_int_equal(mmio_read(MSIX_BASE + (pba & ~7u), 8), 0);
}

static void messages_wait_for_the_bus_master_bit(void **state)
{
    enable_msix(0);
    command(PCI_COMMAND_MEMORY);
    pci_msix_notify(&card.pci, 0);
    assert_int_equal(sent_count, 0);
    command(PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
    assert_int_equal(sent_count, 1);
}

static void msix_table_takes_only_aligned_accesses(void **state)
{
    enable_msix(0);
    assert_int_equal(bus_write(&bus, BUS_MMIO, MSIX_BASE + 8, 1, 0), BUS_ERROR);
    assert_int_equal(mmio_read(MSIX_BASE + 8, 4), 0x40);
    assert_int_equal(bus_write(&bus, BUS_MMIO, MSIX_BASE + 16 * VECTORS, 4, 1), BUS_UNHANDLED);
    assert_int_equal(mmio_read(MSIX_BASE + 16 * VECTORS, 4), 0);
}

static void msi_sends_as_many_vectors_as_allowed(void **state)
{
    unsigned cap = find_capability(CARD, PCI_CAP_MSI);

    command(PCI_COMMAND_MASTER);
    cfg_write(CARD, cap + PCI_MSI_ADDRESS, 4, 0xfee02003);
    cfg_write(CARD, cap + PCI_MSI_ADDRESS_HIGH, 4, 1);
    cfg_write(CARD, cap + PCI_MSI_DATA, 2, 0x4f);
    cfg_write(CARD, cap + PCI_MSI_CONTROL, 2,
              PCI_MSI_CONTROL_ENABLE | 1 << PCI_MSI_CONTROL_ENABLED_SHIFT); /* two vectors */
    pci_msi_notify(&card.pci, 0);
    pci_msi_notify(&card.pci, 3);
    assert_int_equal(sent_count, 2);
    assert_int_equal(sent[0].address, 0x1fee02000);
    assert_int_equal(sent[0].data, 0x4e);
    assert_int_equal(sent[1].data, 0x4f);

    cfg_write(CARD, cap + PCI_MSI_MASK, 4, 1);
    pci_msi_notify(&card.pci, 0);
    assert_int_equal(sent_count, 2);
    assert_int_equal(cfg_read(CARD, cap + PCI_MSI_PENDING, 4), 1);
    cfg_write(CARD, cap + PCI_MSI_MASK, 4, 0);
    assert_int_equal(sent_count, 3);
}

static void intx_is_shared_and_routed(void **state)
{
    /* Slot 7 shares PIRQH with slot 3. */
    card_add(&other, "other", PCI_DEVFN(7, 0));
    assert_int_equal(lpc_pirq(3, 0), 7);
    assert_int_equal(lpc_pirq(7, 0), 7);
    assert_int_equal(lpc_pirq(4, 0), 4);
    assert_int_equal(lpc_pirq(31, 2), 2);

    pci_intx_set(&card.pci, true);
    pci_intx_set(&other.pci, true);
    assert_true(ioapic_level[7]);
    assert_true(isa_level[10]);
    pci_intx_set(&card.pci, false);
    assert_true(ioapic_level[7]);
    assert_true(isa_level[10]);
    pci_intx_set(&other.pci, false);
    assert_false(ioapic_level[7]);
    assert_false(isa_level[10]);

    /* PIRQH to interrupt 11, then nowhere, while asserted. */
    pci_intx_set(&card.pci, true);
    cfg_write(LPC_DEVFN, 0x6b, 1, 11);
    assert_false(isa_level[10]);
    assert_true(isa_level[11]);
    cfg_write(LPC_DEVFN, 0x6b, 1, 0x80);
    assert_false(isa_level[11]);
    assert_true(ioapic_level[7]);
    cfg_write(LPC_DEVFN, 0x6b, 1, 8); /* the clock's: cannot be chosen */
    assert_false(isa_level[8]);
    pci_device_done(&other.pci);
}

static void intx_can_be_disabled(void **state)
{
    unsigned msi = find_capability(CARD, PCI_CAP_MSI);

    command(PCI_COMMAND_INTX_DISABLE);
    pci_intx_set(&card.pci, true);
    assert_false(ioapic_level[7]);
    assert_true(cfg_read(CARD, PCI_STATUS, 2) & PCI_STATUS_INTERRUPT);
    command(0);
    assert_true(ioapic_level[7]);
    cfg_write(CARD, msi + PCI_MSI_CONTROL, 2, PCI_MSI_CONTROL_ENABLE);
    assert_false(ioapic_level[7]);
    cfg_write(CARD, msi + PCI_MSI_CONTROL, 2, 0);
    assert_true(ioapic_level[7]);
    pci_device_reset(&card.pci);
    assert_false(ioapic_level[7]);
    assert_false(cfg_read(CARD, PCI_STATUS, 2) & PCI_STATUS_INTERRUPT);
}

static void lpc_places_the_acpi_block(void **state)
{
    assert_int_equal(pm_base, 0x600);
    cfg_write(LPC_DEVFN, 0x40, 4, 0xb07f);
    assert_int_equal(cfg_read(LPC_DEVFN, 0x40, 4), 0xb001);
    assert_int_equal(pm_base, 0xb000);
    cfg_write(LPC_DEVFN, 0x44, 1, 0);
    assert_int_equal(pm_base, 0);
    lpc_device(lpc)->ops->reset(lpc_device(lpc));
    assert_int_equal(pm_base, 0x600);
}

/* State. */

static int card_post_load(void *object, struct error *err)
{
    return pci_device_post_load(object, err);
}

static const struct state_desc card_state = {
    .name = "card",
    .version = 1,
    .fields = pci_device_fields,
    .post_load = card_post_load,
};

static void state_restores_mappings_and_interrupts(void **state)
{
    struct state_buffer saved = {0};

    enable_msix(PCI_MSIX_CONTROL_FUNCTION_MASK);
    pci_msix_notify(&card.pci, 1);
    assert_int_equal(state_save(&saved, &card_state, &card.pci), 0);
    pci_device_reset(&card.pci);
    assert_int_equal(mmio_read(MSIX_BASE, 4), 0xffffffff);
    assert_int_equal(state_load(&saved, &card_state, &card.pci, NULL), 0);
    assert_int_equal(mmio_read(MSIX_BASE + 16, 4), 0xfee01000);
    cfg_write(CARD, find_capability(CARD, PCI_CAP_MSIX) + PCI_MSIX_CONTROL, 2,
              PCI_MSIX_CONTROL_ENABLE);
    assert_int_equal(sent_count, 1);
    assert_int_equal(sent[0].data, 0x41);
    state_buffer_done(&saved);
}

static void hostile_state_cannot_change_read_only_bits(void **state)
{
    struct state_buffer saved = {0};
    unsigned cap = card.pci.msix_offset;

    card.pci.config[cap] = 0x77;
    card.pci.config[PCI_BAR0] = 0xff;
    card.pci.config[PCI_CAPABILITY_POINTER] = 0xff;
    assert_int_equal(state_save(&saved, &card_state, &card.pci), 0);
    pci_device_reset(&card.pci);
    assert_int_equal(state_load(&saved, &card_state, &card.pci, NULL), 0);
    assert_int_equal(cfg_read(CARD, cap, 1), PCI_CAP_MSIX);
    assert_int_equal(cfg_read(CARD, PCI_BAR0, 1), 0);
    assert_int_equal(cfg_read(CARD, PCI_CAPABILITY_POINTER, 1), cap);
    state_buffer_done(&saved);
}

static void state_of_another_device_is_refused(void **state)
{
    struct state_buffer saved = {0};
    struct error err;

    card.pci.config[PCI_DEVICE_ID]++;
    assert_int_equal(state_save(&saved, &card_state, &card.pci), 0);
    card.pci.config[PCI_DEVICE_ID]--;
    assert_int_equal(state_load(&saved, &card_state, &card.pci, &err), -EBADMSG);
    assert_int_equal(cfg_read(CARD, 0, 4), 0x56781234);
    state_buffer_done(&saved);
}

static void chipset_state_survives(void **state)
{
    struct device *devices[] = {pci_host_device(host), lpc_device(lpc)};
    struct state_buffer saved = {0};

    cfg_write(LPC_DEVFN, 0x6b, 1, 5);
    cfg_write(LPC_DEVFN, 0x40, 4, 0xb000);
    bus_write(&bus, BUS_PORT, 0xcf8, 4, 0x8000f800);
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(state_save(&saved, devices[i]->ops->state, devices[i]->state_object), 0);
    for (unsigned i = 0; i < 2; i++)
        devices[i]->ops->reset(devices[i]);
    pci_intx_set(&card.pci, true);
    assert_true(isa_level[10]);
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(state_load(&saved, devices[i]->ops->state, devices[i]->state_object, NULL),
                         0);
    assert_int_equal(port_read(0xcf8, 4), 0x8000f800);
    assert_int_equal(pm_base, 0xb000);
    assert_true(isa_level[5]);
    assert_false(isa_level[10]);
    state_buffer_done(&saved);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(both_ways_reach_the_same_registers),
        T(nobody_there_reads_as_ones),
        T(byte_at_cf9_is_the_reset_register),
        T(identity_is_read_only),
        T(ecam_moves_with_pciexbar),
        T(slots_are_given_once),
        T(sizing_reads_back_the_size),
        T(bars_are_decoded_while_enabled),
        T(overlapping_bar_appears_when_the_place_is_free),
        T(bar_on_the_host_bridges_ports_is_not_mapped),
        T(resources_are_assigned_without_overlap),
        T(too_little_space_is_an_error),
        T(msix_sends_its_entry),
        T(masked_msix_waits_in_the_pending_bits),
        T(messages_wait_for_the_bus_master_bit),
        T(msix_table_takes_only_aligned_accesses),
        T(msi_sends_as_many_vectors_as_allowed),
        T(intx_is_shared_and_routed),
        T(intx_can_be_disabled),
        T(lpc_places_the_acpi_block),
        T(state_restores_mappings_and_interrupts),
        T(hostile_state_cannot_change_read_only_bits),
        T(state_of_another_device_is_refused),
        T(chipset_state_survives),
    };
    return cmocka_run_group_tests_name("pci", tests, NULL, NULL);
}
