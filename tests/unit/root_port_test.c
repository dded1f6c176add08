/* Root ports: the bridge, its windows and its bus, the hot-plug slot and its interrupts. */
#include "device_rig.h"

#include "dev/pci/lpc.h"
#include "dev/pci/pci_host.h"
#include "dev/pci/root_port.h"

#define ECAM 0xb0000000ull
#define PORT PCI_DEVFN(1, 0) /* the first free slot */
#define BUS 5                /* what the guest calls the bus behind it */

#define CARD_ID 0x56781234u
#define MSI_ADDRESS 0xfee00000u
#define MSI_DATA 0x41u

static struct device_rig rig;
static struct memory mem;
static struct pci_host *host;
static struct lpc *lpc;
static struct root_port *port;
static struct pci_device card;
static unsigned messages, attentions;

static enum bus_result card_read(void *opaque, uint64_t offset, unsigned size, uint64_t *value)
{
    *value = 0x1000 + offset;
    return BUS_OK;
}

static enum bus_result card_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    return BUS_OK;
}

static const struct region_ops card_region_ops = {.read = card_read, .write = card_write};

static void record_message(void *opaque, const struct msi_message *message)
{
    messages += message->address == MSI_ADDRESS && message->data == MSI_DATA;
}

static void record_attention(void *opaque)
{
    attentions++;
}

static void new_card(void)
{
    static const struct pci_ident ident = {
        .vendor = 0x1234, .device = 0x5678, .class_code = 0x020000, .interrupt_pin = 1};

    memset(&card, 0, sizeof(card));
    card.dev.name = "card";
    pci_device_init(&card, root_port_bus(port), NULL, &ident);
    pci_add_bar(&card, 0, PCI_BAR_MEM32, 0x2000, "card", &card_region_ops, &card);
    pci_add_bar(&card, 1, PCI_BAR_IO, 0x20, "card", &card_region_ops, &card);
    pci_add_bar(&card, 2, PCI_BAR_MEM64, 0x10000, "card", &card_region_ops, &card);
    pci_add_express(&card);
    assert_int_equal(pci_device_attach(&card, 0, NULL), 0);
}

static int setup(void **state)
{
    struct lpc_config lpc_config = {0};

    rig_init(&rig);
    memory_init(&mem, 0);
    messages = attentions = 0;
    const struct pci_host_config config = {
        .bus = &rig.bus, .memory = &mem, .msi = {.send = record_message}, .ecam_base = ECAM};
    assert_int_equal(pci_host_new(&host, &config, NULL), 0);
    for (unsigned i = 0; i < LPC_PIRQS; i++)
        lpc_config.ioapic[i] = rig_line(&rig, i);
    assert_int_equal(lpc_new(&lpc, pci_host_bus(host), &lpc_config, NULL), 0);
    const struct root_port_config port_config = {
        .name = "slot1", .bus = pci_host_bus(host), .slot = 1, .attention = record_attention};
    assert_int_equal(root_port_new(&port, &port_config, NULL), 0);
    new_card();
    return 0;
}

static int teardown(void **state)
{
    pci_device_done(&card);
    root_port_device(port)->ops->destroy(root_port_device(port));
    lpc_device(lpc)->ops->destroy(lpc_device(lpc));
    pci_host_device(host)->ops->destroy(pci_host_device(host));
    memory_done(&mem);
    rig_done(&rig);
    return 0;
}

/* The port's registers, and the card's by the number that its bus has now. */

static uint32_t port_get(unsigned offset, unsigned size)
{
    return (uint32_t)mmio_read(&rig, ECAM + (PORT << 12) + offset, size);
}

static void port_set(unsigned offset, unsigned size, uint32_t value)
{
    mmio_write(&rig, ECAM + (PORT << 12) + offset, size, value);
}

static uint32_t card_get(unsigned offset, unsigned size)
{
    return (uint32_t)mmio_read(&rig, ECAM + (BUS << 20) + offset, size);
}

static void card_set(unsigned offset, unsigned size, uint32_t value)
{
    mmio_write(&rig, ECAM + (BUS << 20) + offset, size, value);
}

static unsigned capability(uint32_t (*get)(unsigned, unsigned), uint8_t id)
{
    unsigned at = get(PCI_CAPABILITY_POINTER, 1);

    while (at && get(at, 1) != id)
        at = get(at + 1, 1);
    assert_int_not_equal(at, 0);
    return at;
}

static unsigned express(void)
{
    return capability(port_get, PCI_CAP_EXPRESS);
}

static uint32_t slot_status(void)
{
    return port_get(express() + PCI_EXPRESS_SLOT_STATUS, 2);
}

static void slot_control(uint32_t value)
{
    port_set(express() + PCI_EXPRESS_SLOT_CONTROL, 2, value);
}

static void clear_events(void)
{
    port_set(express() + PCI_EXPRESS_SLOT_STATUS, 2, slot_status());
}

static bool link_is_up(void)
{
    bool said = port_get(express() + PCI_EXPRESS_LINK_STATUS, 2) & PCI_EXPRESS_LINK_STATUS_ACTIVE;

    assert_int_equal(said, card_get(0, 4) == CARD_ID);
    return said;
}

static void number_the_bus(void)
{
    port_set(PCI_SECONDARY_BUS, 1, BUS);
    port_set(PCI_SUBORDINATE_BUS, 1, BUS);
}

static void enable_msi(void)
{
    unsigned msi = capability(port_get, PCI_CAP_MSI);

    port_set(msi + PCI_MSI_ADDRESS, 4, MSI_ADDRESS);
    port_set(msi + PCI_MSI_DATA, 2, MSI_DATA);
    port_set(msi + PCI_MSI_CONTROL, 2, PCI_MSI_CONTROL_ENABLE);
    port_set(PCI_COMMAND, 2, PCI_COMMAND_MASTER | PCI_COMMAND_IO | PCI_COMMAND_MEMORY);
}

/* What Linux's driver wants to hear of, the power of an empty slot being off. */
#define WANTED                                                                                     \
    (PCI_EXPRESS_SLOT_STATUS_BUTTON | PCI_EXPRESS_SLOT_CONTROL_COMMAND |                           \
     PCI_EXPRESS_SLOT_CONTROL_INTERRUPT | PCI_EXPRESS_SLOT_CONTROL_LINK)

static void wait_for_events(void)
{
    number_the_bus();
    enable_msi();
    slot_control(WANTED | PCI_EXPRESS_SLOT_CONTROL_POWER_OFF |
                 PCI_EXPRESS_SLOT_CONTROL_POWER_LED_OFF);
    clear_events();
    messages = 0;
}

/* The bridge. */

static void it_is_a_root_port_with_a_hot_plug_slot(void **state)
{
    assert_int_equal(port_get(PCI_VENDOR_ID, 4), 0x000c1b36);
    assert_int_equal(port_get(PCI_CLASS, 4) & 0xffffff, 0x060400);
    assert_int_equal(port_get(PCI_HEADER_TYPE, 1), PCI_HEADER_BRIDGE);
    assert_int_equal(port_get(express() + PCI_EXPRESS_FLAGS, 2), 0x0142);
    assert_int_equal(port_get(express() + PCI_EXPRESS_SLOT_CAP, 4), 1 << 19 | 0x7b);
    assert_true(port_get(express() + PCI_EXPRESS_LINK_CAP, 4) &
                PCI_EXPRESS_LINK_CAP_ACTIVE_REPORTING);
    root_port_plugged(port, false);
    number_the_bus();
    /* Behind it there are endpoints, with a link of their own. */
    unsigned cap = capability(card_get, PCI_CAP_EXPRESS);
    assert_int_equal(card_get(cap + PCI_EXPRESS_FLAGS, 2), 0x0002);
    assert_int_equal(card_get(cap + PCI_EXPRESS_LINK_STATUS, 2), 0x0011);
}

static void configuration_cycles_go_by_the_bus_number(void **state)
{
    root_port_plugged(port, false);
    for (unsigned bus = 1; bus < 256; bus++)
        assert_int_equal(mmio_read(&rig, ECAM + (bus << 20), 4), 0xffffffff);
    number_the_bus();
    assert_int_equal(card_get(0, 4), CARD_ID);
    assert_int_equal(mmio_read(&rig, ECAM + (BUS << 20) + (PCI_DEVFN(1, 0) << 12), 4), 0xffffffff);
    assert_int_equal(mmio_read(&rig, ECAM + ((BUS + 1) << 20), 4), 0xffffffff);

    outl(&rig, 0xcf8, 0x80000000 | BUS << 16 | PCI_INTERRUPT_LINE);
    outb(&rig, 0xcfc, 0x5a);
    assert_int_equal(inb(&rig, 0xcfc), 0x5a);
    assert_int_equal(card_get(PCI_INTERRUPT_LINE, 1), 0x5a);
    outl(&rig, 0xcf8, 0x80000000 | (BUS + 1) << 16);
    assert_int_equal(inl(&rig, 0xcfc), 0xffffffff);

    port_set(PCI_SECONDARY_BUS, 1, 200);
    assert_int_equal(card_get(0, 4), 0xffffffff);
    assert_int_equal(mmio_read(&rig, ECAM + (200u << 20), 4), CARD_ID);
}

static void bars_are_behind_the_windows(void **state)
{
    root_port_plugged(port, false);
    number_the_bus();
    card_set(PCI_BAR0, 4, 0xe0100000);
    card_set(PCI_BAR0 + 4, 4, 0xc100);
    card_set(PCI_BAR0 + 8, 4, 0x00200000);
    card_set(PCI_BAR0 + 12, 4, 0x10);
    card_set(PCI_COMMAND, 2, PCI_COMMAND_IO | PCI_COMMAND_MEMORY);
    port_set(PCI_COMMAND, 2, PCI_COMMAND_IO | PCI_COMMAND_MEMORY);
    assert_int_equal(mmio_read(&rig, 0xe0100004, 4), 0xffffffff);
    assert_int_equal(inl(&rig, 0xc104), 0xffffffff);
    assert_int_equal(mmio_read(&rig, 0x1000200004, 4), 0xffffffff);

    port_set(PCI_MEMORY_BASE, 4, 0xe010e010); /* 0xe0100000 to 0xe01fffff */
    assert_int_equal(mmio_read(&rig, 0xe0100004, 4), 0x1004);
    port_set(PCI_IO_BASE, 2, 0xc0c0);
    assert_int_equal(inl(&rig, 0xc104), 0x1004);
    port_set(PCI_PREFETCHABLE_BASE, 4, 0x00200020);
    port_set(PCI_PREFETCHABLE_BASE_HIGH, 4, 0x10);
    assert_int_equal(mmio_read(&rig, 0x1000200004, 4), 0xffffffff); /* the limit is below it */
    port_set(PCI_PREFETCHABLE_LIMIT_HIGH, 4, 0x10);
    assert_int_equal(mmio_read(&rig, 0x1000200004, 4), 0x1004);

    port_set(PCI_MEMORY_LIMIT, 2, 0xe000);
    assert_int_equal(mmio_read(&rig, 0xe0100004, 4), 0xffffffff);
    port_set(PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
    assert_int_equal(inl(&rig, 0xc104), 0xffffffff);
    assert_int_equal(mmio_read(&rig, 0x1000200004, 4), 0x1004);
    port_set(PCI_COMMAND, 2, 0);
    assert_int_equal(mmio_read(&rig, 0x1000200004, 4), 0xffffffff);
}

static void wires_join_those_of_the_slot(void **state)
{
    unsigned pirq = lpc_pirq(PCI_SLOT(PORT), 0);

    root_port_plugged(port, false);
    pci_intx_set(&card, true);
    assert_true(rig.level[pirq]);
    /* The port's own event on the same wire changes nothing, neither when it comes nor goes. */
    slot_control(WANTED);
    assert_int_equal(root_port_ask_removal(port), 0);
    clear_events();
    assert_true(rig.level[pirq]);
    pci_intx_set(&card, false);
    assert_false(rig.level[pirq]);
    assert_int_equal(root_port_ask_removal(port), 0);
    assert_true(rig.level[pirq]);
    clear_events();
    assert_false(rig.level[pirq]);
}

static void resources_leave_room_for_what_comes_later(void **state)
{
    static const struct pci_windows windows = {
        .memory32_base = 0xc0000000,
        .memory32_size = 0x10000000,
        .memory64_base = 0x800000000,
        .memory64_size = 0x10000000,
        .io_base = 0x1000,
        .io_size = 0x2000,
    };
    static const struct pci_windows no_ports = {
        .memory32_base = 0xc0000000, .memory32_size = 0x10000000, .io_base = 0x1000};

    root_port_plugged(port, false);
    assert_int_equal(pci_assign_resources(pci_host_bus(host), &windows, NULL), 0);
    assert_int_equal(port_get(PCI_PRIMARY_BUS, 4), 0x00010100);
    assert_int_equal(port_get(PCI_MEMORY_BASE, 4), 0xc010c000);
    assert_int_equal(port_get(PCI_PREFETCHABLE_BASE, 4), 0x00110001);
    assert_int_equal(port_get(PCI_PREFETCHABLE_BASE_HIGH, 4), 8);
    assert_int_equal(port_get(PCI_IO_BASE, 2), 0x1010);
    /* What is there already is inside. */
    assert_int_equal(mmio_read(&rig, 0xc0000004, 4), 0x1004);
    assert_int_equal(mmio_read(&rig, 0xc0010004, 4), 0x1004);
    assert_int_equal(inl(&rig, 0x1004), 0x1004);

    assert_int_equal(pci_assign_resources(pci_host_bus(host), &no_ports, NULL), 0);
    assert_true(port_get(PCI_IO_BASE, 1) > port_get(PCI_IO_LIMIT, 1));
    assert_int_equal(mmio_read(&rig, 0xc0000004, 4), 0x1004);
    assert_false(card.bar[1].region.added);
}

/* The slot. */

static void a_plugged_device_is_announced(void **state)
{
    wait_for_events();
    root_port_plugged(port, true);
    assert_int_equal(messages, 1);
    assert_int_equal(slot_status(), PCI_EXPRESS_SLOT_STATUS_PRESENT |
                                        PCI_EXPRESS_SLOT_STATUS_PRESENCE_CHANGED |
                                        PCI_EXPRESS_SLOT_STATUS_BUTTON);
    assert_false(link_is_up());
    clear_events();
    assert_int_equal(slot_status(), PCI_EXPRESS_SLOT_STATUS_PRESENT);

    slot_control(WANTED | PCI_EXPRESS_SLOT_CONTROL_POWER_LED_BLINKS);
    assert_true(link_is_up());
    assert_int_equal(slot_status(), PCI_EXPRESS_SLOT_STATUS_PRESENT |
                                        PCI_EXPRESS_SLOT_STATUS_LINK_CHANGED |
                                        PCI_EXPRESS_SLOT_STATUS_COMMAND);
    assert_int_equal(messages, 2);
    assert_int_equal(attentions, 0);
}

static void one_message_stands_for_all_events(void **state)
{
    wait_for_events();
    root_port_plugged(port, true);
    slot_control(WANTED); /* done, and the link is up */
    assert_int_equal(messages, 1);
    port_set(express() + PCI_EXPRESS_SLOT_STATUS, 2, PCI_EXPRESS_SLOT_STATUS_BUTTON);
    assert_int_equal(messages, 1);
    clear_events();
    slot_control(WANTED);
    assert_int_equal(messages, 2);
    clear_events();
    slot_control(WANTED & ~PCI_EXPRESS_SLOT_CONTROL_INTERRUPT);
    assert_true(slot_status() & PCI_EXPRESS_SLOT_STATUS_COMMAND);
    assert_int_equal(messages, 2);
}

static void the_guest_gives_a_device_back(void **state)
{
    wait_for_events();
    root_port_plugged(port, true);
    slot_control(WANTED | PCI_EXPRESS_SLOT_CONTROL_POWER_LED_ON);
    clear_events();

    assert_int_equal(root_port_ask_removal(port), 0);
    assert_true(root_port_is_leaving(port));
    assert_true(slot_status() & PCI_EXPRESS_SLOT_STATUS_BUTTON);
    /* Nothing has happened yet; a second press is another request. */
    assert_int_equal(root_port_ask_removal(port), 0);
    slot_control(WANTED | PCI_EXPRESS_SLOT_CONTROL_POWER_LED_BLINKS);
    assert_int_equal(root_port_ask_removal(port), -EBUSY);
    assert_false(root_port_link_lost(port));
    assert_false(root_port_is_off(port));

    slot_control(WANTED | PCI_EXPRESS_SLOT_CONTROL_POWER_OFF);
    assert_int_equal(attentions, 1);
    assert_true(root_port_is_off(port));
    assert_true(root_port_link_lost(port));
    assert_false(root_port_link_lost(port));
    assert_false(link_is_up());
    root_port_unplugged(port);
    assert_false(root_port_is_leaving(port));
    assert_false(slot_status() & PCI_EXPRESS_SLOT_STATUS_PRESENT);
    assert_true(slot_status() & PCI_EXPRESS_SLOT_STATUS_PRESENCE_CHANGED);
    assert_int_equal(attentions, 1);
}

static void taken_out_by_force_the_link_is_down(void **state)
{
    wait_for_events();
    root_port_plugged(port, true);
    slot_control(WANTED);
    clear_events();
    messages = 0;
    root_port_unplugged(port);
    assert_int_equal(messages, 1);
    assert_false(link_is_up());
    assert_int_equal(slot_status(), PCI_EXPRESS_SLOT_STATUS_PRESENCE_CHANGED |
                                        PCI_EXPRESS_SLOT_STATUS_LINK_CHANGED);
    assert_false(root_port_link_lost(port)); /* nobody there to be reset */
}

static void a_reset_or_disabled_link_loses_the_device(void **state)
{
    root_port_plugged(port, false);
    number_the_bus();
    assert_true(link_is_up());
    port_set(PCI_BRIDGE_CONTROL, 2, PCI_BRIDGE_CONTROL_RESET);
    assert_false(link_is_up());
    assert_int_equal(attentions, 1);
    assert_true(root_port_link_lost(port));
    port_set(PCI_BRIDGE_CONTROL, 2, 0);
    assert_true(link_is_up());

    port_set(express() + PCI_EXPRESS_LINK_CONTROL, 2, PCI_EXPRESS_LINK_CONTROL_DISABLE);
    assert_false(link_is_up());
    assert_true(root_port_link_lost(port));
    port_set(express() + PCI_EXPRESS_LINK_CONTROL, 2, 0);
    assert_true(link_is_up());
    assert_false(root_port_link_lost(port));
}

static void after_reset_what_is_there_has_power(void **state)
{
    struct device *device = root_port_device(port);

    wait_for_events();
    root_port_plugged(port, true);
    assert_int_equal(root_port_ask_removal(port), 0);
    device->ops->reset(device);
    number_the_bus();
    assert_true(link_is_up());
    assert_false(root_port_is_off(port));
    assert_false(root_port_is_leaving(port));
    assert_int_equal(slot_status(), PCI_EXPRESS_SLOT_STATUS_PRESENT);

    root_port_unplugged(port);
    device->ops->reset(device);
    assert_true(root_port_is_off(port));
    assert_int_equal(slot_status(), 0);
    assert_int_equal(attentions, 1); /* the forced removal's */
}

static void no_register_harms_it(void **state)
{
    static const uint32_t values[] = {0xffffffff, 0, 0x55555555, 0xaaaaaaaa};

    root_port_plugged(port, false);
    number_the_bus();
    for (unsigned i = 0; i < ARRAY_SIZE(values); i++) {
        for (unsigned offset = 0; offset < PCI_EXPRESS_CONFIG_SIZE; offset += 4) {
            port_set(offset, 4, values[i]);
            card_set(offset, 4, values[i]);
        }
    }
    assert_int_equal(port_get(PCI_VENDOR_ID, 4), 0x000c1b36);
    assert_int_equal(port_get(PCI_HEADER_TYPE, 1), PCI_HEADER_BRIDGE);
    assert_true(slot_status() & PCI_EXPRESS_SLOT_STATUS_PRESENT);
}

static void state_survives(void **state)
{
    struct device *device = root_port_device(port);

    wait_for_events();
    root_port_plugged(port, true);
    slot_control(WANTED | PCI_EXPRESS_SLOT_CONTROL_POWER_LED_ON);
    assert_int_equal(root_port_ask_removal(port), 0);
    rig_save_and_restore(device, device->ops->reset);
    assert_true(root_port_is_leaving(port));
    assert_true(link_is_up());
    assert_int_equal(slot_status(),
                     PCI_EXPRESS_SLOT_STATUS_PRESENT | PCI_EXPRESS_SLOT_STATUS_PRESENCE_CHANGED |
                         PCI_EXPRESS_SLOT_STATUS_LINK_CHANGED | PCI_EXPRESS_SLOT_STATUS_COMMAND |
                         PCI_EXPRESS_SLOT_STATUS_BUTTON);
    /* A lost link that the board has not looked at is asked about again. */
    slot_control(WANTED | PCI_EXPRESS_SLOT_CONTROL_POWER_OFF);
    attentions = 0;
    rig_save_and_restore(device, device->ops->reset);
    assert_int_equal(attentions, 1);
    assert_true(root_port_link_lost(port));
    assert_false(link_is_up());
}

static void hostile_state_is_taken_or_refused(void **state)
{
    root_port_plugged(port, false);
    number_the_bus();
    rig_check_state(root_port_device(port));
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(it_is_a_root_port_with_a_hot_plug_slot),
        T(configuration_cycles_go_by_the_bus_number),
        T(bars_are_behind_the_windows),
        T(wires_join_those_of_the_slot),
        T(resources_leave_room_for_what_comes_later),
        T(a_plugged_device_is_announced),
        T(one_message_stands_for_all_events),
        T(the_guest_gives_a_device_back),
        T(taken_out_by_force_the_link_is_down),
        T(a_reset_or_disabled_link_loses_the_device),
        T(after_reset_what_is_there_has_power),
        T(no_register_harms_it),
        T(state_survives),
        T(hostile_state_is_taken_or_refused),
    };
    return cmocka_run_group_tests_name("root_port", tests, NULL, NULL);
}
