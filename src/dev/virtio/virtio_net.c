/*
 * The virtio network device: one pair of queues and the control queue. VIRTIO 1.2, section 5.1.
 *
 * Frames from outside are written into the driver's buffers on the backend's thread; the receive
 * queue's worker only says that there are new buffers. The transmit queue's worker hands each frame
 * to the backend, which copies it, so nothing outlives serve(). A frame for which the backend has
 * no room goes back into the queue.
 *
 * Locks: `receive_lock` keeps the backend's thread and whoever stops the queue or changes the
 * filter apart; queue locks (virtio.h) are taken inside it.
 */
#include "dev/virtio/virtio_net.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define QUEUE_SIZE 256
#define NET_CLASS 0x020000

/* 5.1.2, without multiqueue */
enum net_queue { QUEUE_RECEIVE, QUEUE_TRANSMIT, QUEUE_CONTROL, QUEUE_COUNT };

/* Feature bits, 5.1.3 */
#define NET_F_CSUM (1ull << 0)
#define NET_F_GUEST_CSUM (1ull << 1)
#define NET_F_MAC (1ull << 5)
#define NET_F_GUEST_TSO4 (1ull << 7)
#define NET_F_GUEST_TSO6 (1ull << 8)
#define NET_F_HOST_TSO4 (1ull << 11)
#define NET_F_HOST_TSO6 (1ull << 12)
#define NET_F_MRG_RXBUF (1ull << 15)
#define NET_F_STATUS (1ull << 16)
#define NET_F_CTRL_VQ (1ull << 17)
#define NET_F_CTRL_RX (1ull << 18)
#define NET_F_CTRL_VLAN (1ull << 19)
#define NET_F_CTRL_RX_EXTRA (1ull << 20)
#define NET_F_GUEST_ANNOUNCE (1ull << 21)
#define NET_F_CTRL_MAC_ADDR (1ull << 23)

#define NET_FEATURES                                                                               \
    (NET_F_CSUM | NET_F_GUEST_CSUM | NET_F_MAC | NET_F_GUEST_TSO4 | NET_F_GUEST_TSO6 |             \
     NET_F_HOST_TSO4 | NET_F_HOST_TSO6 | NET_F_MRG_RXBUF | NET_F_STATUS | NET_F_CTRL_VQ |          \
     NET_F_CTRL_RX | NET_F_CTRL_VLAN | NET_F_CTRL_RX_EXTRA | NET_F_GUEST_ANNOUNCE |                \
     NET_F_CTRL_MAC_ADDR)

/* struct virtio_net_config, 5.1.4 */
struct net_config {
    uint8_t mac[NET_MAC_LENGTH];
    uint16_t status;
};

enum net_status { STATUS_LINK_UP = 1, STATUS_ANNOUNCE = 2 };

/* struct virtio_net_hdr, 5.1.6 */
struct net_header {
    struct net_offload offload;
    uint16_t num_buffers;
};

_Static_assert(sizeof(struct net_header) == 12, "header layout");

/* The control queue, 5.1.6.5 */
enum control_class { CONTROL_RX = 0, CONTROL_MAC = 1, CONTROL_VLAN = 2, CONTROL_ANNOUNCE = 3 };
enum control_mac { MAC_TABLE_SET = 0, MAC_ADDR_SET = 1 };
enum control_vlan { VLAN_ADD = 0, VLAN_DEL = 1 };
enum control_announce { ANNOUNCE_ACK = 0 };
enum control_ack { ACK_OK = 0, ACK_ERROR = 1 };

/* CONTROL_RX commands are indices into this, 5.1.6.5.1 */
enum rx_mode {
    RX_PROMISC,
    RX_ALL_MULTICAST,
    RX_ALL_UNICAST,
    RX_NO_MULTICAST,
    RX_NO_UNICAST,
    RX_NO_BROADCAST,
    RX_MODE_COUNT
};

#define MAC_TABLE_MAX 64
#define VLAN_COUNT 4096

struct mac_table {
    uint8_t count;
    bool overflow; /* the driver gave more than fit: all pass */
    uint8_t mac[MAC_TABLE_MAX * NET_MAC_LENGTH];
};

struct virtio_net {
    struct virtio_pci virtio;
    struct net_backend *backend;
    struct net_config config; /* vdev's control lock; mac also receive_lock */
    uint8_t permanent_mac[NET_MAC_LENGTH];
    _Atomic bool paused;
    _Atomic unsigned accepted; /* enum net_accepts, as the backend was told */
    bool announce;             /* restored: ask the driver to announce itself; control thread */

    pthread_mutex_t receive_lock;
    uint8_t rx_mode[RX_MODE_COUNT]; /* 0 or 1 */
    struct mac_table unicast;
    struct mac_table multicast;
    uint8_t vlan[VLAN_COUNT / 8];
};

static struct virtio_net *of_vdev(struct virtio_device *vdev)
{
    return CONTAINER_OF(vdev, struct virtio_net, virtio.vdev);
}

static struct virtio_net *of_device(struct device *dev)
{
    return CONTAINER_OF(dev, struct virtio_net, virtio.pci.dev);
}

/* ---- which frames the driver wants; receive_lock is held ---- */

#define HEADER_LOOKED_AT (NET_ETHERNET_HEADER + 2) /* up to the VLAN tag */
#define ETHERTYPE_AT 12
#define ETHERTYPE_VLAN 0x8100
#define VLAN_ID_MASK 0xfff

static bool table_has(const struct mac_table *table, const uint8_t *mac)
{
    for (unsigned i = 0; i < table->count; i++) {
        if (!memcmp(table->mac + i * NET_MAC_LENGTH, mac, NET_MAC_LENGTH))
            return true;
    }
    return table->overflow;
}

static bool vlan_wanted(const struct virtio_net *net, const uint8_t *head)
{
    if (!virtio_has_feature(&net->virtio.vdev, NET_F_CTRL_VLAN) ||
        (head[ETHERTYPE_AT] << 8 | head[ETHERTYPE_AT + 1]) != ETHERTYPE_VLAN)
        return true;
    unsigned id = (head[ETHERTYPE_AT + 2] << 8 | head[ETHERTYPE_AT + 3]) & VLAN_ID_MASK;
    return net->vlan[id / 8] & 1u << id % 8;
}

static bool frame_wanted(const struct virtio_net *net, const struct net_frame *frame)
{
    static const uint8_t broadcast[NET_MAC_LENGTH] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
    uint8_t head[HEADER_LOOKED_AT] = {0};
    size_t have = 0;

    for (unsigned i = 0; i < frame->iov_count && have < sizeof(head); i++) {
        size_t piece = frame->iov[i].iov_len;
        if (piece > sizeof(head) - have)
            piece = sizeof(head) - have;
        memcpy(head + have, frame->iov[i].iov_base, piece);
        have += piece;
    }
    if (have < NET_ETHERNET_HEADER)
        return false;
    if (net->rx_mode[RX_PROMISC])
        return true;
    if (!vlan_wanted(net, head))
        return false;
    if (!memcmp(head, broadcast, NET_MAC_LENGTH))
        return !net->rx_mode[RX_NO_BROADCAST];
    if (head[0] & 1)
        return !net->rx_mode[RX_NO_MULTICAST] &&
               (net->rx_mode[RX_ALL_MULTICAST] || table_has(&net->multicast, head));
    return !net->rx_mode[RX_NO_UNICAST] &&
           (net->rx_mode[RX_ALL_UNICAST] || !memcmp(head, net->config.mac, NET_MAC_LENGTH) ||
            table_has(&net->unicast, head));
}

/* ---- receiving: the backend's thread, receive_lock is held ---- */

/* Copies [from, from + length) of the frame to `offset` of the buffer. */
static void copy_part(const struct virtq_chain *chain, size_t offset, const struct net_frame *frame,
                      size_t from, size_t length)
{
    for (unsigned i = 0; i < frame->iov_count && length; i++) {
        const struct iovec *iov = &frame->iov[i];
        if (from >= iov->iov_len) {
            from -= iov->iov_len;
            continue;
        }
        size_t piece = iov->iov_len - from < length ? iov->iov_len - from : length;
        virtq_chain_write(chain, offset, (const uint8_t *)iov->iov_base + from, piece);
        offset += piece;
        length -= piece;
        from = 0;
    }
}

/* What of enum net_accepts the driver has negotiated. A segmented frame's checksums are unfinished,
 * so the one takes the other: 5.1.3.1. */
static unsigned driver_accepts(const struct virtio_device *vdev)
{
    unsigned accepts = 0;

    if (!virtio_has_feature(vdev, NET_F_GUEST_CSUM))
        return 0;
    accepts |= NET_ACCEPTS_CSUM;
    accepts |= virtio_has_feature(vdev, NET_F_GUEST_TSO4) ? NET_ACCEPTS_TSO4 : 0;
    accepts |= virtio_has_feature(vdev, NET_F_GUEST_TSO6) ? NET_ACCEPTS_TSO6 : 0;
    return accepts;
}

/* Can the driver finish the frame? The backend may still have some that were for the one before. */
static bool can_finish(const struct virtio_device *vdev, const struct net_offload *offload)
{
    unsigned needs = offload->flags & NET_OFFLOAD_NEEDS_CSUM ? NET_ACCEPTS_CSUM : 0;

    switch (offload->gso_type) {
    case NET_GSO_NONE:
        break;
    case NET_GSO_TCPV4:
        needs |= NET_ACCEPTS_TSO4;
        break;
    case NET_GSO_TCPV6:
        needs |= NET_ACCEPTS_TSO6;
        break;
    default:
        return false;
    }
    return !(needs & ~driver_accepts(vdev));
}

enum receive_result { RECEIVED, NO_BUFFER };

/* 5.1.6.4: with NET_F_MRG_RXBUF a frame goes over as many buffers as it needs, and all of them
 * appear together. Without, a frame that does not fit into one is lost. */
static enum receive_result receive_one(struct virtio_net *net, struct virtio_queue *queue,
                                       const struct net_frame *frame)
{
    bool mergeable = virtio_has_feature(queue->vdev, NET_F_MRG_RXBUF);
    struct net_header header = {.num_buffers = 0};
    struct virtq_chain first, next;
    size_t done = 0;

    if (!can_finish(queue->vdev, &frame->offload))
        return RECEIVED; /* it is lost */
    if (virtio_has_feature(queue->vdev, NET_F_GUEST_CSUM))
        header.offload = frame->offload;
    while (!header.num_buffers || done < frame->length) {
        struct virtq_chain *chain = header.num_buffers ? &next : &first;
        size_t skip = header.num_buffers ? 0 : sizeof(header);
        if (!virtio_queue_pop(queue, chain)) {
            virtio_queue_retract(queue);
            return NO_BUFFER;
        }
        size_t room = chain->writable_length;
        if (room <= skip || (!mergeable && room - skip < frame->length)) {
            /* The frame is lost, the buffer is not. */
            virtio_queue_unpop(queue);
            virtio_queue_retract(queue);
            if (room <= skip)
                virtio_queue_break(queue, "a receive buffer without room for a frame");
            return RECEIVED;
        }
        size_t piece = room - skip < frame->length - done ? room - skip : frame->length - done;
        copy_part(chain, skip, frame, done, piece);
        header.num_buffers++;
        done += piece;
        if (!skip || done == frame->length)
            virtq_chain_write(&first, 0, &header, sizeof(header));
        virtio_queue_put(queue, chain, (uint32_t)(skip + piece));
    }
    virtio_queue_publish(queue);
    return RECEIVED;
}

static unsigned net_receive(void *opaque, const struct net_frame *frames, unsigned count)
{
    struct virtio_net *net = opaque;
    struct virtio_queue *queue = &net->virtio.vdev.queue[QUEUE_RECEIVE];
    unsigned taken = 0;

    pthread_mutex_lock(&net->receive_lock);
    while (taken < count && !net->paused) {
        /* Nobody listens: lost, as on a wire. */
        if (queue->runs && frame_wanted(net, &frames[taken]) &&
            receive_one(net, queue, &frames[taken]) == NO_BUFFER)
            break;
        taken++;
    }
    if (taken)
        virtio_queue_interrupt(queue);
    pthread_mutex_unlock(&net->receive_lock);
    return taken;
}

/* ---- sending: the transmit queue's worker ---- */

/* False: the backend has no room. What is no frame at all is dropped. */
static bool send_one(struct virtio_net *net, const struct virtq_chain *chain)
{
    struct iovec iov[VIRTQ_MAX_SEGMENTS];
    struct net_header header;
    size_t length = chain->readable_length;

    if (virtq_chain_read(chain, 0, &header, sizeof(header)) < sizeof(header))
        return true;
    length -= sizeof(header);
    if (length < NET_ETHERNET_HEADER || length > NET_FRAME_MAX)
        return true;
    header.offload.flags &= NET_OFFLOAD_NEEDS_CSUM;
    const struct net_frame frame = {
        .iov = iov,
        .iov_count = virtq_chain_iov(chain, false, sizeof(header), length, iov),
        .length = length,
        .offload = header.offload,
    };
    return net_send(net->backend, &frame, 1) == 1;
}

static void serve_transmit(struct virtio_net *net, struct virtio_queue *queue)
{
    struct virtq_chain chain;

    while (virtio_queue_pop(queue, &chain)) {
        if (!send_one(net, &chain)) {
            virtio_queue_unpop(queue);
            return;
        }
        virtio_queue_push(queue, &chain, 0);
    }
}

static void net_writable(void *opaque)
{
    struct virtio_net *net = opaque;

    virtio_queue_kick(&net->virtio.vdev.queue[QUEUE_TRANSMIT]);
}

static const struct net_card_ops net_card = {
    .receive = net_receive,
    .writable = net_writable,
};

/* ---- the control queue's worker; receive_lock is held ---- */

#define COMMAND_HEADER 2 /* class and command */

static bool set_rx_mode(struct virtio_net *net, const struct virtq_chain *chain, uint8_t command)
{
    uint8_t on;

    if (command >= RX_MODE_COUNT || virtq_chain_read(chain, COMMAND_HEADER, &on, 1) != 1 || on > 1)
        return false;
    net->rx_mode[command] = on;
    return true;
}

/* Reads one table at *offset and moves behind it. */
static bool read_table(const struct virtq_chain *chain, size_t *offset, struct mac_table *table)
{
    uint32_t count;

    if (virtq_chain_read(chain, *offset, &count, sizeof(count)) != sizeof(count))
        return false;
    *offset += sizeof(count);
    if (count > (chain->readable_length - *offset) / NET_MAC_LENGTH)
        return false;
    table->overflow = count > MAC_TABLE_MAX;
    table->count = table->overflow ? 0 : (uint8_t)count;
    virtq_chain_read(chain, *offset, table->mac, table->count * NET_MAC_LENGTH);
    *offset += (size_t)count * NET_MAC_LENGTH;
    return true;
}

static bool set_mac(struct virtio_net *net, const struct virtq_chain *chain, uint8_t command)
{
    struct mac_table unicast = {0}, multicast = {0};
    uint8_t mac[NET_MAC_LENGTH];
    size_t offset = COMMAND_HEADER;

    switch (command) {
    case MAC_TABLE_SET:
        if (!read_table(chain, &offset, &unicast) || !read_table(chain, &offset, &multicast))
            return false;
        net->unicast = unicast;
        net->multicast = multicast;
        return true;
    case MAC_ADDR_SET:
        if (virtq_chain_read(chain, offset, mac, sizeof(mac)) != sizeof(mac))
            return false;
        memcpy(net->config.mac, mac, sizeof(mac));
        return true;
    default:
        return false;
    }
}

static bool set_vlan(struct virtio_net *net, const struct virtq_chain *chain, uint8_t command)
{
    uint16_t id;

    if (virtq_chain_read(chain, COMMAND_HEADER, &id, sizeof(id)) != sizeof(id) || id >= VLAN_COUNT)
        return false;
    uint8_t bit = (uint8_t)(1u << id % 8);
    switch (command) {
    case VLAN_ADD:
        net->vlan[id / 8] |= bit;
        return true;
    case VLAN_DEL:
        net->vlan[id / 8] &= (uint8_t)~bit;
        return true;
    default:
        return false;
    }
}

static bool control_command(struct virtio_net *net, const struct virtq_chain *chain)
{
    uint8_t head[COMMAND_HEADER];

    if (virtq_chain_read(chain, 0, head, sizeof(head)) != sizeof(head))
        return false;
    switch (head[0]) {
    case CONTROL_RX:
        return set_rx_mode(net, chain, head[1]);
    case CONTROL_MAC:
        return set_mac(net, chain, head[1]);
    case CONTROL_VLAN:
        return set_vlan(net, chain, head[1]);
    case CONTROL_ANNOUNCE:
        net->config.status &= (uint16_t)~STATUS_ANNOUNCE;
        return head[1] == ANNOUNCE_ACK;
    default:
        return false;
    }
}

static void serve_control(struct virtio_net *net, struct virtio_queue *queue)
{
    struct virtq_chain chain;

    while (virtio_queue_pop(queue, &chain)) {
        pthread_mutex_lock(&net->receive_lock);
        uint8_t ack = control_command(net, &chain) ? ACK_OK : ACK_ERROR;
        pthread_mutex_unlock(&net->receive_lock);
        virtio_queue_push(queue, &chain, (uint32_t)virtq_chain_write(&chain, 0, &ack, 1));
    }
}

/* ---- the device ---- */

static void tell_backend(struct virtio_net *net, unsigned accepts)
{
    if (atomic_exchange(&net->accepted, accepts) != accepts)
        net_accept(net->backend, accepts);
}

static void net_serve(struct virtio_queue *queue)
{
    struct virtio_net *net = of_vdev(queue->vdev);

    switch (queue->index) {
    case QUEUE_RECEIVE:
        tell_backend(net, driver_accepts(queue->vdev));
        net_receive_ready(net->backend);
        break;
    case QUEUE_TRANSMIT:
        serve_transmit(net, queue);
        break;
    case QUEUE_CONTROL:
        serve_control(net, queue);
        break;
    }
}

/* The queue no longer runs; when the lock has been had, the backend's thread has seen that. */
static void net_drain(struct virtio_queue *queue)
{
    struct virtio_net *net = of_vdev(queue->vdev);

    if (queue->index != QUEUE_RECEIVE)
        return;
    pthread_mutex_lock(&net->receive_lock);
    pthread_mutex_unlock(&net->receive_lock);
}

static void net_reset(struct virtio_device *vdev)
{
    struct virtio_net *net = of_vdev(vdev);

    pthread_mutex_lock(&net->receive_lock);
    memcpy(net->config.mac, net->permanent_mac, NET_MAC_LENGTH);
    net->config.status = STATUS_LINK_UP;
    memset(net->rx_mode, 0, sizeof(net->rx_mode));
    net->rx_mode[RX_PROMISC] = 1; /* for drivers that know no filters */
    memset(&net->unicast, 0, sizeof(net->unicast));
    memset(&net->multicast, 0, sizeof(net->multicast));
    memset(net->vlan, 0, sizeof(net->vlan));
    pthread_mutex_unlock(&net->receive_lock);
    tell_backend(net, 0);
    /* What waited for the buffers of a driver that is gone can be dropped now. */
    net_receive_ready(net->backend);
}

static const struct virtio_device_ops net_virtio_ops = {
    .serve = net_serve,
    .drain = net_drain,
    .reset = net_reset,
};

static void net_resume(struct device *dev)
{
    struct virtio_net *net = of_device(dev);
    struct virtio_device *vdev = &net->virtio.vdev;

    virtio_pci_resume(dev);
    net->paused = false;
    net_receive_ready(net->backend);
    if (net->announce && virtio_has_feature(vdev, NET_F_GUEST_ANNOUNCE)) {
        pthread_mutex_lock(&net->receive_lock);
        net->config.status |= STATUS_ANNOUNCE;
        pthread_mutex_unlock(&net->receive_lock);
        virtio_config_changed(vdev);
    }
    net->announce = false;
}

static int net_start(struct device *dev, struct error *err)
{
    net_resume(dev);
    return 0;
}

static void net_pause(struct device *dev)
{
    of_device(dev)->paused = true;
    virtio_pci_pause(dev);
}

static void net_free(struct virtio_net *net)
{
    virtio_pci_done(&net->virtio);
    pthread_mutex_destroy(&net->receive_lock);
    free(net);
}

static void net_destroy(struct device *dev)
{
    struct virtio_net *net = of_device(dev);

    net_pause(dev);
    net_close(net->backend);
    net_free(net);
}

static bool table_possible(const struct mac_table *table)
{
    return table->count <= MAC_TABLE_MAX;
}

static int net_post_load(void *object, struct error *err)
{
    struct virtio_net *net = object;

    if (!table_possible(&net->unicast) || !table_possible(&net->multicast))
        return error_set(err, -EBADMSG, "%s: the saved state has more than %d addresses",
                         net->virtio.pci.dev.name, MAC_TABLE_MAX);
    net->announce = true;
    return virtio_pci_post_load(&net->virtio, err);
}

static const struct state_field config_fields[] = {
    STATE_BYTES(struct net_config, mac),
    STATE_INT(struct net_config, status),
    STATE_END,
};

static const struct state_field table_fields[] = {
    STATE_INT(struct mac_table, count),
    STATE_BOOL(struct mac_table, overflow),
    STATE_BYTES(struct mac_table, mac),
    STATE_END,
};

static const struct state_field net_fields[] = {
    STATE_STRUCT(struct virtio_net, virtio, virtio_pci_fields),
    STATE_STRUCT(struct virtio_net, config, config_fields),
    STATE_BYTES(struct virtio_net, rx_mode),
    STATE_STRUCT(struct virtio_net, unicast, table_fields),
    STATE_STRUCT(struct virtio_net, multicast, table_fields),
    STATE_BYTES(struct virtio_net, vlan),
    STATE_END,
};

static const struct state_desc net_state = {
    .name = "virtio-net",
    .version = 1,
    .fields = net_fields,
    .post_load = net_post_load,
};

static const struct device_ops net_ops = {
    .type = "virtio-net",
    .start = net_start,
    .pause = net_pause,
    .resume = net_resume,
    .reset = virtio_pci_reset,
    .destroy = net_destroy,
    .state = &net_state,
};

int virtio_net_new(struct device **out, const struct virtio_net_config *config,
                   struct net_backend *backend, struct error *err)
{
    struct virtio_net *net = calloc(1, sizeof(*net));

    if (!net)
        return error_set(err, -ENOMEM, "%s: no memory for the device", config->pci.name);
    struct virtio_device *vdev = &net->virtio.vdev;
    net->backend = backend;
    net->paused = true;
    memcpy(net->permanent_mac, config->mac, NET_MAC_LENGTH);
    pthread_mutex_init(&net->receive_lock, NULL);
    virtio_init(vdev, VIRTIO_TYPE_NET, config->pci.name, &net_virtio_ops, NET_FEATURES, QUEUE_COUNT,
                QUEUE_SIZE, config->pci.bus->memory);
    vdev->config = &net->config;
    vdev->config_size = sizeof(net->config);
    net_reset(vdev);
    int ret = virtio_pci_attach(&net->virtio, &config->pci, NET_CLASS, &net_ops, err);
    if (!ret && config->rom)
        ret = pci_add_rom_file(&net->virtio.pci, config->rom, config->rom_package, err);
    if (!ret)
        ret = net_attach(backend, &net_card, net, err);
    if (ret) {
        net_free(net);
        return ret;
    }
    *out = &net->virtio.pci.dev;
    return 0;
}
