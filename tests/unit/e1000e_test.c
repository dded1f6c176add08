/* The 82574L, driven as its drivers do; the outside is a fake backend. */
#include "e1000e_rig.h"

#include <stdlib.h>

#include "net/checksum.h"

#define RX_DESC(i) (E1000E_RIG_RINGS + 16 * (i))
#define TX_DESC(i) (E1000E_RIG_RINGS + 0x10000 + 16 * (i))
#define DATA 0x300000

/* Byte 11 of a descriptor, and the type above it, as bits of its upper half */
#define CMD_EOP (1ull << 24)
#define CMD_IC (1ull << 26)
#define CMD_TSE (1ull << 26)
#define CMD_RS (1ull << 27)
#define CMD_DEXT (1ull << 29)
#define CMD_VLE (1ull << 30)
#define TYPE_DATA (1ull << 20)
#define POPTS_IXSM (1ull << 40)
#define POPTS_TXSM (1ull << 41)
#define STATUS_DD (1ull << 32)

static const uint8_t broadcast[NET_MAC_LENGTH] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
static const uint8_t other_mac[NET_MAC_LENGTH] = {2, 9, 9, 9, 9, 9};

static struct e1000e_rig rig;

static int setup(void **state)
{
    e1000e_rig_init(&rig);
    e1000e_rig_start(&rig);
    return 0;
}

static int teardown(void **state)
{
    e1000e_rig_done(&rig);
    assert_true(rig.fake.closed);
    return 0;
}

/* ---- registers ---- */

static void address_comes_from_an_nvm_with_a_right_checksum(void **state)
{
    uint16_t sum = 0;

    assert_int_equal(e_read(&rig, RAL), 0x03020102);
    assert_int_equal(e_read(&rig, RAH), 0x0504 | RAH_VALID);
    for (unsigned word = 0; word < 0x40; word++) {
        e_write(&rig, EERD, word << EERD_ADDRESS_SHIFT | EERD_START);
        uint32_t answer = e_read(&rig, EERD);
        assert_true(answer & EERD_DONE);
        sum = (uint16_t)(sum + (answer >> EERD_DATA_SHIFT));
    }
    assert_int_equal(sum, 0xbaba);
    /* The driver's changes last until it resets the card. */
    e_write(&rig, RAL, 0x12345678);
    assert_int_equal(e_read(&rig, RAL), 0x12345678);
    e_write(&rig, CTRL, e_read(&rig, CTRL) | CTRL_RST);
    assert_false(e_read(&rig, CTRL) & CTRL_RST);
    assert_int_equal(e_read(&rig, RAL), 0x03020102);
}

static uint32_t mdic(unsigned phy, unsigned reg, uint32_t op_and_data)
{
    e_write(&rig, MDIC, op_and_data | phy << MDIC_PHY_SHIFT | reg << MDIC_REGISTER_SHIFT);
    assert_true(e_read(&rig, MDIC) & MDIC_READY);
    return e_read(&rig, MDIC);
}

static void phy_answers_at_its_address_with_a_link(void **state)
{
    assert_int_equal(mdic(1, 2, MDIC_OP_READ) & 0xffff, 0x0141);
    assert_int_equal(mdic(1, 3, MDIC_OP_READ) & 0xffff, 0x0cb1);
    assert_int_equal(mdic(1, 1, MDIC_OP_READ) & 0x24, 0x24); /* link, negotiated */
    assert_true(mdic(2, 2, MDIC_OP_READ) & MDIC_ERROR);
    mdic(1, 4, MDIC_OP_WRITE | 0x0101);
    assert_int_equal(mdic(1, 4, MDIC_OP_READ) & 0xffff, 0x0101);
    mdic(1, 2, MDIC_OP_WRITE | 0xffff);
    assert_int_equal(mdic(1, 2, MDIC_OP_READ) & 0xffff, 0x0141);
    mdic(1, 0, MDIC_OP_WRITE | 0x8000); /* reset */
    assert_int_equal(mdic(1, 4, MDIC_OP_READ) & 0xffff, 0x0de1);
    assert_false(mdic(1, 0, MDIC_OP_READ) & 0x8000);
    assert_true(e_read(&rig, STATUS) & STATUS_LU);
}

static void master_disable_is_confirmed(void **state)
{
    assert_true(e_read(&rig, STATUS) & STATUS_GIO_MASTER);
    e_write(&rig, CTRL, CTRL_GIO_MASTER_DISABLE);
    assert_false(e_read(&rig, STATUS) & STATUS_GIO_MASTER);
}

static void registers_are_reached_through_the_io_window(void **state)
{
    uint64_t value;

    bus_write(&rig.pci.bus, BUS_PORT, rig.io, 4, RAL);
    bus_read(&rig.pci.bus, BUS_PORT, rig.io + 4, 4, &value);
    assert_int_equal(value, 0x03020102);
    bus_write(&rig.pci.bus, BUS_PORT, rig.io + 4, 4, 0x55667788);
    assert_int_equal(e_read(&rig, RAL), 0x55667788);
    bus_write(&rig.pci.bus, BUS_PORT, rig.io, 4, 0xfffffffc);
    bus_read(&rig.pci.bus, BUS_PORT, rig.io + 4, 4, &value);
    assert_int_equal(value, 0);
}

static void time_stamps_count_ticks(void **state)
{
    e_write(&rig, TIMINCA, 2u << 24 | 80); /* each 80 ns */
    e_write(&rig, SYSTIML, 0);
    e_write(&rig, SYSTIMH, 1);
    clock_advance(rig.clock, 8000);
    assert_int_equal(e_read(&rig, SYSTIML), 8000);
    assert_int_equal(e_read(&rig, SYSTIMH), 1);
}

/* ---- interrupts ---- */

static void causes_follow_mask_and_wire(void **state)
{
    e_write(&rig, ICS, CAUSE_LSC);
    assert_false(rig.pci.intx);
    e_write(&rig, IMS, CAUSE_LSC | CAUSE_RXT0);
    assert_true(rig.pci.intx);
    e_write(&rig, IMC, CAUSE_LSC);
    assert_false(rig.pci.intx);
    e_write(&rig, IMS, CAUSE_LSC);
    assert_int_equal(e_read(&rig, ICR), CAUSE_ASSERTED | CAUSE_OTHER | CAUSE_LSC);
    assert_false(rig.pci.intx);
    assert_int_equal(e_read(&rig, ICR), 0);
    /* With a mask, but nothing unmasked, reading clears nothing; without any mask it does. */
    e_write(&rig, ICS, CAUSE_TXDW);
    assert_int_equal(e_read(&rig, ICR), CAUSE_TXDW);
    assert_int_equal(e_read(&rig, ICR), CAUSE_TXDW);
    e_write(&rig, IMC, ~0u);
    assert_int_equal(e_read(&rig, ICR), CAUSE_TXDW);
    assert_int_equal(e_read(&rig, ICR), 0);
}

static void reading_masks_when_asked(void **state)
{
    e_write(&rig, CTRL_EXT, CTRL_EXT_IAME);
    e_write(&rig, IAM, CAUSE_LSC);
    e_write(&rig, IMS, CAUSE_LSC | CAUSE_RXT0);
    e_write(&rig, ICS, CAUSE_LSC);
    e_read(&rig, ICR);
    assert_int_equal(e_read(&rig, IMS), CAUSE_RXT0);
}

static void moderation_keeps_quiet(void **state)
{
    e_write(&rig, ITR, 1000); /* 256 us */
    e_write(&rig, IMS, CAUSE_LSC);
    e_write(&rig, ICS, CAUSE_LSC);
    assert_true(rig.pci.intx);
    e_read(&rig, ICR);
    e_write(&rig, ICS, CAUSE_LSC);
    assert_false(rig.pci.intx);
    clock_advance(rig.clock, 255999);
    assert_false(rig.pci.intx);
    clock_advance(rig.clock, 1);
    assert_true(rig.pci.intx);
}

static void vectors_clear_and_mask_their_causes(void **state)
{
    rig_enable_msix(&rig.pci);
    e_write(&rig, IVAR, 0x8 | 0x9 << 8 | 0xa << 16); /* RXQ0: 0, TXQ0: 1, other: 2 */
    e_write(&rig, EIAC, CAUSE_RXQ0 | CAUSE_TXQ0);
    e_write(&rig, CTRL_EXT, CTRL_EXT_EIAME);
    e_write(&rig, IMS, CAUSE_RXQ0 | CAUSE_TXQ0 | CAUSE_OTHER | CAUSE_LSC);
    e_write(&rig, ICS, CAUSE_RXQ0);
    assert_int_equal(rig.pci.messages[0], 1);
    e_write(&rig, ICS, CAUSE_RXQ0);
    assert_int_equal(rig.pci.messages[0], 1); /* masked */
    e_write(&rig, IMS, CAUSE_RXQ0);
    assert_int_equal(rig.pci.messages[0], 2);
    e_write(&rig, ICS, CAUSE_LSC);
    assert_int_equal(rig.pci.messages[2], 1);
    assert_true(e_read(&rig, ICR) & CAUSE_LSC);
    assert_int_equal(rig.pci.messages[1], 0);
    assert_false(rig.pci.intx);
}

/* ---- receiving ---- */

static void frame_is_received_into_a_legacy_descriptor(void **state)
{
    e_rings(&rig, 8);
    e_write(&rig, IMS, CAUSE_RXT0);
    assert_int_equal(fake_deliver(&rig.fake, e1000e_rig_mac, 100), 1);
    assert_int_equal(e_read(&rig, RDH), 1);
    assert_int_equal(guest_get(&rig.pci.mem, RX_DESC(0) + 8, 2), 100);
    assert_int_equal(guest_get(&rig.pci.mem, RX_DESC(0) + 12, 1) & 3, 3);
    assert_int_equal(guest_get(&rig.pci.mem, RIG_DATA + 99, 1), 99);
    assert_true(rig.pci.intx);
    assert_true(e_read(&rig, ICR) & CAUSE_RXT0);
    assert_int_equal(e_read(&rig, GPRC), 1);
    assert_int_equal(e_read(&rig, GPRC), 0); /* read clears */
}

static void short_frames_are_padded_and_may_keep_their_crc(void **state)
{
    uint8_t frame[64];

    e_rings(&rig, 8);
    e_write(&rig, RCTL, RCTL_EN);
    assert_int_equal(fake_deliver(&rig.fake, e1000e_rig_mac, 42), 1);
    assert_int_equal(guest_get(&rig.pci.mem, RX_DESC(0) + 8, 2), 64);
    /* IEEE 802.3: the CRC over a frame with its own gives a constant. */
    uint32_t crc = ~0u;
    assert_int_equal(memory_read(&rig.pci.mem, RIG_DATA, frame, sizeof(frame)), 0);
    for (unsigned i = 0; i < sizeof(frame) * 8; i++)
        crc = crc >> 1 ^ ((crc ^ frame[i / 8] >> i % 8) & 1 ? 0xedb88320u : 0);
    assert_int_equal(crc, 0xdebb20e3);
}

static void large_frame_goes_over_descriptors_and_waits_for_them(void **state)
{
    e_rings(&rig, 8);
    e_write(&rig, RFCTL, RFCTL_EXSTEN);
    e_write(&rig, RCTL, RCTL_EN | RCTL_SECRC | 3u << RCTL_BSIZE_SHIFT); /* 256 bytes */
    e_write(&rig, RDT, 3);
    assert_int_equal(fake_deliver(&rig.fake, e1000e_rig_mac, 1000), 0);
    unsigned ready = rig.fake.ready;
    e_write(&rig, RDT, 5);
    assert_true(rig.fake.ready > ready);
    assert_int_equal(fake_deliver(&rig.fake, e1000e_rig_mac, 1000), 1);
    assert_int_equal(e_read(&rig, RDH), 4);
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(guest_get(&rig.pci.mem, RX_DESC(i) + 8, 1) & 3, i < 3 ? 1 : 3);
        assert_int_equal(guest_get(&rig.pci.mem, RX_DESC(i) + 12, 2), i < 3 ? 256 : 1000 - 768);
    }
    assert_int_equal(guest_get(&rig.pci.mem, RIG_DATA + 0x1800 + 231, 1), 999 & 0xff);
}

static void frames_for_others_are_not_received(void **state)
{
    static const uint8_t group[NET_MAC_LENGTH] = {1, 0, 0x5e, 0, 0, 1};

    e_rings(&rig, 8);
    assert_int_equal(fake_deliver(&rig.fake, other_mac, 60), 1);
    assert_int_equal(fake_deliver(&rig.fake, group, 60), 1);
    assert_int_equal(e_read(&rig, RDH), 0);
    assert_int_equal(fake_deliver(&rig.fake, broadcast, 60), 1);
    assert_int_equal(e_read(&rig, RDH), 1);
    unsigned hash = (group[5] << 8 | group[4]) >> 4;
    e_write(&rig, MTA + 4 * (hash >> 5), 1u << (hash & 31));
    assert_int_equal(fake_deliver(&rig.fake, group, 60), 1);
    assert_int_equal(e_read(&rig, RDH), 2);
    e_write(&rig, RCTL, RCTL_EN | RCTL_UPE);
    assert_int_equal(fake_deliver(&rig.fake, other_mac, 60), 1);
    assert_int_equal(e_read(&rig, RDH), 3);
    assert_int_equal(fake_deliver(&rig.fake, broadcast, 60), 1);
    assert_int_equal(e_read(&rig, RDH), 3);
    /* Switched off: gone. */
    e_write(&rig, RCTL, 0);
    assert_int_equal(fake_deliver(&rig.fake, e1000e_rig_mac, 60), 1);
    assert_int_equal(e_read(&rig, RDH), 3);
}

/* ---- sending ---- */

static void wait_done(unsigned index)
{
    const uint8_t *status = memory_host(&rig.pci.mem, TX_DESC(index) + 12, 1, false);

    for (unsigned ms = 0; ms < FAKE_WAIT_MS; ms++) {
        if (__atomic_load_n(status, __ATOMIC_ACQUIRE) & 1)
            return;
        usleep(1000);
    }
    fail_msg("the descriptor is not given back");
}

static void fill(gpa_t at, size_t length)
{
    for (size_t i = 0; i < length; i++)
        guest_put(&rig.pci.mem, at + i, i & 0xff, 1);
}

static void legacy_frame_is_sent_with_its_checksum(void **state)
{
    e_rings(&rig, 8);
    fill(DATA, 100);
    e_write(&rig, IMS, CAUSE_TXDW);
    e_desc(&rig, 0, DATA, 40);
    e_desc(&rig, 1, DATA + 40, 60 | 50ull << 16 | CMD_EOP | CMD_IC | CMD_RS | 34ull << 40);
    e_write(&rig, TDT, 2);
    wait_done(1);
    assert_int_equal(rig.fake.count, 1);
    assert_int_equal(rig.fake.length[0], 100);
    assert_int_equal(rig.fake.frame[0][99], 99);
    /* A sum that is in its place makes the whole come out as what was there. */
    uint8_t expected[100];
    for (unsigned i = 0; i < 100; i++)
        expected[i] = (uint8_t)i;
    uint16_t sum = net_checksum_finish(net_checksum_add(0, expected + 34, 66));
    assert_int_equal(rig.fake.frame[0][50] << 8 | rig.fake.frame[0][51], sum);
    assert_true(e_read(&rig, ICR) & CAUSE_TXDW);
    assert_int_equal(e_read(&rig, TDH), 2);
}

/* Ethernet 14, IPv4 20, TCP 20: context of a driver that wants its frame cut. */
/* Until the driver lets it again the card reads and writes no memory, whoever has it by then. */
static void disabled_master_touches_no_memory(void **state)
{
    e_rings(&rig, 8);
    fill(DATA, 60);
    e_desc(&rig, 0, DATA, 60 | CMD_EOP | CMD_RS);
    e_write(&rig, CTRL, CTRL_GIO_MASTER_DISABLE);
    e_write(&rig, TDT, 1);
    assert_int_equal(fake_deliver(&rig.fake, e1000e_rig_mac, 60), 1); /* lost */
    assert_int_equal(e_read(&rig, RDH), 0);
    assert_int_equal(guest_get(&rig.pci.mem, E1000E_RIG_RINGS + 12, 1), 0);
    e_write(&rig, CTRL, 0);
    assert_int_equal(fake_deliver(&rig.fake, e1000e_rig_mac, 60), 1);
    assert_int_equal(e_read(&rig, RDH), 1);
    assert_int_equal(fake_wait_sent(&rig.fake, 1), 1); /* which has waited */
}

static void put_context(unsigned index, unsigned mss)
{
    e_desc(&rig, index, 14 | 24ull << 8 | 33ull << 16 | 34ull << 32 | 50ull << 40,
           0x3ull << 24 | CMD_TSE | CMD_DEXT | 54ull << 40 | (uint64_t)mss << 48);
}

static void frame_to_be_cut_goes_out_whole_and_complete(void **state)
{
    e_rings(&rig, 8);
    fill(DATA, 4000);
    guest_put(&rig.pci.mem, DATA + 14 + 2, 0, 2); /* lengths are left out */
    guest_put(&rig.pci.mem, DATA + 14 + 10, 0, 2);
    guest_put(&rig.pci.mem, DATA + 50, 0x3412, 2);
    put_context(0, 1000);
    e_desc(&rig, 1, DATA,
           4000 | TYPE_DATA | CMD_DEXT | CMD_TSE | CMD_EOP | CMD_RS | POPTS_IXSM | POPTS_TXSM);
    e_write(&rig, TDT, 2);
    wait_done(1);
    const uint8_t *frame = rig.fake.frame[0];
    assert_int_equal(rig.fake.length[0], 4000);
    assert_int_equal(frame[16] << 8 | frame[17], 4000 - 14);
    assert_int_equal(net_checksum_finish(net_checksum_add(0, frame + 14, 20)), 0);
    assert_int_equal(frame[50] << 8 | frame[51], 0x1234 + 4000 - 34);
    assert_int_equal(rig.fake.offload[0].flags, NET_OFFLOAD_NEEDS_CSUM);
    assert_int_equal(rig.fake.offload[0].gso_type, NET_GSO_TCPV4);
    assert_int_equal(rig.fake.offload[0].gso_size, 1000);
    assert_int_equal(rig.fake.offload[0].csum_start, 34);
    assert_int_equal(rig.fake.offload[0].csum_offset, 16);
}

static void vlan_tag_is_inserted(void **state)
{
    e_rings(&rig, 8);
    fill(DATA, 60);
    e_write(&rig, CTRL, CTRL_VME);
    e_desc(&rig, 0, DATA, 60 | CMD_EOP | CMD_RS | CMD_VLE | 0x0123ull << 48);
    e_write(&rig, TDT, 1);
    wait_done(0);
    static const uint8_t tag[] = {11, 0x81, 0x00, 0x01, 0x23, 12};
    assert_int_equal(rig.fake.length[0], 64);
    assert_memory_equal(rig.fake.frame[0] + 11, tag, sizeof(tag));
}

static void full_backend_and_pause_are_waited_for(void **state)
{
    e_rings(&rig, 8);
    fake_set_room(&rig.fake, 0);
    e_desc(&rig, 0, DATA, 60 | CMD_EOP | CMD_RS);
    e_write(&rig, TDT, 1);
    usleep(10000);
    assert_int_equal(e_read(&rig, TDH), 0);
    rig.pci.dev->ops->pause(rig.pci.dev);
    fake_set_room(&rig.fake, 8);
    rig.fake.backend.card->writable(rig.fake.backend.card_opaque);
    usleep(10000);
    assert_int_equal(rig.fake.count, 0);
    assert_int_equal(fake_deliver(&rig.fake, e1000e_rig_mac, 60), 0);
    unsigned ready = rig.fake.ready;
    rig.pci.dev->ops->resume(rig.pci.dev);
    assert_true(rig.fake.ready > ready);
    wait_done(0);
    assert_int_equal(rig.fake.count, 1);
}

/* ---- hostile ---- */

/* Each context field at its extremes, in frames that it does not fit. */
static void contexts_that_make_no_sense_harm_nobody(void **state)
{
    e_rings(&rig, 8);
    srand(3);
    for (unsigned i = 0; i < 2000; i++) {
        uint64_t low = 0, high = 0;
        for (unsigned byte = 0; byte < 8; byte++) {
            low = low << 8 | (rand() % 3 ? (unsigned)rand() % 64 : 0xff);
            high = high << 8 | (rand() % 3 ? (unsigned)rand() % 64 : 0xff);
        }
        unsigned length = (unsigned)rand() % 200;
        unsigned at = e_read(&rig, TDT);
        e_desc(&rig, at, low, (high & ~(0xfull << 20)) | CMD_DEXT);
        e_desc(&rig, (at + 1) % 8, DATA,
               length | TYPE_DATA | CMD_DEXT | CMD_EOP | CMD_RS | POPTS_IXSM | POPTS_TXSM |
                   (rand() % 2 ? CMD_TSE : 0));
        e_write(&rig, TDT, (at + 2) % 8);
        wait_done((at + 1) % 8);
    }
    assert_true(rig.fake.count > 100);
}

static void rings_outside_memory_and_indices_outside_rings_harm_nobody(void **state)
{
    e_rings(&rig, 8);
    e_write(&rig, RDH, 0xffff);
    assert_int_equal(fake_deliver(&rig.fake, e1000e_rig_mac, 60), 0);
    e_write(&rig, RDH, 0);
    e_write(&rig, RDBAH, 0x7fffffff);
    assert_int_equal(fake_deliver(&rig.fake, e1000e_rig_mac, 60), 1);
    e_write(&rig, RDLEN, 0);
    assert_int_equal(fake_deliver(&rig.fake, e1000e_rig_mac, 60), 0);
    e_write(&rig, TDT, 0xffff);
    e_write(&rig, TDBAH, 0x7fffffff);
    e_write(&rig, TDT, 1);
    e_write(&rig, TDLEN, 0xfff80);
    e_write(&rig, TDT, 0xfffe);
    usleep(10000);
    assert_int_equal(rig.fake.count, 0);
    /* It works again when it is set up again. */
    e_write(&rig, CTRL, CTRL_RST);
    e_rings(&rig, 8);
    e_write(&rig, RDBAH, 0);
    e_desc(&rig, 0, DATA, 60 | CMD_EOP | CMD_RS);
    e_write(&rig, TDT, 1);
    wait_done(0);
    assert_int_equal(fake_deliver(&rig.fake, e1000e_rig_mac, 60), 1);
    assert_int_equal(e_read(&rig, RDH), 1);
}

static void every_register_takes_every_write(void **state)
{
    static const uint32_t values[] = {0, ~0u, 0x80000001, 0x5555aaaa};
    uint64_t value;

    for (unsigned offset = 0; offset < E1000E_BAR_SIZE; offset += 4) {
        for (unsigned i = 0; i < ARRAY_SIZE(values); i++) {
            bus_write(&rig.pci.bus, BUS_MMIO, rig.pci.registers + offset, 1u << i, values[i]);
            bus_read(&rig.pci.bus, BUS_MMIO, rig.pci.registers + offset, 1u << i, &value);
            fake_deliver(&rig.fake, broadcast, 60);
        }
    }
    e_write(&rig, CTRL, CTRL_RST);
    assert_int_equal(e_read(&rig, RAL), 0x03020102);
}

/* ---- state ---- */

static void state_survives(void **state)
{
    static struct e1000e_rig second;
    struct state_buffer saved = {0}, again = {0};

    e_rings(&rig, 8);
    e_write(&rig, IMS, CAUSE_LSC);
    e_write(&rig, ICS, CAUSE_LSC);
    assert_int_equal(fake_deliver(&rig.fake, e1000e_rig_mac, 100), 1);
    mdic(1, 4, MDIC_OP_WRITE | 0x0101);
    rig.pci.dev->ops->pause(rig.pci.dev);
    assert_int_equal(state_save(&saved, rig.pci.dev->ops->state, rig.pci.dev->state_object), 0);

    e1000e_rig_init(&second);
    assert_int_equal(
        state_load(&saved, second.pci.dev->ops->state, second.pci.dev->state_object, NULL), 0);
    assert_int_equal(state_save(&again, second.pci.dev->ops->state, second.pci.dev->state_object),
                     0);
    assert_int_equal(saved.length, again.length);
    assert_memory_equal(saved.data, again.data, saved.length);
    assert_int_equal(e_read(&second, RDH), 1);
    assert_int_equal(e_read(&second, GPRC), 1);
    state_buffer_done(&saved);
    state_buffer_done(&again);
    e1000e_rig_done(&second);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(address_comes_from_an_nvm_with_a_right_checksum),
        T(phy_answers_at_its_address_with_a_link),
        T(master_disable_is_confirmed),
        T(registers_are_reached_through_the_io_window),
        T(time_stamps_count_ticks),
        T(causes_follow_mask_and_wire),
        T(reading_masks_when_asked),
        T(moderation_keeps_quiet),
        T(vectors_clear_and_mask_their_causes),
        T(frame_is_received_into_a_legacy_descriptor),
        T(short_frames_are_padded_and_may_keep_their_crc),
        T(large_frame_goes_over_descriptors_and_waits_for_them),
        T(frames_for_others_are_not_received),
        T(legacy_frame_is_sent_with_its_checksum),
        T(frame_to_be_cut_goes_out_whole_and_complete),
        T(vlan_tag_is_inserted),
        T(disabled_master_touches_no_memory),
        T(full_backend_and_pause_are_waited_for),
        T(contexts_that_make_no_sense_harm_nobody),
        T(rings_outside_memory_and_indices_outside_rings_harm_nobody),
        T(every_register_takes_every_write),
        T(state_survives),
    };
    return cmocka_run_group_tests_name("e1000e", tests, NULL, NULL);
}
