/* The socket of the GDB stub; see server.h. */
#include "vm/gdb/server.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vm/socket_file.h"

#define INPUT_SIZE 4096

struct gdb_server {
    const struct gdb_target *target;
    enum gdb_arch arch;
    int tcp;                 /* listening socket, or -1 */
    struct socket_file file; /* the other kind */
    char address[128];

    bool in_use; /* by `session`, whose client may be gone already */
    int client;  /* -1: none */
    struct gdb_session session;
    struct gdb_reader reader;
    uint8_t input[INPUT_SIZE]; /* came, but is not taken yet: [taken, received) */
    size_t taken, received;
    char output[GDB_FRAME_SIZE + 1]; /* acknowledgement and reply: [sent, filled) is to go */
    size_t sent, filled, frame;      /* `frame`: where the latest reply starts */
};

/* ---- options ---- */

static int parse_tcp(struct gdb_options *options, char *text, struct error *err)
{
    char *colon = strrchr(text, ':'), *end;
    uint8_t address[sizeof(struct in6_addr)];

    errno = 0;
    unsigned long port = colon ? strtoul(colon + 1, &end, 10) : 0;
    if (!colon || !isdigit((unsigned char)colon[1]) || *end || errno || port > UINT16_MAX)
        return error_set(err, -EINVAL, "'tcp:%s' has no port: write tcp:127.0.0.1:1234", text);
    *colon = '\0';
    size_t length = strlen(text);
    if (text[0] == '[' && text[length - 1] == ']') {
        text[length - 1] = '\0';
        text++;
    }
    if (inet_pton(AF_INET, text, address) != 1 && inet_pton(AF_INET6, text, address) != 1)
        return error_set(err, -EINVAL,
                         "'%s' is no numeric address: 127.0.0.1 lets users of this host alone in",
                         text);
    options->kind = GDB_TCP;
    options->host = text;
    options->port = (uint16_t)port;
    return 0;
}

static int parse_key(struct gdb_options *options, const char *key, struct error *err)
{
    static const struct {
        const char *name;
        enum gdb_arch arch;
    } archs[] = {{"auto", GDB_ARCH_AUTO}, {"i386", GDB_ARCH_I386}, {"x86-64", GDB_ARCH_X86_64}};

    if (!strcmp(key, "wait")) {
        options->wait = true;
        return 0;
    }
    for (size_t i = 0; !strncmp(key, "arch=", 5) && i < ARRAY_SIZE(archs); i++) {
        if (strcmp(key + 5, archs[i].name) != 0)
            continue;
        options->arch = archs[i].arch;
        return 0;
    }
    return error_set(err, -EINVAL, "'%s' is not known: use wait or arch=auto|i386|x86-64", key);
}

int gdb_parse(struct gdb_options *options, char *text, struct error *err)
{
    char *rest = strchr(text, ',');
    int result = 0;

    if (rest)
        *rest++ = '\0';
    *options = (struct gdb_options){.kind = GDB_NONE};
    if (!strncmp(text, "tcp:", 4)) {
        result = parse_tcp(options, text + 4, err);
    } else if (!strncmp(text, "unix:", 5) && text[5]) {
        options->kind = GDB_UNIX;
        options->path = text + 5;
    } else {
        return error_set(err, -EINVAL,
                         "'%s' is no place to listen at: use tcp:ADDRESS:PORT or unix:PATH", text);
    }
    while (!result && rest) {
        char *key = rest;

        rest = strchr(rest, ',');
        if (rest)
            *rest++ = '\0';
        result = parse_key(options, key, err);
    }
    return result;
}

/* ---- listening ---- */

static int listen_tcp(struct gdb_server *server, const struct gdb_options *options,
                      struct error *err)
{
    const struct addrinfo wanted = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE,
                                    .ai_socktype = SOCK_STREAM};
    struct addrinfo *found;
    char port[8];
    int on = 1;

    snprintf(port, sizeof(port), "%u", options->port);
    int result = getaddrinfo(options->host, port, &wanted, &found);
    if (result)
        return error_set(err, -EINVAL, "GDB cannot be waited for at %s: %s", options->host,
                         gai_strerror(result));
    server->tcp = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (server->tcp < 0 || setsockopt(server->tcp, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
        bind(server->tcp, found->ai_addr, found->ai_addrlen) < 0 || listen(server->tcp, 1) < 0) {
        result = error_set(err, -errno, "GDB cannot be waited for at %s port %u: %s", options->host,
                           options->port, strerror(errno));
    }
    freeaddrinfo(found);
    if (result)
        return result;

    struct sockaddr_storage name;
    socklen_t length = sizeof(name);
    char host[64];
    if (getsockname(server->tcp, (struct sockaddr *)&name, &length) < 0 ||
        getnameinfo((struct sockaddr *)&name, length, host, sizeof(host), port, sizeof(port),
                    NI_NUMERICHOST | NI_NUMERICSERV))
        return error_set(err, -EIO, "the socket for GDB has no name");
    snprintf(server->address, sizeof(server->address), strchr(host, ':') ? "[%s]:%s" : "%s:%s",
             host, port);
    return 0;
}

int gdb_server_new(struct gdb_server **out, const struct gdb_options *options,
                   const struct gdb_target *target, struct error *err)
{
    struct gdb_server *server = calloc(1, sizeof(*server));
    int result;

    if (!server)
        return error_set(err, -ENOMEM, "no memory for the GDB stub");
    server->target = target;
    server->arch = options->arch;
    server->tcp = server->file.fd = server->client = -1;
    if (options->kind == GDB_TCP) {
        result = listen_tcp(server, options, err);
    } else {
        result = socket_file_open(&server->file, "GDB socket", options->path, err);
        snprintf(server->address, sizeof(server->address), "%s", options->path);
    }
    if (result) {
        gdb_server_free(server);
        return result;
    }
    *out = server;
    return 0;
}

void gdb_server_free(struct gdb_server *server)
{
    if (!server)
        return;
    if (server->client >= 0)
        close(server->client);
    if (server->tcp >= 0)
        close(server->tcp);
    socket_file_close(&server->file);
    free(server);
}

bool gdb_server_in_use(const struct gdb_server *server)
{
    return server->in_use;
}

const char *gdb_server_address(const struct gdb_server *server)
{
    return server->address;
}

/* ---- the client ---- */

static int listener_of(const struct gdb_server *server)
{
    return server->tcp >= 0 ? server->tcp : server->file.fd;
}

static void lose_client(struct gdb_server *server)
{
    close(server->client);
    server->client = -1;
    server->taken = server->received = 0;
    server->sent = server->filled = 0;
    gdb_session_lost(&server->session);
}

/* A second client is told by the end of its connection that there is one already. */
static void accept_clients(struct gdb_server *server)
{
    int on = 1;

    for (;;) {
        int fd = accept4(listener_of(server), NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

        if (fd < 0)
            return;
        if (server->in_use) {
            close(fd);
            continue;
        }
        /* Not a TCP socket: then there is no delay to be switched off. */
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
        memset(&server->reader, 0, sizeof(server->reader));
        server->taken = server->received = 0;
        server->sent = server->filled = server->frame = 0;
        server->client = fd;
        server->in_use = true;
        gdb_session_begin(&server->session, server->target, server->arch);
    }
}

static void receive(struct gdb_server *server)
{
    if (server->client < 0 || server->taken < server->received)
        return;
    ssize_t got = recv(server->client, server->input, sizeof(server->input), 0);
    if (got > 0) {
        server->taken = 0;
        server->received = (size_t)got;
    } else if (got == 0 || (errno != EAGAIN && errno != EINTR)) {
        lose_client(server);
    }
}

static void transmit(struct gdb_server *server)
{
    while (server->client >= 0 && server->sent < server->filled) {
        ssize_t gone = send(server->client, server->output + server->sent,
                            server->filled - server->sent, MSG_NOSIGNAL);
        if (gone > 0)
            server->sent += (size_t)gone;
        else if (errno == EAGAIN)
            return;
        else if (errno != EINTR)
            lose_client(server);
    }
}

static void put_reply(struct gdb_server *server)
{
    struct gdb_session *s = &server->session;

    if (!s->has_reply)
        return;
    server->frame = server->filled;
    server->filled += gdb_writer_end(&s->reply, server->output + server->filled);
    s->reply.length = 0;
    s->has_reply = false;
}

static void put_acknowledgement(struct gdb_server *server, char what)
{
    if (!server->session.no_acks)
        server->output[server->filled++] = what;
}

static void take_byte(struct gdb_server *server, uint8_t byte)
{
    struct gdb_session *s = &server->session;

    switch (gdb_reader_take(&server->reader, byte)) {
    case GDB_INPUT_PACKET:
        put_acknowledgement(server, '+');
        /* While the guest runs there is nothing to be asked. */
        if (s->state == GDB_STOPPED)
            gdb_session_packet(s, server->reader.data, server->reader.length);
        put_reply(server);
        break;
    case GDB_INPUT_DAMAGED:
        put_acknowledgement(server, '-');
        break;
    case GDB_INPUT_INTERRUPT:
        gdb_session_interrupt(s);
        break;
    case GDB_INPUT_AGAIN:
        if (!s->no_acks)
            server->sent = server->frame;
        break;
    case GDB_INPUT_NONE:
        break;
    }
}

/* Packets are answered one by one: as long as an answer is on its way, the next has to wait. */
static void take_input(struct gdb_server *server)
{
    while (server->client >= 0 && server->taken < server->received &&
           server->session.state != GDB_ARRIVING) {
        transmit(server);
        if (server->client < 0 || server->sent < server->filled)
            return;
        /* The latest reply stays, should the client ask for it again. */
        if (server->reader.state == GDB_SUM_LOW)
            server->sent = server->filled = server->frame = 0;
        take_byte(server, server->input[server->taken++]);
    }
}

void gdb_server_work(struct gdb_server *server)
{
    struct gdb_session *s = &server->session;

    accept_clients(server);
    if (!server->in_use)
        return;
    if (server->target->is_held(server->target->opaque))
        gdb_session_held(s);
    put_reply(server);
    receive(server);
    take_input(server);
    transmit(server);
    if (s->state == GDB_GONE && (server->client < 0 || server->sent == server->filled)) {
        if (server->client >= 0)
            close(server->client);
        server->client = -1;
        server->in_use = false;
    }
}

void gdb_server_poll(const struct gdb_server *server, struct pollfd polls[GDB_SERVER_POLLS])
{
    short events = 0;

    if (server->taken == server->received)
        events |= POLLIN;
    if (server->sent < server->filled)
        events |= POLLOUT;
    polls[0] = (struct pollfd){.fd = listener_of(server), .events = POLLIN};
    polls[1] = (struct pollfd){.fd = server->client, .events = events};
}

void gdb_server_vm_ended(struct gdb_server *server, int status)
{
    if (!server->in_use)
        return;
    gdb_session_vm_ended(&server->session, status);
    if (server->sent == server->filled)
        server->sent = server->filled = 0;
    put_reply(server);
    transmit(server);
}
