/* Clients and lines of the control socket; see server.h. */
#include "vm/control/server.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "vm/control/commands.h"
#include "vm/socket_file.h"

#define LINE_MAX_LENGTH 16384
/* Answers that a client has not read yet; it gets no more before it has. */
#define OUTPUT_MAX (256 * 1024)

struct client {
    int fd; /* -1: none */
    char input[LINE_MAX_LENGTH + 1];
    size_t received;
    char *output; /* [sent, filled) is to go */
    size_t sent, filled;
    bool closing; /* the line it sends is beyond all limits: after the answer it goes */
    bool silent;  /* it has shut its side down: after the answers to its lines it goes */
    /* The command whose answer has to wait; NULL. */
    const struct command *pending;
    json_t *id;    /* of the request, or NULL */
    json_t *reply; /* so far */
};

struct control_server {
    struct socket_file file;
    struct control control;
    struct client client[CONTROL_CLIENTS];
};

static uint64_t monotonic_now(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * NS_PER_SEC + (uint64_t)now.tv_nsec;
}

int control_server_new(struct control_server **out, const char *path, struct vm *vm,
                       struct error *err)
{
    struct control_server *server = calloc(1, sizeof(*server));

    if (!server)
        return error_set(err, -ENOMEM, "no memory for the control socket");
    server->file.fd = -1;
    server->control.vm = vm;
    for (unsigned i = 0; i < CONTROL_CLIENTS; i++)
        server->client[i].fd = -1;
    /* Whoever can connect commands the VM. */
    mode_t mask = umask(0177);
    int result = socket_file_open(&server->file, "control socket", path, err);
    umask(mask);
    if (result) {
        control_server_free(server);
        return result;
    }
    *out = server;
    return 0;
}

static void forget_request(struct client *client)
{
    client->pending = NULL;
    json_decref(client->id);
    json_decref(client->reply);
    client->id = client->reply = NULL;
}

static void lose_client(struct client *client)
{
    forget_request(client);
    close(client->fd);
    free(client->output);
    memset(client, 0, sizeof(*client));
    client->fd = -1;
}

void control_server_free(struct control_server *server)
{
    if (!server)
        return;
    for (unsigned i = 0; i < CONTROL_CLIENTS; i++) {
        if (server->client[i].fd >= 0)
            lose_client(&server->client[i]);
    }
    socket_file_close(&server->file);
    free(server);
}

/* ---- output ---- */

static void transmit(struct client *client)
{
    while (client->fd >= 0 && client->sent < client->filled) {
        ssize_t gone = send(client->fd, client->output + client->sent,
                            client->filled - client->sent, MSG_NOSIGNAL);
        if (gone > 0)
            client->sent += (size_t)gone;
        else if (errno == EAGAIN)
            return;
        else if (errno != EINTR)
            lose_client(client);
    }
    if (client->fd >= 0)
        client->sent = client->filled = 0;
}

/* A line for the client; one that has no room any more loses its connection. */
static void put_line(struct client *client, const json_t *object)
{
    char *text = json_dumps(object, JSON_COMPACT);
    size_t length = text ? strlen(text) : 0;
    char *output = NULL;

    if (text && client->filled + length + 1 <= OUTPUT_MAX)
        output = realloc(client->output, client->filled + length + 1);
    if (output) {
        client->output = output;
        memcpy(output + client->filled, text, length);
        output[client->filled + length] = '\n';
        client->filled += length + 1;
        transmit(client);
    } else {
        lose_client(client);
    }
    free(text);
}

/* Answers the client's request with what the command returned. */
static void answer(struct client *client, int outcome, const struct error *err)
{
    json_t *reply = outcome < 0 ? json_object() : json_incref(client->reply);

    (void)json_object_set_new(reply, "ok", json_boolean(outcome >= 0));
    if (outcome < 0)
        (void)json_object_set_new(reply, "error", json_string(err->text));
    if (client->id)
        (void)json_object_set(reply, "id", client->id);
    forget_request(client);
    put_line(client, reply);
    json_decref(reply);
}

/* ---- requests ---- */

static int run_request(struct control *control, struct client *client, json_t *request,
                       struct error *err)
{
    const char *name = json_string_value(json_object_get(request, "command"));
    const struct command *command = name ? command_find(name) : NULL;

    client->reply = json_object();
    client->id = json_incref(json_object_get(request, "id"));
    if (!client->reply)
        return error_set(err, -ENOMEM, "no memory for an answer");
    if (!name)
        return error_set(err, -EINVAL, "a request is an object with the string 'command'");
    if (!command)
        return error_set(err, -EINVAL, "there is no command '%s'", name);
    int outcome = command->run(control, request, client->reply, err);
    if (outcome < 0)
        return error_prefix(err, outcome, "%s", name);
    if (outcome == CONTROL_LATER)
        client->pending = command;
    return outcome;
}

static void take_line(struct control *control, struct client *client, const char *line,
                      size_t length)
{
    json_error_t problem;
    struct error err;
    int outcome;

    json_t *request = json_loadb(line, length, JSON_REJECT_DUPLICATES, &problem);
    if (request)
        outcome = run_request(control, client, request, &err);
    else
        outcome = error_set(&err, -EINVAL, "this line is no JSON object: %s", problem.text);
    json_decref(request);
    if (outcome != CONTROL_LATER)
        answer(client, outcome, &err);
}

/* Requests are answered one by one: the next waits for the answer before. */
static void take_input(struct control *control, struct client *client)
{
    while (client->fd >= 0 && !client->pending && client->sent == client->filled) {
        char *end = memchr(client->input, '\n', client->received);
        if (!end)
            break;
        size_t length = (size_t)(end - client->input);
        if (length)
            take_line(control, client, client->input, length);
        if (client->fd < 0)
            return;
        client->received -= length + 1;
        memmove(client->input, end + 1, client->received);
    }
    if (client->fd >= 0 && !client->pending && client->received == LINE_MAX_LENGTH &&
        !memchr(client->input, '\n', client->received)) {
        struct error err;
        client->closing = true;
        client->received = 0;
        answer(client,
               error_set(&err, -EINVAL, "a line may have %d characters", LINE_MAX_LENGTH - 1),
               &err);
    }
}

static void receive(struct client *client)
{
    size_t room = LINE_MAX_LENGTH - client->received;

    if (!room || client->closing || client->silent)
        return;
    ssize_t got = recv(client->fd, client->input + client->received, room, 0);
    if (got > 0)
        client->received += (size_t)got;
    else if (got == 0)
        client->silent = true;
    else if (errno != EAGAIN && errno != EINTR)
        lose_client(client);
}

static bool is_done(const struct client *client)
{
    if (client->pending || client->sent < client->filled)
        return false;
    return client->closing || (client->silent && !memchr(client->input, '\n', client->received));
}

static void accept_clients(struct control_server *server)
{
    for (;;) {
        int fd = accept4(server->file.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        unsigned i = 0;

        if (fd < 0)
            return;
        while (i < CONTROL_CLIENTS && server->client[i].fd >= 0)
            i++;
        if (i < CONTROL_CLIENTS)
            server->client[i].fd = fd;
        else /* one too many is told by the end of its connection */
            close(fd);
    }
}

static void finish_pending(struct control *control, struct client *client)
{
    struct error err;

    if (!client->pending)
        return;
    int outcome = client->pending->finish(control, client->reply, &err);
    if (outcome < 0)
        error_prefix(&err, outcome, "%s", client->pending->name);
    if (outcome != CONTROL_LATER)
        answer(client, outcome, &err);
}

static void serve(struct control *control, struct client *client)
{
    transmit(client);
    if (client->fd >= 0)
        finish_pending(control, client);
    if (client->fd >= 0)
        receive(client);
    if (client->fd >= 0)
        take_input(control, client);
    if (client->fd >= 0 && is_done(client))
        lose_client(client);
}

void control_server_work(struct control_server *server)
{
    accept_clients(server);
    typist_work(&server->control.typist, monotonic_now());
    for (unsigned i = 0; i < CONTROL_CLIENTS; i++) {
        if (server->client[i].fd >= 0)
            serve(&server->control, &server->client[i]);
    }
}

void control_server_poll(const struct control_server *server,
                         struct pollfd polls[CONTROL_SERVER_POLLS])
{
    polls[0] = (struct pollfd){.fd = server->file.fd, .events = POLLIN};
    for (unsigned i = 0; i < CONTROL_CLIENTS; i++) {
        const struct client *client = &server->client[i];
        short events = 0;

        if (client->received < LINE_MAX_LENGTH && !client->closing && !client->silent)
            events |= POLLIN;
        if (client->sent < client->filled)
            events |= POLLOUT;
        /* Not for no events: that its other end is closed would be told again and again. */
        polls[1 + i] = (struct pollfd){.fd = events ? client->fd : -1, .events = events};
    }
}

int control_server_timeout(const struct control_server *server)
{
    return typist_timeout(&server->control.typist, monotonic_now());
}

void control_server_device_removed(struct control_server *server, const char *name)
{
    json_t *event = json_pack("{s:s, s:s}", "event", "device_removed", "device", name);

    for (unsigned i = 0; event && i < CONTROL_CLIENTS; i++) {
        if (server->client[i].fd >= 0)
            put_line(&server->client[i], event);
    }
    json_decref(event);
}

void control_server_vm_ended(struct control_server *server, int status)
{
    json_t *event = json_pack("{s:s, s:i}", "event", "ended", "status", status);

    for (unsigned i = 0; event && i < CONTROL_CLIENTS; i++) {
        struct client *client = &server->client[i];
        if (client->fd >= 0)
            finish_pending(&server->control, client);
        if (client->fd >= 0)
            put_line(client, event);
    }
    json_decref(event);
}
