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

static const struct ctl_command {
    const char *name;
    const char *key;   /* of the request's string that is the last argument; NULL: there is none */
    const char *usage; /* how help calls the arguments */
    bool is_path;      /* the last argument; the VM's working directory is another */
    const char *what;
    const char *first_key; /* of an argument before that; NULL: there is none */
} commands[] = {
    {"change", "file", "DRIVE FILE", true, "puts another disc into cd0, ...", "drive"},
    {"eject", "drive", "DRIVE", false, "takes the disc out of cd0, ...", NULL},
    {"key", "key", "NAME", false, "presses enter, f1, ctrl-alt-delete, ...", NULL},
    {"pause", NULL, "", false, "stops the VM until 'resume'", NULL},
    {"powerdown", NULL, "", false, "presses the power button", NULL},
    {"quit", NULL, "", false, "ends the run at once", NULL},
    {"reset", NULL, "", false, "presses the reset button", NULL},
    {"resume", NULL, "", false, "lets a paused VM go on", NULL},
    {"screen-text", NULL, "", false, "prints the screen, if it is in a text mode", NULL},
    {"screenshot", "file", "FILE", true, "writes the screen to a PNG file", NULL},
    {"status", NULL, "", false, "tells what the VM is and does", NULL},
    {"type", "text", "TEXT", false, "types on a US keyboard; \\n is Enter, \\t is Tab", NULL},
};

void help_ctl(void)
{
    puts("sill ctl SOCKET COMMAND [ARGUMENT]...\n"
         "\n"
         "Asks something of a VM that runs with --control socket:SOCKET:\n");
    for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
        int width = printf("  %s %s", commands[i].name, commands[i].usage);
        printf("%*s%s\n", 21 - width, "", commands[i].what);
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

static int argument(char *out, size_t size, const struct ctl_command *command, char *text,
                    struct error *err)
{
    char folder[PATH_MAX] = "";

    if (!strcmp(command->name, "type"))
        unescape(text);
    if (command->is_path && text[0] != '/' && !getcwd(folder, sizeof(folder) - 1))
        return error_set(err, -errno, "no working directory: %s", strerror(errno));
    if (folder[0])
        strcat(folder, "/");
    if (snprintf(out, size, "%s%s", folder, text) >= (int)size)
        return error_set(err, -ENAMETOOLONG, "the argument is too long");
    return 0;
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

int command_ctl(int argc, char **argv)
{
    char text[2 * PATH_MAX + 8192] = "";
    struct error err;

    if (argc < 2) {
        help_ctl();
        return EXIT_FAILURE;
    }
    const struct ctl_command *command = find_command(argv[1]);
    if (!command)
        return unknown_command(argv[1]);
    int wanted = 2 + (command->key != NULL) + (command->first_key != NULL);
    if (argc != wanted) {
        error_set(&err, -EINVAL, "ctl: %s takes %s%s", command->name,
                  command->first_key ? "two arguments: "
                  : command->key     ? "one argument: "
                                     : "no argument",
                  command->usage);
        return complain(&err);
    }
    if (command->key && argument(text, sizeof(text), command, argv[argc - 1], &err))
        return complain(&err);
    json_t *request = command->first_key ? json_pack("{s:s, s:s}", "command", command->name,
                                                     command->first_key, argv[2])
                                         : json_pack("{s:s}", "command", command->name);
    json_t *string = command->key ? json_string(text) : NULL;
    int result = 0;
    if (command->key && !string)
        result = error_set(&err, -EINVAL, "ctl: the argument is no UTF-8 text");
    else if (!request || (string && json_object_set(request, command->key, string)))
        result = error_set(&err, -ENOMEM, "ctl: no memory");
    else if (ask(argv[0], request, &err))
        result = error_prefix(&err, -EIO, "ctl");
    json_decref(string);
    json_decref(request);
    return result ? complain(&err) : EXIT_SUCCESS;
}
