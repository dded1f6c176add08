/* Statistics as JSON; see stats_file.h. */
#include "vm/stats_file.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_DEPTH 8

int stats_file_open(const char *path, struct error *err)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);

    if (fd < 0)
        return error_set(err, -errno, "statistics cannot be written to '%s': %s", path,
                         strerror(errno));
    return fd;
}

/* The groups that are open, outermost first. An engine opens no more than MAX_DEPTH. */
struct builder {
    json_t *group[MAX_DEPTH];
    unsigned depth; /* of the innermost */
    bool failed;
};

/* json_object_set_new() takes the value over, and copes with the NULL of a failed allocation. */
static void put(struct builder *builder, const char *name, json_t *value)
{
    if (json_object_set_new(builder->group[builder->depth], name, value))
        builder->failed = true;
}

static void begin(void *opaque, const char *name)
{
    struct builder *builder = opaque;
    json_t *group = json_object();

    put(builder, name, group);
    if (builder->depth + 1 < MAX_DEPTH)
        builder->group[++builder->depth] = group;
    else
        builder->failed = true;
}

static void value(void *opaque, const char *name, uint64_t number)
{
    put(opaque, name, json_integer((json_int_t)number));
}

static void end(void *opaque)
{
    ((struct builder *)opaque)->depth--;
}

static json_t *build(struct pc *pc, const struct pc_config *config)
{
    struct builder builder = {.group = {json_object()}};
    const struct stats to = {&builder, begin, value, end};

    put(&builder, "vm", json_string(config->name));
    put(&builder, "engine", json_string(config->engine->name));
    put(&builder, "cpus", json_integer(config->cpus));
    stats_begin(&to, "statistics");
    config->engine->stats(pc_engine_vm(pc), &to);
    stats_end(&to);
    if (builder.failed) {
        json_decref(builder.group[0]);
        return NULL;
    }
    return builder.group[0];
}

static int write_all(int fd, const char *text)
{
    size_t length = strlen(text);

    /* What cannot be shortened (a pipe) gets one document after the other. */
    if (lseek(fd, 0, SEEK_SET) == 0 && ftruncate(fd, 0) < 0 && errno != EINVAL)
        return -errno;
    while (length) {
        ssize_t written = write(fd, text, length);
        if (written < 0 && errno != EINTR)
            return -errno;
        if (written > 0) {
            text += written;
            length -= (size_t)written;
        }
    }
    return write(fd, "\n", 1) == 1 ? 0 : -errno;
}

int stats_file_write(int fd, const char *path, struct pc *pc, const struct pc_config *config,
                     struct error *err)
{
    json_t *root = build(pc, config);
    char *text = json_dumps(root, JSON_INDENT(2));
    int result = text ? write_all(fd, text) : -ENOMEM;

    json_decref(root);
    free(text);
    if (result)
        return error_set(err, result, "statistics cannot be written to '%s': %s", path,
                         strerror(-result));
    return 0;
}
