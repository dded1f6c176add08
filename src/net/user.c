/*
 * User-mode networking: libslirp (API of version 4.7) plays a router with DHCP, DNS, TFTP and NAT,
 * whose outside are ordinary sockets of this process. It needs no privilege.
 *
 *     .2 the router, .3 the name server, .15 and up what DHCP gives; IPv6: fec0::/64 likewise
 *
 * libslirp is not thread-safe: but for opening and closing, one thread calls it, and sleeps in
 * poll() on its sockets and on an eventfd. Frames from the card wait in `outgoing` until that
 * thread has them; frames that the card has no room for wait in `incoming`.
 *
 *     card: net_send() -> outgoing -> thread: slirp_input()
 *     thread: send_packet() -> incoming -> card->receive()
 *
 * libslirp takes IP packets of up to 64 KiB, so what a card has not segmented stays in one piece.
 */
#include "net/user.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <slirp/libslirp.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "net/checksum.h"
#include "net/frame_ring.h"

#define RING_SIZE (1 * MIB)
#define BATCH 64 /* frames that are taken from, or offered to, the card at once */
#define POLL_GROWTH 32
#define WAKE_SLOT 0 /* the eventfd's place in `poll` */

enum host_number { HOST_ROUTER = 2, HOST_NAME_SERVER = 3, HOST_FIRST_GUEST = 15 };

/* A timer of libslirp's; it has few (router advertisements), so they are a list. */
struct user_timer {
    struct user_timer *next;
    SlirpTimerCb fire;
    void *opaque;
    int64_t deadline; /* ms; negative: not armed */
};

struct net_user {
    struct net_backend backend;
    Slirp *slirp;
    pthread_t thread;
    bool thread_exists;
    int wake; /* eventfd */
    _Atomic bool quit;
    _Atomic bool card_ready; /* net_receive_ready() was called */

    pthread_mutex_t lock; /* outgoing and card_waits */
    struct frame_ring outgoing;
    bool card_waits; /* for writable() */

    /* The thread's own. */
    struct frame_ring incoming;
    bool stalled; /* the card took less than it was offered */
    struct user_timer *timers;
    struct pollfd *poll;
    unsigned poll_count, poll_size;
};

static void wake_thread(struct net_user *user)
{
    uint64_t one = 1;
    /* Fails only when the counter is full, and then the thread is awake anyway. */
    ssize_t written = write(user->wake, &one, sizeof(one));

    (void)written;
}

/* ---- the card's calls ---- */

static unsigned user_send(struct net_backend *backend, const struct net_frame *frames,
                          unsigned count)
{
    struct net_user *user = CONTAINER_OF(backend, struct net_user, backend);
    unsigned taken = 0;

    pthread_mutex_lock(&user->lock);
    bool sleeps = frame_ring_empty(&user->outgoing);
    while (taken < count && frame_ring_put(&user->outgoing, &frames[taken]))
        taken++;
    user->card_waits |= taken < count;
    pthread_mutex_unlock(&user->lock);
    if (sleeps && taken)
        wake_thread(user);
    return taken;
}

static void user_receive_ready(struct net_backend *backend)
{
    struct net_user *user = CONTAINER_OF(backend, struct net_user, backend);

    if (!atomic_exchange(&user->card_ready, true))
        wake_thread(user);
}

/* ---- libslirp's calls, on the thread (or in slirp_new() and slirp_cleanup()) ---- */

static int64_t user_clock_ns(void *opaque)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static int64_t now_ms(void)
{
    return user_clock_ns(NULL) / 1000000;
}

static ssize_t user_packet(const void *data, size_t length, void *opaque)
{
    struct net_user *user = opaque;
    struct iovec iov = {(void *)data, length};
    const struct net_frame frame = {
        .iov = &iov,
        .iov_count = 1,
        .length = length,
        .offload = {.flags = NET_OFFLOAD_DATA_VALID},
    };

    /* What does not fit is lost; TCP sends it again. */
    (void)frame_ring_put(&user->incoming, &frame);
    return (ssize_t)length;
}

static void user_guest_error(const char *message, void *opaque)
{
    log_guest("net", "%s", message);
}

static void *user_timer_new(SlirpTimerCb fire, void *fire_opaque, void *opaque)
{
    struct net_user *user = opaque;
    struct user_timer *timer = malloc(sizeof(*timer));

    if (timer) {
        *timer = (struct user_timer){user->timers, fire, fire_opaque, -1};
        user->timers = timer;
    }
    return timer;
}

static void user_timer_free(void *timer, void *opaque)
{
    struct net_user *user = opaque;

    for (struct user_timer **at = &user->timers; *at; at = &(*at)->next) {
        if (*at == timer) {
            *at = (*at)->next;
            free(timer);
            return;
        }
    }
}

static void user_timer_mod(void *opaque_timer, int64_t deadline, void *opaque)
{
    struct user_timer *timer = opaque_timer;

    if (timer)
        timer->deadline = deadline;
}

/* The set of descriptors is made anew before each poll(), and the thread makes its own wishes. */
static void user_poll_fd(int fd, void *opaque)
{
}

static void user_notify(void *opaque)
{
}

static const SlirpCb callbacks = {
    .send_packet = user_packet,
    .guest_error = user_guest_error,
    .clock_get_ns = user_clock_ns,
    .timer_new = user_timer_new,
    .timer_free = user_timer_free,
    .timer_mod = user_timer_mod,
    .register_poll_fd = user_poll_fd,
    .unregister_poll_fd = user_poll_fd,
    .notify = user_notify,
};

/* libslirp's poll bits and the system's. */
static const struct {
    int slirp;
    short host;
} poll_bits[] = {
    {SLIRP_POLL_IN, POLLIN},   {SLIRP_POLL_OUT, POLLOUT}, {SLIRP_POLL_PRI, POLLPRI},
    {SLIRP_POLL_ERR, POLLERR}, {SLIRP_POLL_HUP, POLLHUP},
};

static int user_add_poll(int fd, int events, void *opaque)
{
    struct net_user *user = opaque;
    short wanted = 0;

    if (user->poll_count == user->poll_size) {
        unsigned size = user->poll_size + POLL_GROWTH;
        struct pollfd *grown = realloc(user->poll, size * sizeof(*grown));
        if (!grown)
            return -1;
        user->poll = grown;
        user->poll_size = size;
    }
    for (size_t i = 0; i < ARRAY_SIZE(poll_bits); i++)
        wanted |= events & poll_bits[i].slirp ? poll_bits[i].host : 0;
    user->poll[user->poll_count] = (struct pollfd){.fd = fd, .events = wanted};
    return (int)user->poll_count++;
}

static int user_poll_events(int index, void *opaque)
{
    const struct net_user *user = opaque;
    int events = 0;

    for (size_t i = 0; index >= 0 && i < ARRAY_SIZE(poll_bits); i++)
        events |= user->poll[index].revents & poll_bits[i].host ? poll_bits[i].slirp : 0;
    return events;
}

/* ---- the thread ---- */

/* Not more than a batch, so that a guest which sends without end does not keep its answers away.
 * Returns whether there is more. */
static bool take_outgoing(struct net_user *user)
{
    const struct net_card_ops *card = user->backend.card;
    struct net_frame frame;
    struct iovec iov;
    unsigned taken = 0;

    pthread_mutex_lock(&user->lock);
    while (taken++ < BATCH && frame_ring_peek(&user->outgoing, &frame, &iov, 1)) {
        pthread_mutex_unlock(&user->lock);
        net_checksum_complete(iov.iov_base, iov.iov_len, &frame.offload);
        slirp_input(user->slirp, iov.iov_base, (int)iov.iov_len);
        pthread_mutex_lock(&user->lock);
        frame_ring_take(&user->outgoing);
    }
    bool more = !frame_ring_empty(&user->outgoing);
    bool tell = user->card_waits;
    user->card_waits = false;
    pthread_mutex_unlock(&user->lock);
    if (tell)
        card->writable(user->backend.card_opaque);
    return more;
}

static void give_incoming(struct net_user *user)
{
    const struct net_card_ops *card = user->backend.card;
    struct net_frame frame[BATCH];
    struct iovec iov[BATCH];
    unsigned count;

    if (atomic_exchange(&user->card_ready, false))
        user->stalled = false;
    while (!user->stalled && (count = frame_ring_peek(&user->incoming, frame, iov, BATCH))) {
        unsigned taken = card->receive(user->backend.card_opaque, frame, count);
        for (unsigned i = 0; i < taken; i++)
            frame_ring_take(&user->incoming);
        user->stalled = taken < count && !atomic_exchange(&user->card_ready, false);
    }
}

static void fire_timers(struct net_user *user)
{
    int64_t now = now_ms();

    for (struct user_timer *timer = user->timers; timer; timer = timer->next) {
        if (timer->deadline < 0 || timer->deadline > now)
            continue;
        timer->deadline = -1;
        timer->fire(timer->opaque);
    }
}

static uint32_t nearest_timer(const struct net_user *user, uint32_t timeout)
{
    int64_t now = now_ms();

    for (const struct user_timer *timer = user->timers; timer; timer = timer->next) {
        int64_t left = timer->deadline < now ? 0 : timer->deadline - now;
        if (timer->deadline >= 0 && left < timeout)
            timeout = (uint32_t)left;
    }
    return timeout;
}

/* Waits up to `timeout` ms. */
static void wait_for_events(struct net_user *user, uint32_t timeout)
{

    user->poll_count = WAKE_SLOT + 1;
    slirp_pollfds_fill(user->slirp, &timeout, user_add_poll, user);
    user->poll[WAKE_SLOT] = (struct pollfd){.fd = user->wake, .events = POLLIN};
    int count = poll(user->poll, user->poll_count, (int)nearest_timer(user, timeout));
    if (count > 0 && user->poll[WAKE_SLOT].revents) {
        uint64_t value;
        ssize_t got = read(user->wake, &value, sizeof(value));
        (void)got;
    }
    slirp_pollfds_poll(user->slirp, count < 0, user_poll_events, user);
}

static void *user_main(void *opaque)
{
    struct net_user *user = opaque;
    bool more = false;

    while (!atomic_load(&user->quit)) {
        wait_for_events(user, more ? 0 : INT32_MAX);
        fire_timers(user);
        more = take_outgoing(user);
        give_incoming(user);
    }
    return NULL;
}

/* ---- life ---- */

static int user_start(struct net_backend *backend, struct error *err)
{
    struct net_user *user = CONTAINER_OF(backend, struct net_user, backend);
    sigset_t all, before;

    /* Signals are for the control and vCPU threads; SIGPIPE of a closed connection is for none. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int ret = pthread_create(&user->thread, NULL, user_main, user);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (ret)
        return error_set(err, -ret, "no thread for the network: %s", strerror(ret));
    pthread_setname_np(user->thread, "net-user");
    user->thread_exists = true;
    return 0;
}

static void user_close(struct net_backend *backend)
{
    struct net_user *user = CONTAINER_OF(backend, struct net_user, backend);

    if (user->thread_exists) {
        atomic_store(&user->quit, true);
        wake_thread(user);
        pthread_join(user->thread, NULL);
    }
    if (user->slirp)
        slirp_cleanup(user->slirp);
    if (user->wake >= 0)
        close(user->wake);
    while (user->timers)
        user_timer_free(user->timers, user);
    frame_ring_done(&user->incoming);
    frame_ring_done(&user->outgoing);
    pthread_mutex_destroy(&user->lock);
    free(user->poll);
    free(user);
}

static const struct net_backend_ops user_ops = {
    .start = user_start,
    .send = user_send,
    .receive_ready = user_receive_ready,
    .close = user_close,
};

static struct in_addr address(uint32_t number)
{
    return (struct in_addr){.s_addr = htonl(number)};
}

static int add_forward(struct net_user *user, const struct net_options *options,
                       const struct net_forward *forward, struct error *err)
{
    struct in_addr host = address(forward->host_address);
    struct in_addr guest = address(forward->guest_address ? forward->guest_address
                                                          : options->network + HOST_FIRST_GUEST);
    char text[INET_ADDRSTRLEN];

    if (!slirp_add_hostfwd(user->slirp, forward->udp, host, forward->host_port, guest,
                           forward->guest_port))
        return 0;
    int code = errno ? errno : EINVAL;
    inet_ntop(AF_INET, &host, text, sizeof(text));
    return error_set(err, -code, "hostfwd: %s port %u of %s cannot be listened on: %s",
                     forward->udp ? "UDP" : "TCP", forward->host_port, text,
                     code == EADDRINUSE ? "another program has it; choose another port"
                                        : strerror(code));
}

static int create_slirp(struct net_user *user, const struct net_options *options, struct error *err)
{
    struct stat status;
    SlirpConfig config = {
        .version = 1,
        .restricted = options->restricted,
        .in_enabled = true,
        .vnetwork = address(options->network),
        .vnetmask = address(~0u << (32 - options->prefix)),
        .vhost = address(options->network + HOST_ROUTER),
        .vnameserver = address(options->network + HOST_NAME_SERVER),
        .vdhcp_start = address(options->network + HOST_FIRST_GUEST),
        .in6_enabled = true,
        .vprefix_len = 64,
        .vhostname = options->hostname[0] ? options->hostname : NULL,
        .tftp_path = options->tftp[0] ? options->tftp : NULL,
        .bootfile = options->bootfile[0] ? options->bootfile : NULL,
    };

    if (options->tftp[0] && (stat(options->tftp, &status) || !S_ISDIR(status.st_mode)))
        return error_set(err, -ENOTDIR, "tftp=%s is not a folder that can be read", options->tftp);
    inet_pton(AF_INET6, "fec0::", &config.vprefix_addr6);
    inet_pton(AF_INET6, "fec0::2", &config.vhost6);
    inet_pton(AF_INET6, "fec0::3", &config.vnameserver6);
    user->slirp = slirp_new(&config, &callbacks, user);
    if (!user->slirp)
        return error_set(err, -ENOMEM, "the user-mode network cannot be created");
    for (unsigned i = 0; i < options->forward_count; i++) {
        int ret = add_forward(user, options, &options->forward[i], err);
        if (ret)
            return ret;
    }
    return 0;
}

int net_user_open(struct net_backend **out, const struct net_options *options, struct error *err)
{
    struct net_user *user = calloc(1, sizeof(*user));

    if (!user)
        return error_set(err, -ENOMEM, "no memory for the network");
    user->backend.ops = &user_ops;
    pthread_mutex_init(&user->lock, NULL);
    user->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    user->poll = calloc(POLL_GROWTH, sizeof(*user->poll));
    user->poll_size = POLL_GROWTH;
    int ret = 0;
    if (user->wake < 0)
        ret = error_set(err, -errno, "no event for the network: %s", strerror(errno));
    else if (!user->poll || frame_ring_init(&user->outgoing, RING_SIZE) ||
             frame_ring_init(&user->incoming, RING_SIZE))
        ret = error_set(err, -ENOMEM, "no memory for the network");
    else
        ret = create_slirp(user, options, err);
    if (ret) {
        user_close(&user->backend);
        return ret;
    }
    *out = &user->backend;
    return 0;
}
