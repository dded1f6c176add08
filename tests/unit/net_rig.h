/*
 * A network backend for tests of cards: keeps the latest frames that the card sent, and hands the
 * card frames on the test's own thread.
 */
#ifndef SILL_TESTS_UNIT_NET_RIG_H
#define SILL_TESTS_UNIT_NET_RIG_H

#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "net/net.h"

#define FAKE_FRAMES 8
#define FAKE_FRAME_MAX NET_FRAME_MAX
#define FAKE_WAIT_MS 10000

struct fake_net {
    struct net_backend backend;
    pthread_mutex_t lock;
    unsigned room; /* frames that it takes before it is full */
    unsigned count;
    size_t length[FAKE_FRAMES];
    struct net_offload offload[FAKE_FRAMES];
    uint8_t frame[FAKE_FRAMES][FAKE_FRAME_MAX];
    atomic_uint ready;   /* calls of net_receive_ready() */
    atomic_uint accepts; /* of the latest net_accept() */
    bool closed;
};

static inline struct fake_net *fake_of(struct net_backend *backend)
{
    return CONTAINER_OF(backend, struct fake_net, backend);
}

static inline int fake_start(struct net_backend *backend, struct error *err)
{
    return 0;
}

static inline unsigned fake_send(struct net_backend *backend, const struct net_frame *frames,
                                 unsigned count)
{
    struct fake_net *fake = fake_of(backend);
    unsigned taken = 0;

    pthread_mutex_lock(&fake->lock);
    for (; taken < count && fake->room; taken++, fake->room--) {
        unsigned slot = fake->count++ % FAKE_FRAMES;
        fake->length[slot] = 0;
        fake->offload[slot] = frames[taken].offload;
        for (unsigned i = 0; i < frames[taken].iov_count; i++) {
            const struct iovec *iov = &frames[taken].iov[i];
            memcpy(fake->frame[slot] + fake->length[slot], iov->iov_base, iov->iov_len);
            fake->length[slot] += iov->iov_len;
        }
    }
    pthread_mutex_unlock(&fake->lock);
    return taken;
}

static inline void fake_receive_ready(struct net_backend *backend)
{
    fake_of(backend)->ready++;
}

static inline void fake_accept(struct net_backend *backend, unsigned accepts)
{
    fake_of(backend)->accepts = accepts;
}

static inline void fake_close(struct net_backend *backend)
{
    fake_of(backend)->closed = true;
}

static inline void fake_init(struct fake_net *fake)
{
    static const struct net_backend_ops ops = {
        .start = fake_start,
        .send = fake_send,
        .receive_ready = fake_receive_ready,
        .accept = fake_accept,
        .close = fake_close,
    };

    memset(fake, 0, sizeof(*fake));
    fake->backend.ops = &ops;
    fake->room = ~0u;
    pthread_mutex_init(&fake->lock, NULL);
}

/* How many frames have been sent; waits until there are `count`. */
static inline unsigned fake_wait_sent(struct fake_net *fake, unsigned count)
{
    unsigned sent = 0;

    for (unsigned ms = 0; ms < FAKE_WAIT_MS; ms++) {
        pthread_mutex_lock(&fake->lock);
        sent = fake->count;
        pthread_mutex_unlock(&fake->lock);
        if (sent >= count)
            break;
        usleep(1000);
    }
    return sent;
}

static inline void fake_set_room(struct fake_net *fake, unsigned room)
{
    pthread_mutex_lock(&fake->lock);
    fake->room = room;
    pthread_mutex_unlock(&fake->lock);
}

/* A frame of `length` bytes for the card: to `to`, then a counting pattern. */
static inline unsigned fake_deliver_offload(struct fake_net *fake, const uint8_t *to, size_t length,
                                            struct net_offload offload)
{
    static uint8_t data[NET_FRAME_MAX];
    /* In two pieces, so that cards do not rely on one. */
    struct iovec iov[2] = {{data, 7}, {data + 7, length - 7}};
    struct net_frame frame = {
        .iov = iov,
        .iov_count = 2,
        .length = length,
        .offload = offload,
    };

    for (size_t i = 0; i < length; i++)
        data[i] = (uint8_t)i;
    memcpy(data, to, NET_MAC_LENGTH);
    return fake->backend.card->receive(fake->backend.card_opaque, &frame, 1);
}

static inline unsigned fake_deliver(struct fake_net *fake, const uint8_t *to, size_t length)
{
    return fake_deliver_offload(fake, to, length,
                                (struct net_offload){.flags = NET_OFFLOAD_DATA_VALID});
}

#endif
