/*
 * A tap device that the host's administrator made (`ip tuntap add NAME mode tap user WHO`) and
 * plugged into a bridge. Linux: Documentation/networking/tuntap.rst, linux/if_tun.h.
 *
 * Each read and write is one frame behind a struct virtio_net_hdr (IFF_VNET_HDR), which is what a
 * net_offload is, so unfinished checksums and large frames go out as they are, and come in so when
 * the card takes them. One thread reads; writes come from the card's threads and never wait: a full
 * device loses frames, as a wire does.
 */
#include "net/tap.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/log.h"

#define IOV_MAX_FRAME 1024 /* what the kernel takes in one call */

struct net_tap {
    struct net_backend backend;
    int fd;
    int wake; /* eventfd: the card has room, or the end */
    pthread_t thread;
    bool thread_exists;
    _Atomic bool quit;
    uint8_t frame[sizeof(struct net_offload) + NET_FRAME_MAX]; /* the thread's */
};

static void wake_thread(struct net_tap *tap)
{
    uint64_t one = 1;
    ssize_t written = write(tap->wake, &one, sizeof(one));

    (void)written;
}

static unsigned tap_send(struct net_backend *backend, const struct net_frame *frames,
                         unsigned count)
{
    struct net_tap *tap = CONTAINER_OF(backend, struct net_tap, backend);
    struct iovec iov[IOV_MAX_FRAME];

    for (unsigned i = 0; i < count; i++) {
        struct net_offload offload = frames[i].offload;
        if (frames[i].iov_count >= IOV_MAX_FRAME)
            continue;
        iov[0] = (struct iovec){&offload, sizeof(offload)};
        memcpy(iov + 1, frames[i].iov, frames[i].iov_count * sizeof(*iov));
        ssize_t written = writev(tap->fd, iov, (int)frames[i].iov_count + 1);
        (void)written;
    }
    return count;
}

static void tap_receive_ready(struct net_backend *backend)
{
    wake_thread(CONTAINER_OF(backend, struct net_tap, backend));
}

static void tap_accept(struct net_backend *backend, unsigned accepts)
{
    static const struct {
        unsigned accepts;
        unsigned long flag;
    } flags[] = {
        {NET_ACCEPTS_CSUM, TUN_F_CSUM},
        {NET_ACCEPTS_TSO4, TUN_F_TSO4},
        {NET_ACCEPTS_TSO6, TUN_F_TSO6},
    };
    struct net_tap *tap = CONTAINER_OF(backend, struct net_tap, backend);
    unsigned long offloads = 0;

    for (size_t i = 0; i < ARRAY_SIZE(flags); i++)
        offloads |= accepts & flags[i].accepts ? flags[i].flag : 0;
    if (ioctl(tap->fd, TUNSETOFFLOAD, offloads))
        log_warn("the tap device does not hand out large frames: %s", strerror(errno));
}

/* Hands on what `frame` holds, `length` bytes of it; waits for as long as the card has no room. */
static void deliver(struct net_tap *tap, size_t length)
{
    struct iovec iov = {tap->frame + sizeof(struct net_offload),
                        length - sizeof(struct net_offload)};
    struct net_frame frame = {.iov = &iov, .iov_count = 1, .length = iov.iov_len};
    struct pollfd wake = {.fd = tap->wake, .events = POLLIN};
    uint64_t value;

    memcpy(&frame.offload, tap->frame, sizeof(frame.offload));
    while (!atomic_load(&tap->quit) &&
           !tap->backend.card->receive(tap->backend.card_opaque, &frame, 1)) {
        poll(&wake, 1, -1);
        ssize_t got = read(tap->wake, &value, sizeof(value));
        (void)got;
    }
}

static void *tap_main(void *opaque)
{
    struct net_tap *tap = opaque;
    struct pollfd fds[] = {{.fd = tap->fd, .events = POLLIN}, {.fd = tap->wake, .events = POLLIN}};
    uint64_t value;

    while (!atomic_load(&tap->quit)) {
        ssize_t length = read(tap->fd, tap->frame, sizeof(tap->frame));
        if (length > (ssize_t)sizeof(struct net_offload)) {
            deliver(tap, (size_t)length);
            continue;
        }
        /* The device may have gone down; then only the end is waited for. */
        fds[0].fd = length < 0 && errno != EAGAIN && errno != EINTR ? -1 : tap->fd;
        poll(fds, ARRAY_SIZE(fds), -1);
        if (fds[1].revents) {
            ssize_t got = read(tap->wake, &value, sizeof(value));
            (void)got;
        }
    }
    return NULL;
}

static int tap_start(struct net_backend *backend, struct error *err)
{
    struct net_tap *tap = CONTAINER_OF(backend, struct net_tap, backend);
    sigset_t all, before;

    /* Signals are for the control and vCPU threads. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int ret = pthread_create(&tap->thread, NULL, tap_main, tap);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (ret)
        return error_set(err, -ret, "no thread for the network: %s", strerror(ret));
    pthread_setname_np(tap->thread, "net-tap");
    tap->thread_exists = true;
    return 0;
}

static void tap_close(struct net_backend *backend)
{
    struct net_tap *tap = CONTAINER_OF(backend, struct net_tap, backend);

    if (tap->thread_exists) {
        atomic_store(&tap->quit, true);
        wake_thread(tap);
        pthread_join(tap->thread, NULL);
    }
    if (tap->fd >= 0)
        close(tap->fd);
    if (tap->wake >= 0)
        close(tap->wake);
    free(tap);
}

static const struct net_backend_ops tap_ops = {
    .start = tap_start,
    .send = tap_send,
    .receive_ready = tap_receive_ready,
    .accept = tap_accept,
    .close = tap_close,
};

static int open_device(struct net_tap *tap, const char *name, struct error *err)
{
    struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
    int header = sizeof(struct net_offload);

    tap->fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
    if (tap->fd < 0)
        return error_set(err, -errno, "tap=%s: /dev/net/tun cannot be opened: %s", name,
                         strerror(errno));
    memcpy(request.ifr_name, name, strlen(name)); /* net_parse_options() limits it */
    if (ioctl(tap->fd, TUNSETIFF, &request))
        return error_set(
            err, -errno,
            "tap=%s cannot be used: %s; 'ip tuntap add %s mode tap user WHO' makes one", name,
            strerror(errno), name);
    if (ioctl(tap->fd, TUNSETVNETHDRSZ, &header) || ioctl(tap->fd, TUNSETOFFLOAD, 0))
        return error_set(err, -errno, "tap=%s has no header for offloads: %s", name,
                         strerror(errno));
    return 0;
}

int net_tap_open(struct net_backend **out, const struct net_options *options, struct error *err)
{
    struct net_tap *tap = calloc(1, sizeof(*tap));

    if (!tap)
        return error_set(err, -ENOMEM, "no memory for the network");
    tap->backend.ops = &tap_ops;
    tap->fd = -1;
    tap->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int ret = tap->wake < 0
                  ? error_set(err, -errno, "no event for the network: %s", strerror(errno))
                  : open_device(tap, options->tap, err);
    if (ret) {
        tap_close(&tap->backend);
        return ret;
    }
    *out = &tap->backend;
    return 0;
}
