/* `sill ctl`: the client of a VM's control socket (docs/control.md). */
#include <errno.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "commands.h"
#include "options.h"

#define ARGUMENTS_MAX 3

static const struct ctl_command {
    const char *name;
    const char *key[ARGUMENTS_MAX]; /* of the request's strings, one for each argument */
    int needed;                     /* so many arguments must be there */
    const char *usage;              /* how help calls the arguments */
    const char *what;
} commands[] = {
    {"change", {"drive", "file"}, 2, "DRIVE FILE", "puts another disc into cd0, ..."},
    {"device_add",
     {"kind", "options", "name"},
     1,
     "KIND [OPTIONS [NAME]]",
     "puts a device into a PCI slot: disk or net with\n"
     "what --disk and --net take, or rng"},
    {"device_del",
     {"device", "force"},
     1,
     "NAME [force]",
     "asks the guest to give it back; force: it is gone"},
    {"eject", {"drive"}, 1, "DRIVE", "takes the disc out of cd0, ..."},
    {"key", {"key"}, 1, "NAME", "presses enter, f1, ctrl-alt-delete, ..."},
    {"pause", {NULL}, 0, "", "stops the VM until 'resume'"},
    {"point", {"to"}, 1, "X,Y[,BUTTON]...", "puts the pointer there; left, middle, right held"},
    {"powerdown", {NULL}, 0, "", "presses the power button"},
    {"quit", {NULL}, 0, "", "ends the run at once"},
    {"reset", {NULL}, 0, "", "presses the reset button"},
    {"resume", {NULL}, 0, "", "lets a paused VM go on"},
    {"screen-text", {NULL}, 0, "", "prints the screen, if it is in a text mode"},
    {"screenshot", {"file"}, 1, "FILE", "writes the screen to a PNG file"},
    {"slots", {NULL}, 0, "", "tells what is in the PCI slots"},
    {"status", {NULL}, 0, "", "tells what the VM is and does"},
    {"type", {"text"}, 1, "TEXT", "types on a US keyboard; \\n is Enter, \\t is Tab"},
};

void help_ctl(void)
{
    puts("sill ctl SOCKET COMMAND [ARGUMENT]...\n"
         "\n"
         "Asks something of a VM that runs with --control socket:SOCKET:\n");
    for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
        char usage[64];
        snprintf(usage, sizeof(usage), "%s %s", commands[i].name, commands[i].usage);
        options_print_entry(stdout, usage, commands[i].what);
    }
    puts("\nExit status: 0 when it was done, else 1 and a sentence that says why not.");
}

static const struct ctl_command *find_command(const char *name)
{
    for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
        if (!strcmp(commands[i].name, name))
            return &commands[i];
    }
    return NULL;
}

static int unknown_command(const char *name)
{
    const char *words[ARRAY_SIZE(commands)];
    struct error err;

    for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
        words[i] = commands[i].name;
    const char *nearest = options_nearest(name, words, ARRAY_SIZE(words));
    if (nearest)
        error_set(&err, 0, "ctl: there is no command '%s': did you mean '%s'?", name, nearest);
    else
        error_set(&err, 0, "ctl: there is no command '%s': see 'sill help ctl'", name);
    return complain(&err);
}

static int open_socket(FILE **out, const char *path, struct error *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    if (strlen(path) >= sizeof(address.sun_path))
        return error_set(err, -ENAMETOOLONG, "'%s' is too long for a socket's path", path);
    strcpy(address.sun_path, path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return error_set(err, -errno, "no socket: %s", strerror(errno));
    if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0) {
        int result = error_set(err, -errno, "no VM answers at '%s': %s", path, strerror(errno));
        close(fd);
        return result;
    }
    *out = fdopen(fd, "r+");
    if (*out)
        return 0;
    close(fd);
    return error_set(err, -ENOMEM, "no memory for a connection");
}

/* Turns the escapes that people type into a shell's quotes into the characters that they mean. */
static void unescape(char *text)
{
    char *out = text;

    for (const char *in = text; *in; in++) {
        if (in[0] == '\\' && in[1] == 'n') {
            *out++ = '\n';
            in++;
        } else if (in[0] == '\\' && in[1] == 't') {
            *out++ = '\t';
            in++;
        } else if (in[0] == '\\' && in[1] == '\\') {
            *out++ = '\\';
            in++;
        } else {
            *out++ = *in;
        }
    }
    *out = '\0';
}

/* Is that argument the path of a file? The VM's working directory is another. */
static bool is_path(char **arguments, const char *key)
{
    return !strcmp(key, "file") || (!strcmp(key, "options") && !strcmp(arguments[0], "disk"));
}

static int put_string(json_t *request, const char *key, const char *folder, const char *text,
                      struct error *err)
{
    char whole[2 * PATH_MAX + 8192];

    if (snprintf(whole, sizeof(whole), "%s%s%s", folder, folder[0] ? "/" : "", text) >=
        (int)sizeof(whole))
        return error_set(err, -ENAMETOOLONG, "the argument is too long");
    json_t *string = json_string(whole);
    if (!string)
        return error_set(err, -EINVAL, "the argument is no UTF-8 text");
    return json_object_set_new(request, key, string) ? error_set(err, -ENOMEM, "no memory") : 0;
}

static int put_argument(json_t *request, const char *key, char **arguments, char *text,
                        struct error *err)
{
    char folder[PATH_MAX] = "";

    if (!strcmp(key, "force")) {
        if (strcmp(text, "force") != 0)
            return error_set(err, -EINVAL, "'%s' is not known: it may be force", text);
        return json_object_set_new(request, key, json_true());
    }
    if (!strcmp(key, "text"))
        unescape(text);
    if (is_path(arguments, key) && text[0] != '/' && !getcwd(folder, sizeof(folder)))
        return error_set(err, -errno, "no working directory: %s", strerror(errno));
    return put_string(request, key, folder, text, err);
}

/* The answer to a request; events that come before it are left out. */
static json_t *converse(FILE *socket, json_t *request)
{
    char *line = NULL;
    size_t size = 0;
    json_t *reply = NULL;

    if (json_dumpf(request, socket, JSON_COMPACT) || fputc('\n', socket) == EOF || fflush(socket))
        return NULL;
    while (getline(&line, &size, socket) > 0) {
        reply = json_loads(line, 0, NULL);
        if (json_object_get(reply, "ok"))
            break;
        json_decref(reply);
        reply = NULL;
    }
    free(line);
    return reply;
}

static void print_slots(json_t *slots)
{
    size_t index;
    json_t *slot;

    json_array_foreach(slots, index, slot)
    {
        const char *device = json_string_value(json_object_get(slot, "device"));
        bool leaving = json_is_true(json_object_get(slot, "leaving"));
        printf("%zu: %s%s\n", index + 1, device ? device : "empty", leaving ? ", asked for" : "");
    }
}

static void print_reply(json_t *reply)
{
    const char *key;
    json_t *value;

    json_object_foreach(reply, key, value)
    {
        if (!strcmp(key, "text"))
            fputs(json_string_value(value), stdout);
        else if (json_is_string(value))
            printf("%s: %s\n", key, json_string_value(value));
        else if (json_is_integer(value))
            printf("%s: %lld\n", key, (long long)json_integer_value(value));
        else if (!strcmp(key, "slots"))
            print_slots(value);
    }
}

static int ask(const char *path, json_t *request, struct error *err)
{
    FILE *socket = NULL;
    int result = open_socket(&socket, path, err);

    if (result)
        return result;
    json_t *reply = converse(socket, request);
    const char *problem = json_string_value(json_object_get(reply, "error"));
    if (!reply)
        result = error_set(err, -EPIPE, "the VM at '%s' ended without an answer", path);
    else if (json_is_true(json_object_get(reply, "ok")))
        print_reply(reply);
    else
        result = error_set(err, -EIO, "%s", problem ? problem : "the VM refuses without a reason");
    json_decref(reply);
    fclose(socket);
    return result;
}

static int make_request(json_t *request, const struct ctl_command *command, int count,
                        char **arguments, struct error *err)
{
    int most = 0;

    while (most < ARGUMENTS_MAX && command->key[most])
        most++;
    if (count < command->needed || count > most)
        return error_set(err, -EINVAL, "%s takes %s", command->name,
                         most ? command->usage : "no argument");
    if (json_object_set_new(request, "command", json_string(command->name)))
        return error_set(err, -ENOMEM, "no memory");
    int result = 0;
    for (int i = 0; i < count && !result; i++)
        result = put_argument(request, command->key[i], arguments, arguments[i], err);
    return result;
}

int command_ctl(int argc, char **argv)
{
    struct error err;

    if (argc < 2) {
        help_ctl();
        return EXIT_FAILURE;
    }
    const struct ctl_command *command = find_command(argv[1]);
    if (!command)
        return unknown_command(argv[1]);
    json_t *request = json_object();
    int result = make_request(request, command, argc - 2, argv + 2, &err);
    if (!result)
        result = ask(argv[0], request, &err);
    json_decref(request);
    if (!result)
        return EXIT_SUCCESS;
    error_prefix(&err, result, "ctl");
    return complain(&err);
}
