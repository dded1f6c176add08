/*
 * Disk images: command line options, and the checks that every request passes whatever the format.
 * See block.h.
 */
#include "block/block.h"

#include <errno.h>
#include <string.h>

#include "block/raw.h"

/* Options. */

struct keyword {
    const char *text;
    int value;
};

static const struct keyword on_off[] = {{"on", true}, {"off", false}, {NULL, 0}};
static const struct keyword formats[] = {{"raw", BLOCK_FORMAT_RAW}, {NULL, 0}};
static const struct keyword caches[] = {
    {"writeback", BLOCK_CACHE_WRITEBACK},
    {"writethrough", BLOCK_CACHE_WRITETHROUGH},
    {"unsafe", BLOCK_CACHE_UNSAFE},
    {NULL, 0},
};
static const struct keyword aios[] = {
    {"auto", BLOCK_AIO_AUTO},
    {"io_uring", BLOCK_AIO_URING},
    {"thread", BLOCK_AIO_THREAD},
    {NULL, 0},
};

static const struct keyword interfaces[] = {
    {"virtio", BLOCK_VIRTIO},
    {"ahci", BLOCK_AHCI},
    {"sata", BLOCK_AHCI},
    {"ide", BLOCK_IDE},
    {NULL, 0},
};

/* Finds `value` among the words, or fills `err` with all that would do. */
static int parse_keyword(const struct keyword *words, const char *key, const char *value, int *out,
                         struct error *err)
{
    char known[128] = "";

    for (const struct keyword *word = words; word->text; word++) {
        if (!strcmp(word->text, value)) {
            *out = word->value;
            return 0;
        }
        if (word != words)
            strncat(known, ", ", sizeof(known) - strlen(known) - 1);
        strncat(known, word->text, sizeof(known) - strlen(known) - 1);
    }
    return error_set(err, -EINVAL, "disk option %s=%s: the value must be one of: %s", key, value,
                     known);
}

static int parse_serial(struct block_options *options, const char *value, struct error *err)
{
    if (strlen(value) > BLOCK_SERIAL_MAX)
        return error_set(err, -EINVAL, "disk option serial=%s: at most %d characters", value,
                         BLOCK_SERIAL_MAX);
    strcpy(options->serial, value);
    return 0;
}

static int parse_option(struct block_options *options, const char *key, const char *value,
                        struct error *err)
{
    int number = 0;
    int ret;

    if (!strcmp(key, "serial"))
        return parse_serial(options, value, err);
    if (!strcmp(key, "readonly")) {
        ret = parse_keyword(on_off, key, value, &number, err);
        options->read_only = number;
    } else if (!strcmp(key, "discard")) {
        ret = parse_keyword(on_off, key, value, &number, err);
        options->discard = number;
    } else if (!strcmp(key, "format")) {
        ret = parse_keyword(formats, key, value, &number, err);
        options->format = (enum block_format)number;
    } else if (!strcmp(key, "cache")) {
        ret = parse_keyword(caches, key, value, &number, err);
        options->cache = (enum block_cache)number;
    } else if (!strcmp(key, "aio")) {
        ret = parse_keyword(aios, key, value, &number, err);
        options->aio = (enum block_aio)number;
    } else if (!strcmp(key, "if")) {
        ret = parse_keyword(interfaces, key, value, &number, err);
        options->interface = (enum block_interface)number;
    } else {
        ret = error_set(err, -EINVAL,
                        "unknown disk option %s; there are if, format, readonly, cache, discard, "
                        "aio and serial",
                        key);
    }
    return ret;
}

/* Copies up to the next single comma, two commas standing for one. Returns what follows the comma,
 * or NULL at the end of the text; `*fits` is false when `to` is too small. */
static const char *take_item(const char *text, char *to, size_t size, bool *fits)
{
    size_t length = 0;

    *fits = true;
    while (*text && (*text != ',' || text[1] == ',')) {
        if (*text == ',')
            text++;
        if (length + 1 < size)
            to[length++] = *text;
        else
            *fits = false;
        text++;
    }
    to[length] = '\0';
    return *text ? text + 1 : NULL;
}

/* `*options` has the defaults. */
static int parse_options(struct block_options *options, const char *text, struct error *err)
{
    struct block_options parsed = *options;
    char item[256];
    bool fits;
    const char *rest = take_item(text, parsed.path, sizeof(parsed.path), &fits);

    if (!fits)
        return error_set(err, -EINVAL, "disk: the file name is longer than %d bytes",
                         BLOCK_PATH_MAX - 1);
    if (!parsed.path[0])
        return error_set(err, -EINVAL, "disk: \"%s\" does not begin with a file name", text);
    while (rest) {
        rest = take_item(rest, item, sizeof(item), &fits);
        char *value = strchr(item, '=');
        if (!fits || !value)
            return error_set(err, -EINVAL, "disk %s: \"%s\" is not of the form key=value",
                             parsed.path, item);
        *value++ = '\0';
        int ret = parse_option(&parsed, item, value, err);
        if (ret)
            return ret;
    }
    *options = parsed;
    return 0;
}

int block_parse_options(struct block_options *options, const char *text, struct error *err)
{
    struct block_options parsed = {.discard = true};
    int ret = parse_options(&parsed, text, err);

    if (!ret)
        *options = parsed;
    return ret;
}

int block_parse_cdrom_options(struct block_options *options, const char *text, struct error *err)
{
    struct block_options parsed = {.interface = BLOCK_AHCI};
    int ret = parse_options(&parsed, text, err);

    if (ret)
        return ret;
    if (parsed.interface == BLOCK_VIRTIO)
        return error_set(err, -EINVAL,
                         "CD-ROM %s: there is no virtio CD-ROM drive; use if=ahci "
                         "or if=ide",
                         parsed.path);
    parsed.cdrom = parsed.read_only = true;
    if (!strcmp(parsed.path, "none"))
        parsed.path[0] = '\0';
    *options = parsed;
    return 0;
}

/* Images. */

int block_open(struct block_device **out, const struct block_options *options, struct error *err)
{
    return raw_open(out, options, err);
}

void block_close(struct block_device *disk)
{
    disk->ops->close(disk);
}

/* Requests. */

static bool changes_data(enum block_op op)
{
    return op == BLOCK_WRITE || op == BLOCK_DISCARD || op == BLOCK_WRITE_ZEROES;
}

/* True when the request needs no I/O; *result is then its outcome. */
static bool answered_at_once(const struct block_device *disk, const struct block_request *request,
                             int *result)
{
    *result = 0;
    if (request->op == BLOCK_FLUSH)
        return disk->read_only || disk->ignore_flush;
    if (request->offset > disk->size || request->length > disk->size - request->offset) {
        *result = -EINVAL;
        return true;
    }
    if (disk->read_only && changes_data(request->op)) {
        *result = -EROFS;
        return true;
    }
    return !request->length || (request->op == BLOCK_DISCARD && !disk->can_discard);
}

void block_submit(struct block_device *disk, struct block_request *batch)
{
    struct block_request *todo = NULL;
    struct block_request **tail = &todo;
    int result;

    while (batch) {
        struct block_request *request = batch;
        batch = request->next;
        request->next = NULL;
        request->attempt = 0;
        request->finished = 0;
        if (answered_at_once(disk, request, &result)) {
            request->done(request, result);
            continue;
        }
        *tail = request;
        tail = &request->next;
    }
    if (todo)
        disk->ops->submit(disk, todo);
}
