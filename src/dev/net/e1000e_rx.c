/*
 * The receive side of the 82574L: address filters, the three descriptor formats, checksum status.
 * Datasheet 7.1; see e1000e_internal.h. The backend's thread calls.
 *
 * Only receive queue 0 is filled, which is what hardware does with frames that RSS knows nothing
 * of. A frame that finds too few descriptors waits in the backend until RDT moves.
 */
#include "dev/net/e1000e_internal.h"

#include <string.h>

#include "net/checksum.h"

#define FRAME_MIN 60
#define FRAME_MAX_SHORT 1522 /* without RCTL.LPE, CRC included */
#define FRAME_MAX_LONG 16384
#define CRC_LENGTH 4
#define SPLIT_BUFFERS 4
#define SPLIT_DESCRIPTOR 32
#define VLAN_TAG_LENGTH 4
#define VLAN_ID_MASK 0xfff

/* Offsets in a frame without VLAN tag */
enum { TYPE_AT = 12, IP_AT = 14 };

enum ethertype { TYPE_IPV4 = 0x0800, TYPE_IPV6 = 0x86dd };
enum ip_protocol { PROTOCOL_TCP = 6, PROTOCOL_UDP = 17 };

/* Status bits, the same in all formats, 7.1.4 */
enum rx_status {
    RX_DD = 1 << 0,
    RX_EOP = 1 << 1,
    RX_IXSM = 1 << 2, /* checksums were not looked at */
    RX_VP = 1 << 3,
    RX_TCPCS = 1 << 5,
    RX_IPCS = 1 << 6,
};

/* A frame as it goes to memory. */
struct rx_frame {
    uint8_t data[FRAME_MAX_LONG + CRC_LENGTH];
    size_t length;
    uint16_t vlan; /* of the stripped tag, with RX_VP */
    uint16_t checksum;
    uint8_t status; /* but for RX_DD and RX_EOP */
};

static unsigned get16(const uint8_t *bytes)
{
    return (unsigned)(bytes[0] << 8 | bytes[1]);
}

/* ---- filters, 7.1.1 ---- */

static bool multicast_wanted(const struct e1000e *dev, const uint8_t *mac)
{
    static const uint8_t shifts[] = {4, 3, 2, 0}; /* by RCTL.MO, 10.2.5.15 */
    uint32_t rctl = e1000e_get(dev, RCTL);
    unsigned hash = (mac[5] << 8 | mac[4]) >> shifts[rctl >> RCTL_MO_SHIFT & 3] & 0xfff;

    return e1000e_get(dev, MTA + 4 * (hash >> 5)) & 1u << (hash & 31);
}

static bool address_wanted(const struct e1000e *dev, const uint8_t *mac)
{
    static const uint8_t broadcast[NET_MAC_LENGTH] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
    uint32_t rctl = e1000e_get(dev, RCTL);
    uint32_t low = mac[0] | mac[1] << 8 | mac[2] << 16 | (uint32_t)mac[3] << 24;
    uint32_t high = mac[4] | (uint32_t)mac[5] << 8;

    if (!memcmp(mac, broadcast, NET_MAC_LENGTH) && rctl & RCTL_BAM)
        return true;
    for (unsigned i = 0; i < RA_COUNT; i++) {
        uint32_t rah = e1000e_get(dev, RAH + 8 * i);
        if (rah & RAH_VALID && e1000e_get(dev, RAL + 8 * i) == low && (rah & 0xffff) == high)
            return true;
    }
    if (mac[0] & 1)
        return rctl & RCTL_MPE || multicast_wanted(dev, mac);
    return rctl & RCTL_UPE;
}

static bool has_vlan_tag(const struct e1000e *dev, const uint8_t *data)
{
    return get16(data + TYPE_AT) == (e1000e_get(dev, VET) & 0xffff);
}

static bool vlan_wanted(const struct e1000e *dev, const uint8_t *data)
{
    if (!(e1000e_get(dev, RCTL) & RCTL_VFE) || !has_vlan_tag(dev, data))
        return true;
    unsigned id = get16(data + TYPE_AT + 2) & VLAN_ID_MASK;
    return e1000e_get(dev, VFTA + 4 * (id >> 5)) & 1u << (id & 31);
}

/* ---- the frame ---- */

/* IEEE 802.3, 3.2.9 */
static uint32_t frame_check_sequence(const uint8_t *data, size_t length)
{
    uint32_t crc = ~0u;

    for (size_t i = 0; i < length; i++) {
        crc ^= data[i];
        for (unsigned bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
    }
    return ~crc;
}

/* What of the checksums the hardware would have found right, 7.1.9. */
static uint8_t checksum_status(const struct e1000e *dev, const struct rx_frame *rx, bool valid)
{
    uint32_t rxcsum = e1000e_get(dev, RXCSUM);
    const uint8_t *ip = rx->data + IP_AT;
    unsigned protocol;
    uint8_t status = 0;

    if (!valid)
        return RX_IXSM;
    switch (get16(rx->data + TYPE_AT)) {
    case TYPE_IPV4:
        if (rxcsum & RXCSUM_IPOFLD)
            status |= RX_IPCS;
        if (get16(ip + 6) & 0x3fff) /* a fragment */
            return status;
        protocol = ip[9];
        break;
    case TYPE_IPV6:
        protocol = ip[6];
        break;
    default:
        return RX_IXSM;
    }
    if (rxcsum & RXCSUM_TUOFLD && (protocol == PROTOCOL_TCP || protocol == PROTOCOL_UDP))
        status |= RX_TCPCS;
    return status;
}

/* Copies and prepares; false: the frame is not for the driver. */
static bool prepare(struct e1000e *dev, const struct net_frame *frame, struct rx_frame *rx)
{
    uint32_t rctl = e1000e_get(dev, RCTL);
    uint32_t rxcsum = e1000e_get(dev, RXCSUM);
    size_t limit = rctl & RCTL_LPE ? FRAME_MAX_LONG : FRAME_MAX_SHORT;

    if (frame->length < NET_ETHERNET_HEADER || frame->length + CRC_LENGTH > limit)
        return false;
    rx->length = 0;
    rx->vlan = 0;
    for (unsigned i = 0; i < frame->iov_count; rx->length += frame->iov[i++].iov_len)
        memcpy(rx->data + rx->length, frame->iov[i].iov_base, frame->iov[i].iov_len);
    if (rx->length < FRAME_MIN) {
        memset(rx->data + rx->length, 0, FRAME_MIN - rx->length);
        rx->length = FRAME_MIN;
    }
    if (!address_wanted(dev, rx->data) || !vlan_wanted(dev, rx->data))
        return false;

    uint32_t crc = rctl & RCTL_SECRC ? 0 : frame_check_sequence(rx->data, rx->length);
    bool strip = e1000e_get(dev, CTRL) & CTRL_VME && has_vlan_tag(dev, rx->data);
    if (strip) {
        rx->vlan = (uint16_t)get16(rx->data + TYPE_AT + 2);
        rx->length -= VLAN_TAG_LENGTH;
        memmove(rx->data + TYPE_AT, rx->data + TYPE_AT + VLAN_TAG_LENGTH, rx->length - TYPE_AT);
    }
    rx->status = checksum_status(dev, rx, frame->offload.flags & NET_OFFLOAD_DATA_VALID);
    rx->status |= strip ? RX_VP : 0;
    rx->checksum = 0;
    if (!(rxcsum & RXCSUM_PCSD) && (rxcsum & RXCSUM_PCSS_MASK) < rx->length) {
        unsigned start = rxcsum & RXCSUM_PCSS_MASK;
        rx->checksum = __builtin_bswap16(
            net_checksum_finish(net_checksum_add(0, rx->data + start, rx->length - start)));
    }
    if (!(rctl & RCTL_SECRC)) {
        memcpy(rx->data + rx->length, &crc, CRC_LENGTH);
        rx->length += CRC_LENGTH;
    }
    return true;
}

/* ---- descriptors ---- */

/* What guest memory does not have is lost, as with hardware. */
static void to_guest(struct e1000e *dev, gpa_t gpa, const void *from, size_t length)
{
    int ret = memory_write(dev->memory, gpa, from, length);
    (void)ret;
}

/* The sizes of a descriptor's buffers; returns how many there are. */
static unsigned buffer_sizes(const struct e1000e *dev, bool split, size_t size[SPLIT_BUFFERS])
{
    uint32_t rctl = e1000e_get(dev, RCTL);
    uint32_t psrctl = e1000e_get(dev, PSRCTL);

    if (split) {
        size[0] = (psrctl & 0x7f) * 128;
        for (unsigned i = 1; i < SPLIT_BUFFERS; i++)
            size[i] = (psrctl >> 8 * i & 0x3f) * KIB;
        return SPLIT_BUFFERS;
    }
    size[0] = 2048u >> (rctl >> RCTL_BSIZE_SHIFT & 3);
    if (rctl & RCTL_BSEX && size[0] < 2048)
        size[0] *= 16;
    if (rctl >> RCTL_FLXBUF_SHIFT & 0xf)
        size[0] = (rctl >> RCTL_FLXBUF_SHIFT & 0xf) * KIB;
    return 1;
}

/* Legacy, 7.1.4. */
static void write_back_legacy(struct e1000e *dev, gpa_t at, const struct rx_frame *rx,
                              size_t length, uint8_t status)
{
    uint8_t back[8];

    pci_set16(back, 0, (uint16_t)length);
    pci_set16(back, 2, rx->checksum);
    back[4] = status & (uint8_t)~RX_DD;
    back[5] = 0;
    pci_set16(back, 6, rx->vlan);
    to_guest(dev, at + 8, back, sizeof(back));
    e1000e_store_status(dev, at + 12, status);
}

/* Extended, 7.1.5, and split, 7.1.6: the length is that of the first buffer. */
static void write_back_extended(struct e1000e *dev, gpa_t at, const struct rx_frame *rx,
                                const size_t length[SPLIT_BUFFERS], bool split, uint8_t status)
{
    uint8_t back[SPLIT_DESCRIPTOR] = {0};

    pci_set16(back, 6, rx->checksum);
    pci_set16(back, 12, (uint16_t)length[0]);
    pci_set16(back, 14, rx->vlan);
    for (unsigned i = 1; split && i < SPLIT_BUFFERS; i++)
        pci_set16(back, 16 + 2 * i, (uint16_t)length[i]);
    back[8] = status & (uint8_t)~RX_DD;
    to_guest(dev, at, back, split ? SPLIT_DESCRIPTOR : E1000E_DESCRIPTOR);
    e1000e_store_status(dev, at + 8, status);
}

/* False: there are too few descriptors now. */
static bool deliver(struct e1000e *dev, const struct rx_frame *rx)
{
    bool extended = e1000e_get(dev, RFCTL) & RFCTL_EXSTEN;
    bool split = extended && e1000e_get(dev, RCTL) & RCTL_DTYP_SPLIT;
    size_t size[SPLIT_BUFFERS], each = 0;
    unsigned buffers = buffer_sizes(dev, split, size);
    unsigned stride = split ? SPLIT_DESCRIPTOR : E1000E_DESCRIPTOR;
    uint32_t count = e1000e_get(dev, RDLEN) / stride;
    uint32_t head = e1000e_get(dev, RDH), tail = e1000e_get(dev, RDT);
    gpa_t base = (gpa_t)e1000e_get(dev, RDBAH) << 32 | e1000e_get(dev, RDBAL);

    if (head >= count || tail >= count)
        return false;
    for (unsigned i = 0; i < buffers; i++)
        each += size[i];
    uint32_t available = (tail + count - head) % count;
    size_t needed = each ? (rx->length + each - 1) / each : count;
    if (needed >= count)
        return true; /* no ring of this size will ever hold it */
    if (needed > available)
        return false;

    for (size_t done = 0; done < rx->length; head = (head + 1) % count) {
        gpa_t at = base + (gpa_t)head * stride;
        uint8_t address[8 * SPLIT_BUFFERS] = {0};
        size_t length[SPLIT_BUFFERS] = {0};
        int ret = memory_read(dev->memory, at, address, 8 * buffers);
        (void)ret; /* nothing there: what address 0 holds is the driver's loss */
        for (unsigned i = 0; i < buffers && done < rx->length; i++) {
            gpa_t to = pci_get32(address, 8 * i) | (gpa_t)pci_get32(address, 8 * i + 4) << 32;
            length[i] = rx->length - done < size[i] ? rx->length - done : size[i];
            to_guest(dev, to, rx->data + done, length[i]);
            done += length[i];
        }
        uint8_t status = RX_DD | (done == rx->length ? RX_EOP | rx->status : 0);
        if (extended)
            write_back_extended(dev, at, rx, length, split, status);
        else
            write_back_legacy(dev, at, rx, length[0], status);
    }
    e1000e_set(dev, RDH, head);

    /* 10.2.5.1, RDMTS: the share of the ring that is little. */
    unsigned least = count >> (1 + (e1000e_get(dev, RCTL) >> RCTL_RDMTS_SHIFT & 3));
    if (available - needed <= least)
        e1000e_set(dev, ICR, e1000e_get(dev, ICR) | CAUSE_RXDMT0);
    return true;
}

static void count_frame(struct e1000e *dev, const uint8_t *mac, size_t length)
{
    e1000e_count(dev, TPR);
    e1000e_count(dev, GPRC);
    e1000e_count64(dev, TORL, length + CRC_LENGTH);
    e1000e_count64(dev, GORCL, length + CRC_LENGTH);
    if (mac[0] == 0xff)
        e1000e_count(dev, BPRC);
    else if (mac[0] & 1)
        e1000e_count(dev, MPRC);
}

unsigned e1000e_receive(void *opaque, const struct net_frame *frames, unsigned count)
{
    struct e1000e *dev = opaque;
    struct rx_frame rx;
    unsigned taken = 0;
    uint32_t causes = 0;

    pthread_mutex_lock(&dev->lock);
    for (; taken < count && !dev->paused; taken++) {
        /* Nobody listens: lost, as on a wire. */
        if (!(e1000e_get(dev, RCTL) & RCTL_EN) || !e1000e_may_access(dev) ||
            !prepare(dev, &frames[taken], &rx))
            continue;
        if (!deliver(dev, &rx))
            break;
        count_frame(dev, rx.data, frames[taken].length);
        causes = CAUSE_RXT0 | CAUSE_RXQ0;
    }
    if (causes)
        e1000e_raise(dev, causes);
    pthread_mutex_unlock(&dev->lock);
    return taken;
}
