/*
 * The console's I/O thread and the writing side of its back ends; see console.h for what each is.
 *
 * Every descriptor that is written to is either non-blocking or asked by poll() first: write() runs
 * on vCPU threads, and a user who does not read must not stop a vCPU. Standard output is shared
 * with other processes, so its own flags stay alone; a private description of the same terminal or
 * pipe is opened instead.
 *
 * Locks: `lock` guards the output descriptor against its replacement (a client comes or goes). It
 * is taken inside the front end's locks and never held while calling the front end.
 */
#include "vm/console.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include "base/log.h"
#include "base/types.h"
#include "vm/escape.h"
#include "vm/socket_file.h"

#define INPUT_CHUNK 512
/* How much goes to a descriptor that may block, once poll() said that there is room: a pipe
 * promises PIPE_BUF, a terminal some hundred bytes. */
#define CAREFUL_CHUNK 128

struct console {
    struct char_backend backend;
    struct console_events events;
    enum console_kind kind;
    struct socket_file socket; /* fd is -1 but for CONSOLE_SOCKET */

    /* I/O thread. */
    int input;     /* -1: none, or at its end */
    bool terminal; /* input is one: the escape key works */
    struct escape escape;
    uint8_t held[INPUT_CHUNK]; /* was read, is not yet taken by the front end */
    size_t held_length;

    pthread_mutex_t lock;
    int output;     /* -1: nobody listens, output is lost */
    bool may_block; /* output has no O_NONBLOCK of its own */
    bool blocked;   /* a write was cut short: tell the front end when there is room */
    bool hung_up;   /* a write failed: output is lost */

    pthread_t thread;
    bool running;
    int wake; /* eventfd: a flag above or below was set, or the front end has room */
    _Atomic bool quit;
    _Atomic bool resized;
};

int console_parse(struct console_target *target, const char *text, struct error *err)
{
    static const struct {
        const char *prefix;
        enum console_kind kind;
    } with_path[] = {{"file:", CONSOLE_FILE}, {"socket:", CONSOLE_SOCKET}};

    if (!strcmp(text, "stdio")) {
        *target = (struct console_target){.kind = CONSOLE_STDIO};
        return 0;
    }
    if (!strcmp(text, "none")) {
        *target = (struct console_target){.kind = CONSOLE_NONE};
        return 0;
    }
    for (size_t i = 0; i < ARRAY_SIZE(with_path); i++) {
        size_t length = strlen(with_path[i].prefix);
        if (strncmp(text, with_path[i].prefix, length) != 0)
            continue;
        if (!text[length])
            return error_set(err, -EINVAL, "'%s' lacks the path after the colon", text);
        *target = (struct console_target){.kind = with_path[i].kind, .path = text + length};
        return 0;
    }
    return error_set(err, -EINVAL, "'%s' is no console: use stdio, file:PATH, socket:PATH or none",
                     text);
}

/* Async-signal-safe. */
static void console_wake(struct console *console)
{
    uint64_t one = 1;
    int saved = errno;
    /* Fails only when the counter is full, and then the thread is awake anyway. */
    ssize_t written = write(console->wake, &one, sizeof(one));
    (void)written;
    errno = saved;
}

/* ---- output ---- */

static ssize_t write_some(const struct console *console, const uint8_t *data, size_t length)
{
    if (console->may_block) {
        struct pollfd room = {.fd = console->output, .events = POLLOUT};
        if (poll(&room, 1, 0) != 1 || !(room.revents & POLLOUT)) {
            errno = room.revents ? EPIPE : EAGAIN;
            return -1;
        }
        if (length > CAREFUL_CHUNK)
            length = CAREFUL_CHUNK;
    }
    if (console->kind == CONSOLE_SOCKET)
        return send(console->output, data, length, MSG_NOSIGNAL);
    return write(console->output, data, length);
}

/* char_backend_ops.write. Output to a reader that is gone is lost, as with a cable pulled out. */
static size_t console_write(void *opaque, const uint8_t *data, size_t length)
{
    struct console *console = opaque;
    size_t done = 0;

    pthread_mutex_lock(&console->lock);
    if (console->output < 0 || console->hung_up)
        done = length;
    while (done < length && !console->blocked) {
        ssize_t count = write_some(console, data + done, length - done);
        if (count >= 0) {
            done += (size_t)count;
        } else if (errno == EAGAIN) {
            console->blocked = true;
            console_wake(console);
        } else if (errno != EINTR) {
            if (console->kind != CONSOLE_SOCKET)
                log_warn("the console's output is lost from here on: %s", strerror(errno));
            console->hung_up = true;
            console_wake(console);
            done = length;
        }
    }
    pthread_mutex_unlock(&console->lock);
    return done;
}

/* char_backend_ops.input_ready */
static void console_input_ready(void *opaque)
{
    console_wake(opaque);
}

static const struct char_backend_ops console_ops = {
    .write = console_write,
    .input_ready = console_input_ready,
};

/* ---- the I/O thread ---- */

static size_t frontend_room(struct console *console)
{
    const struct char_frontend *frontend = console->backend.frontend;
    return frontend ? frontend->can_receive(console->backend.frontend_opaque) : 0;
}

static void tell_writable(struct console *console)
{
    const struct char_frontend *frontend = console->backend.frontend;
    if (frontend && frontend->writable)
        frontend->writable(console->backend.frontend_opaque);
}

static void tell_size(struct console *console)
{
    const struct char_frontend *frontend = console->backend.frontend;
    struct winsize size;

    if (!frontend || !frontend->resized || console->kind != CONSOLE_STDIO)
        return;
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col && size.ws_row)
        frontend->resized(console->backend.frontend_opaque, size.ws_col, size.ws_row);
}

static void accept_client(struct console *console)
{
    int client = accept4(console->socket.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (client < 0)
        return;
    pthread_mutex_lock(&console->lock);
    console->output = client;
    pthread_mutex_unlock(&console->lock);
    console->input = client;
}

static void close_client(struct console *console)
{
    pthread_mutex_lock(&console->lock);
    close(console->output);
    console->output = -1;
    console->blocked = false;
    console->hung_up = false;
    pthread_mutex_unlock(&console->lock);
    console->input = -1;
    /* What the front end could not send goes to nobody now. */
    tell_writable(console);
}

static void output_has_room(struct console *console)
{
    pthread_mutex_lock(&console->lock);
    console->blocked = false;
    pthread_mutex_unlock(&console->lock);
    tell_writable(console);
}

static void deliver_held(struct console *console)
{
    const struct char_frontend *frontend = console->backend.frontend;

    while (console->held_length) {
        size_t room = frontend_room(console);
        size_t length = room < console->held_length ? room : console->held_length;
        if (!length)
            return;
        frontend->receive(console->backend.frontend_opaque, console->held, length);
        console->held_length -= length;
        memmove(console->held, console->held + length, console->held_length);
    }
}

/* Nothing is held when input is no terminal. */
static void read_input(struct console *console)
{
    uint8_t typed[INPUT_CHUNK], meant[INPUT_CHUNK + 1];
    bool leave = false;

    ssize_t count = read(console->input, typed, sizeof(typed));
    if (count < 0 && (errno == EINTR || errno == EAGAIN))
        return;
    if (count <= 0) {
        console->input = -1;
        return;
    }
    size_t length = (size_t)count;
    const uint8_t *data = typed;
    if (console->terminal) {
        length = escape_filter(&console->escape, typed, length, meant, &leave);
        data = meant;
    }
    /* A guest that does not read loses what is typed beyond this, as on any terminal line. */
    size_t free_space = sizeof(console->held) - console->held_length;
    if (length > free_space)
        length = free_space;
    memcpy(console->held + console->held_length, data, length);
    console->held_length += length;
    if (leave && console->events.leave)
        console->events.leave(console->events.opaque);
}

static void take_wake(struct console *console)
{
    uint64_t count;
    ssize_t taken = read(console->wake, &count, sizeof(count));
    (void)taken;
    if (atomic_exchange(&console->resized, false))
        tell_size(console);
}

enum { POLL_WAKE, POLL_OUTPUT, POLL_INPUT, POLL_LISTENER, POLL_COUNT };

/* Fills in what to wait for; poll() skips negative descriptors. */
static void choose_events(struct console *console, struct pollfd fds[POLL_COUNT])
{
    /* A terminal is read even when the guest takes nothing: the escape key must work. */
    bool take_input = console->terminal || !console->held_length;
    bool socket = console->kind == CONSOLE_SOCKET;

    fds[POLL_WAKE] = (struct pollfd){.fd = console->wake, .events = POLLIN};
    fds[POLL_INPUT] = (struct pollfd){.fd = take_input ? console->input : -1, .events = POLLIN};
    pthread_mutex_lock(&console->lock);
    /* A client that will send no more still listens, until it hangs up. */
    bool watch_output = console->blocked || (socket && console->input < 0);
    fds[POLL_OUTPUT] = (struct pollfd){.fd = watch_output ? console->output : -1,
                                       .events = console->blocked ? POLLOUT : 0};
    /* One client at a time; the others wait in the listener's queue. */
    fds[POLL_LISTENER] =
        (struct pollfd){.fd = console->output < 0 ? console->socket.fd : -1, .events = POLLIN};
    pthread_mutex_unlock(&console->lock);
}

static bool client_hung_up(struct console *console, const struct pollfd *output)
{
    pthread_mutex_lock(&console->lock);
    bool hung_up = console->hung_up;
    pthread_mutex_unlock(&console->lock);
    return console->kind == CONSOLE_SOCKET && (hung_up || (output->revents & (POLLHUP | POLLERR)));
}

static void *console_thread(void *opaque)
{
    struct console *console = opaque;
    struct pollfd fds[POLL_COUNT];

    tell_size(console);
    while (!atomic_load(&console->quit)) {
        deliver_held(console);
        choose_events(console, fds);
        if (poll(fds, POLL_COUNT, -1) < 0)
            continue;
        if (fds[POLL_WAKE].revents)
            take_wake(console);
        if (fds[POLL_INPUT].revents)
            read_input(console);
        if (client_hung_up(console, &fds[POLL_OUTPUT]))
            close_client(console);
        else if (fds[POLL_OUTPUT].revents)
            output_has_room(console);
        if (fds[POLL_LISTENER].revents)
            accept_client(console);
    }
    return NULL;
}

/* ---- opening ---- */

/*
 * A description of standard output that is ours alone, so that O_NONBLOCK does not reach whoever
 * shares the original. Only terminals and pipes have that need (and a regular file opened again
 * would start at offset 0); where it is refused, output is careful instead.
 */
static int open_stdio(struct console *console, struct error *err)
{
    struct stat st;
    int fd = -1;

    if (fstat(STDOUT_FILENO, &st) < 0)
        return error_set(err, -EBADF, "standard output is closed: use --console none");
    if (S_ISCHR(st.st_mode) || S_ISFIFO(st.st_mode))
        fd = open("/proc/self/fd/1", O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0) {
        fd = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 0);
        console->may_block = !S_ISREG(st.st_mode);
    }
    if (fd < 0)
        return error_set(err, -errno, "standard output cannot be duplicated: %s", strerror(errno));
    console->output = fd;
    if (fcntl(STDIN_FILENO, F_GETFD) >= 0)
        console->input = STDIN_FILENO;
    console->terminal = isatty(STDIN_FILENO);
    return 0;
}

static int open_file(struct console *console, const char *path, struct error *err)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0666);
    if (fd < 0)
        return error_set(err, -errno, "cannot write the console to '%s': %s", path,
                         errno == ENXIO ? "it is a pipe that nobody reads" : strerror(errno));
    console->output = fd;
    return 0;
}

int console_new(struct console **out, const struct console_target *target,
                const struct console_events *events, struct error *err)
{
    int result = 0;
    struct console *console = calloc(1, sizeof(*console));
    if (!console)
        return error_set(err, -ENOMEM, "no memory for the console");
    *console = (struct console){
        .backend = {.ops = &console_ops, .opaque = console},
        .events = *events,
        .kind = target->kind,
        .socket = {.fd = -1},
        .input = -1,
        .output = -1,
        .wake = -1,
    };
    pthread_mutex_init(&console->lock, NULL);

    console->wake = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (console->wake < 0) {
        result = error_set(err, -errno, "no event descriptor for the console: %s", strerror(errno));
        goto fail;
    }
    switch (target->kind) {
    case CONSOLE_NONE:
        break;
    case CONSOLE_STDIO:
        result = open_stdio(console, err);
        break;
    case CONSOLE_FILE:
        result = open_file(console, target->path, err);
        break;
    case CONSOLE_SOCKET:
        result = socket_file_open(&console->socket, "console socket", target->path, err);
        break;
    }
    if (result)
        goto fail;
    *out = console;
    return 0;

fail:
    console_free(console);
    return result;
}

void console_free(struct console *console)
{
    if (!console)
        return;
    socket_file_close(&console->socket);
    if (console->output >= 0)
        close(console->output);
    if (console->wake >= 0)
        close(console->wake);
    pthread_mutex_destroy(&console->lock);
    free(console);
}

struct char_backend *console_backend(struct console *console)
{
    return console->kind == CONSOLE_NONE ? NULL : &console->backend;
}

int console_start(struct console *console, struct error *err)
{
    if (console->kind == CONSOLE_NONE)
        return 0;
    atomic_store(&console->quit, false);
    int result = pthread_create(&console->thread, NULL, console_thread, console);
    if (result)
        return error_set(err, -result, "no thread for the console: %s", strerror(result));
    console->running = true;
    return 0;
}

void console_stop(struct console *console)
{
    if (!console->running)
        return;
    atomic_store(&console->quit, true);
    console_wake(console);
    pthread_join(console->thread, NULL);
    console->running = false;
}

void console_resized(struct console *console)
{
    atomic_store(&console->resized, true);
    console_wake(console);
}
