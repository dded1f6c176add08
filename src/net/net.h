/*
 * Between a network card and what it is plugged into (the backend: user-mode network, tap).
 *
 * Frames are Ethernet frames without preamble and FCS. A frame may be larger than the link's MTU
 * and its checksum unfinished, when `offload` says what to do with it, in the terms of VIRTIO 1.2,
 * 5.1.6 (struct virtio_net_hdr). Every backend takes such frames; it hands them out only to a card
 * that asked for them with net_accept(), and a little longer when it no longer does.
 *
 * Threads. The card calls net_send() and net_receive_ready() from any thread, one net_send() at a
 * time, and holds no lock in net_send() that its own receive() or writable() takes. The backend
 * calls the struct net_card_ops on its own thread, one at a time, holding no lock.
 *
 * Back pressure. Either side may take fewer frames than it is offered and keeps none of the rest.
 * The card then waits for writable(), the backend for net_receive_ready(); what does not fit into
 * the backend's own bounded buffer meanwhile is lost, as on a wire.
 *
 * The link is up for as long as the backend is open.
 *
 * Pause. A paused card takes no frame, sends none, and calls net_receive_ready() when it goes on.
 * The backend does not know of it: the world outside goes on.
 */
#ifndef SILL_NET_NET_H
#define SILL_NET_NET_H

#include <sys/uio.h>

#include "base/error.h"
#include "base/types.h"

#define NET_MAC_LENGTH 6
#define NET_ETHERNET_HEADER 14
/* What one IP packet can be, and the Ethernet header with two VLAN tags. */
#define NET_FRAME_MAX (65535 + NET_ETHERNET_HEADER + 8)

/* struct virtio_net_hdr without num_buffers, as it is in guest memory; also what tap devices use.
 */
struct net_offload {
    uint8_t flags;        /* enum net_offload_flags */
    uint8_t gso_type;     /* enum net_gso */
    uint16_t hdr_len;     /* a hint only */
    uint16_t gso_size;    /* payload of each segment that the frame stands for */
    uint16_t csum_start;  /* the sum goes from here to the end of the frame, */
    uint16_t csum_offset; /* and to this place behind csum_start */
};

enum net_offload_flags {
    NET_OFFLOAD_NEEDS_CSUM = 1, /* the field at csum_offset holds the pseudo header's sum only */
    NET_OFFLOAD_DATA_VALID = 2, /* the checksums are known to be right */
};

enum net_gso {
    NET_GSO_NONE = 0,
    NET_GSO_TCPV4 = 1,
    NET_GSO_TCPV6 = 4,
    NET_GSO_ECN = 0x80, /* with one of the above */
};

/* What the driver behind a card can do with frames that it receives. */
enum net_accepts {
    NET_ACCEPTS_CSUM = 1, /* NET_OFFLOAD_NEEDS_CSUM */
    NET_ACCEPTS_TSO4 = 2, /* NET_GSO_TCPV4 */
    NET_ACCEPTS_TSO6 = 4,
};

struct net_frame {
    const struct iovec *iov;
    unsigned iov_count;
    size_t length; /* sum of iov, up to NET_FRAME_MAX */
    struct net_offload offload;
};

/* What the backend asks of the card. */
struct net_card_ops {
    /* Takes frames, copying them; returns how many. */
    unsigned (*receive)(void *opaque, const struct net_frame *frames, unsigned count);
    /* There is room again after a net_send() that was cut short. */
    void (*writable)(void *opaque);
};

struct net_backend;

struct net_backend_ops {
    /* The card is there: start the backend's thread. Once. */
    int (*start)(struct net_backend *backend, struct error *err);
    unsigned (*send)(struct net_backend *backend, const struct net_frame *frames, unsigned count);
    void (*receive_ready)(struct net_backend *backend);
    /* A set of enum net_accepts; none at first. NULL: all frames are finished anyway. */
    void (*accept)(struct net_backend *backend, unsigned accepts);
    /* Ends the thread, if it was started, and frees everything. */
    void (*close)(struct net_backend *backend);
};

struct net_backend {
    const struct net_backend_ops *ops;
    /* Set by net_attach(). */
    const struct net_card_ops *card;
    void *card_opaque;
};

/* ---- configuration ---- */

enum net_kind { NET_USER, NET_TAP };
enum net_model { NET_MODEL_VIRTIO, NET_MODEL_E1000E };

#define NET_FORWARDS_MAX 32
#define NET_NAME_MAX 64
#define NET_PATH_MAX 1024

/* A port of the host whose connections go to a port of the guest. */
struct net_forward {
    bool udp;
    uint32_t host_address; /* IPv4, most significant byte first in the number; 0: any */
    uint16_t host_port;
    uint32_t guest_address; /* 0: the first address that DHCP gives */
    uint16_t guest_port;
};

/* What `KIND[,key=value]...` says. */
struct net_options {
    enum net_kind kind;
    enum net_model model; /* model=virtio|e1000e: which card the board builds */
    bool has_mac;
    uint8_t mac[NET_MAC_LENGTH]; /* mac=52:54:00:12:34:56; the card's */

    char tap[16]; /* tap=NAME */

    /* user */
    uint32_t network; /* net=10.0.2.0/24 */
    unsigned prefix;
    bool restricted;             /* restrict=on: the guest reaches nothing but what forwards name */
    char hostname[NET_NAME_MAX]; /* hostname=NAME, what DHCP calls the guest */
    char tftp[NET_PATH_MAX];     /* tftp=DIR */
    char bootfile[128];          /* bootfile=NAME, below it, or an address to load from */
    struct net_forward forward[NET_FORWARDS_MAX]; /* hostfwd=tcp:127.0.0.1:8080-:80 */
    unsigned forward_count;
};

/* Parses the command line form; commas in values are written twice. -EINVAL. */
SILL_CHECKED int net_parse_options(struct net_options *options, const char *text,
                                   struct error *err);

/* A locally administered address that is always the same for card `index` of the VM `name`. */
void net_default_mac(uint8_t mac[NET_MAC_LENGTH], const char *name, unsigned index);

/* ---- life: control thread ---- */

/* Opens what the options name; nothing moves yet. Sentences for: an address in use, no such tap
 * device, no permission. */
SILL_CHECKED int net_open(struct net_backend **out, const struct net_options *options,
                          struct error *err);
/* Plugs the card in. From here on its operations may be called. */
SILL_CHECKED int net_attach(struct net_backend *backend, const struct net_card_ops *card,
                            void *opaque, struct error *err);
/* When it returns, no operation of the card runs or will. NULL is fine. */
void net_close(struct net_backend *backend);

/* ---- while it runs: any thread ---- */

/* Copies frames out; returns how many were taken. */
static inline unsigned net_send(struct net_backend *backend, const struct net_frame *frames,
                                unsigned count)
{
    return backend->ops->send(backend, frames, count);
}

/* The card takes frames again. */
static inline void net_receive_ready(struct net_backend *backend)
{
    backend->ops->receive_ready(backend);
}

/* What frames the card takes from now on. */
static inline void net_accept(struct net_backend *backend, unsigned accepts)
{
    if (backend->ops->accept)
        backend->ops->accept(backend, accepts);
}

#endif
