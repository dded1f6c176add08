/*
 * The transmit side of the 82574L: legacy and extended descriptors, checksum insertion, TCP
 * segmentation. Datasheet 7.2; see e1000e_internal.h.
 *
 * The worker takes one frame after the other, from the descriptor at TDH to the one with EOP, so
 * that TDH only ever stands between frames. Segmentation is left to the backend: a frame that the
 * driver wants cut is completed as one large one (length, header checksum) and says how to cut it.
 */
#include "dev/net/e1000e_internal.h"

#include <string.h>

#include "net/checksum.h"

/* Commands in byte 11 of a descriptor, 7.2.10 */
enum tx_command {
    TX_EOP = 1 << 0,
    TX_IC = 1 << 2,  /* legacy: insert a checksum */
    TX_TSE = 1 << 2, /* extended: cut into segments */
    TX_RS = 1 << 3,
    TX_DEXT = 1 << 5,
    TX_VLE = 1 << 6,
};

enum tx_type { TX_TYPE_CONTEXT = 0, TX_TYPE_DATA = 1 };
enum tx_options { TX_IXSM = 1 << 0, TX_TXSM = 1 << 1 }; /* POPTS, 7.2.11.4 */
enum tx_context_command { TUCMD_TCP = 1 << 0, TUCMD_IPV4 = 1 << 1 };

#define STATUS_AT 12
#define DESCRIPTOR_DONE 1
#define VLAN_AT 12
#define VLAN_TAG_LENGTH 4
#define IPV4_HEADER 20
#define IPV6_HEADER 40
#define IPV4_LENGTH_AT 2
#define IPV6_LENGTH_AT 4
#define IP_LENGTH_MAX 65535

/* One frame as the descriptors describe it. */
struct tx_frame {
    size_t length;
    bool oversized; /* and therefore dropped */
    bool first;     /* the next data descriptor is the first */
    uint8_t options;
    uint8_t command; /* of the last descriptor */
    bool segment;
    bool legacy_checksum;
    uint8_t css, cso;
    uint16_t vlan;
    struct e1000e_context context;
    unsigned descriptors;
};

static gpa_t ring_base(const struct e1000e *dev, unsigned queue)
{
    unsigned at = queue * E1000E_QUEUE_STRIDE;

    return (gpa_t)e1000e_get(dev, TDBAH + at) << 32 | e1000e_get(dev, TDBAL + at);
}

/* ---- collecting ---- */

static void read_context(struct e1000e_context *context, const uint8_t *desc)
{
    *context = (struct e1000e_context){
        .ipcss = desc[0],
        .ipcso = desc[1],
        .ipcse = pci_get16(desc, 2),
        .tucss = desc[4],
        .tucso = desc[5],
        .tucse = pci_get16(desc, 6),
        .tucmd = desc[11],
        .hdrlen = desc[13],
        .mss = pci_get16(desc, 14),
    };
}

static void add_data(struct e1000e *dev, struct tx_frame *tx, const uint8_t *desc, size_t length)
{
    gpa_t from = pci_get32(desc, 0) | (gpa_t)pci_get32(desc, 4) << 32;

    /* Room for a tag is left at the end. */
    if (tx->oversized || length > NET_FRAME_MAX - VLAN_TAG_LENGTH - tx->length ||
        memory_read(dev->memory, from, dev->frame + tx->length, length)) {
        tx->oversized = true;
        return;
    }
    tx->length += length;
}

static void take_descriptor(struct e1000e *dev, struct tx_frame *tx, const uint8_t *desc)
{
    uint8_t command = desc[11];
    bool extended = command & TX_DEXT;

    if (extended && desc[10] >> 4 == TX_TYPE_CONTEXT) {
        read_context(&tx->context, desc);
        return;
    }
    tx->command = command;
    tx->vlan = pci_get16(desc, 14);
    if (extended) {
        if (tx->first) {
            tx->options = desc[13];
            tx->segment = command & TX_TSE;
        }
        add_data(dev, tx, desc, pci_get32(desc, 8) & 0xfffff);
    } else {
        if (command & TX_IC) {
            tx->legacy_checksum = true;
            tx->cso = desc[10];
            tx->css = desc[13];
        }
        add_data(dev, tx, desc, pci_get16(desc, 8));
    }
    tx->first = false;
}

/* False: there is no whole frame. */
static bool collect(struct e1000e *dev, unsigned queue, struct tx_frame *tx)
{
    unsigned at = queue * E1000E_QUEUE_STRIDE;
    uint32_t count = e1000e_get(dev, TDLEN + at) / E1000E_DESCRIPTOR;
    uint32_t head = e1000e_get(dev, TDH + at), tail = e1000e_get(dev, TDT + at);
    uint8_t desc[E1000E_DESCRIPTOR];

    if (head >= count || tail >= count)
        return false;
    *tx = (struct tx_frame){.first = true, .context = dev->context[queue]};
    for (; head != tail; head = (head + 1) % count) {
        if (memory_read(dev->memory, ring_base(dev, queue) + head * sizeof(desc), desc,
                        sizeof(desc)))
            return false;
        take_descriptor(dev, tx, desc);
        tx->descriptors++;
        if (!tx->first && tx->command & TX_EOP)
            return true;
    }
    return false;
}

/* ---- what the hardware does to the frame ---- */

static void put16(uint8_t *bytes, unsigned value)
{
    bytes[0] = (uint8_t)(value >> 8);
    bytes[1] = (uint8_t)value;
}

/* The sum of [start, end] (0: to the end of the frame) goes to `at`. */
static void insert_checksum(uint8_t *frame, size_t length, unsigned start, unsigned at,
                            unsigned end)
{
    size_t stop = end && end + 1u < length ? end + 1u : length;

    if (start >= stop || at + 2u > length)
        return;
    put16(frame + at, net_checksum_finish(net_checksum_add(0, frame + start, stop - start)));
}

/* 7.2.4: fills in what the driver leaves to each segment. False: the context makes no sense. */
static bool prepare_segmentation(uint8_t *frame, const struct tx_frame *tx,
                                 struct net_offload *offload)
{
    const struct e1000e_context *c = &tx->context;
    bool ipv4 = c->tucmd & TUCMD_IPV4;
    size_t ip_length = tx->length - c->ipcss - (ipv4 ? 0 : IPV6_HEADER);

    if (!c->mss || !(c->tucmd & TUCMD_TCP) || c->hdrlen > tx->length || c->tucso < c->tucss ||
        c->tucso + 2u > tx->length ||
        c->ipcss + (ipv4 ? IPV4_HEADER : IPV6_HEADER) > (int)c->tucss || ip_length > IP_LENGTH_MAX)
        return false;
    put16(frame + c->ipcss + (ipv4 ? IPV4_LENGTH_AT : IPV6_LENGTH_AT), (unsigned)ip_length);
    /* The driver's sum of the pseudo header has no length in it. */
    uint32_t sum = net_checksum_add((uint32_t)(tx->length - c->tucss), frame + c->tucso, 2);
    put16(frame + c->tucso, (uint16_t)~net_checksum_finish(sum));
    *offload = (struct net_offload){
        .flags = NET_OFFLOAD_NEEDS_CSUM,
        .gso_type = ipv4 ? NET_GSO_TCPV4 : NET_GSO_TCPV6,
        .hdr_len = c->hdrlen,
        .gso_size = c->mss,
        .csum_start = c->tucss,
        .csum_offset = (uint16_t)(c->tucso - c->tucss),
    };
    return true;
}

/* Applies what the descriptors ask for; false: nothing is to be sent. */
static bool finish(struct e1000e *dev, struct tx_frame *tx, struct net_offload *offload)
{
    const struct e1000e_context *c = &tx->context;
    bool cut = tx->segment && tx->length > (size_t)c->hdrlen + c->mss;
    uint8_t *frame = dev->frame;

    if (tx->oversized || tx->length < NET_ETHERNET_HEADER)
        return false;
    if (tx->segment && !prepare_segmentation(frame, tx, offload))
        return false;
    if (tx->segment && !cut) {
        /* One segment is an ordinary frame. */
        offload->gso_type = NET_GSO_NONE;
        offload->gso_size = 0;
    }
    if (tx->options & TX_IXSM) {
        if (c->ipcso + 2u <= tx->length)
            put16(frame + c->ipcso, 0);
        insert_checksum(frame, tx->length, c->ipcss, c->ipcso, c->ipcse);
    }
    if (tx->options & TX_TXSM && !tx->segment)
        insert_checksum(frame, tx->length, c->tucss, c->tucso, c->tucse);
    if (tx->legacy_checksum)
        insert_checksum(frame, tx->length, tx->css, tx->cso, 0);
    if (tx->command & TX_VLE && e1000e_get(dev, CTRL) & CTRL_VME) {
        memmove(frame + VLAN_AT + VLAN_TAG_LENGTH, frame + VLAN_AT, tx->length - VLAN_AT);
        put16(frame + VLAN_AT, e1000e_get(dev, VET) & 0xffff);
        put16(frame + VLAN_AT + 2, tx->vlan);
        tx->length += VLAN_TAG_LENGTH;
        offload->csum_start += VLAN_TAG_LENGTH;
    }
    return true;
}

/* ---- giving back ---- */

static void complete(struct e1000e *dev, unsigned queue, const struct tx_frame *tx)
{
    unsigned at = queue * E1000E_QUEUE_STRIDE;
    uint32_t count = e1000e_get(dev, TDLEN + at) / E1000E_DESCRIPTOR;
    uint32_t head = e1000e_get(dev, TDH + at);
    uint32_t causes = 0;
    uint8_t command;

    dev->context[queue] = tx->context;
    for (unsigned i = 0; i < tx->descriptors; i++, head = (head + 1) % count) {
        gpa_t desc = ring_base(dev, queue) + head * E1000E_DESCRIPTOR;
        if (memory_read(dev->memory, desc + 11, &command, 1) || !(command & TX_RS))
            continue;
        e1000e_store_status(dev, desc + STATUS_AT, DESCRIPTOR_DONE);
        causes |= CAUSE_TXDW | CAUSE_TXQ0 << queue;
    }
    e1000e_set(dev, TDH + at, head);
    if (head == e1000e_get(dev, TDT + at))
        causes |= CAUSE_TXQE;
    if (causes)
        e1000e_raise(dev, causes);
}

static void count_frame(struct e1000e *dev, const struct tx_frame *tx)
{
    e1000e_count(dev, TPT);
    e1000e_count(dev, GPTC);
    e1000e_count64(dev, TOTL, tx->length + 4);
    e1000e_count64(dev, GOTCL, tx->length + 4);
    if (tx->segment)
        e1000e_count(dev, TSCTC);
}

/* ---- the worker ---- */

static bool may_send(struct e1000e *dev)
{
    return !dev->paused && !dev->quit && e1000e_get(dev, TCTL) & TCTL_EN && e1000e_may_access(dev);
}

/* Sends one frame; false: none is there, or the backend has no room. */
static bool send_one(struct e1000e *dev, unsigned queue)
{
    struct net_offload offload = {0};
    struct tx_frame tx;

    if (!may_send(dev) || !collect(dev, queue, &tx))
        return false;
    if (finish(dev, &tx, &offload)) {
        struct iovec iov = {dev->frame, tx.length};
        struct net_frame frame = {&iov, 1, tx.length, offload};
        unsigned epoch = dev->epoch;
        pthread_mutex_unlock(&dev->lock);
        bool sent = net_send(dev->backend, &frame, 1) == 1;
        pthread_mutex_lock(&dev->lock);
        if (epoch != dev->epoch)
            return true;
        if (!sent)
            return false;
        count_frame(dev, &tx);
    }
    complete(dev, queue, &tx);
    return true;
}

void *e1000e_tx_main(void *opaque)
{
    struct e1000e *dev = opaque;

    pthread_mutex_lock(&dev->lock);
    while (!dev->quit) {
        if (!dev->kicked || dev->paused) {
            pthread_cond_wait(&dev->worker_wake, &dev->lock);
            continue;
        }
        dev->kicked = false;
        dev->busy = true;
        for (unsigned queue = 0; queue < E1000E_QUEUES; queue++)
            while (send_one(dev, queue))
                ;
        dev->busy = false;
        pthread_cond_broadcast(&dev->worker_idle);
    }
    pthread_mutex_unlock(&dev->lock);
    return NULL;
}

void e1000e_tx_kick(struct e1000e *dev)
{
    dev->kicked = true;
    pthread_cond_signal(&dev->worker_wake);
}
