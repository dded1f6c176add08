/* How network options are written, and which backend they mean; see net.h. */
#include "net/net.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net/tap.h"
#include "net/user.h"

#define DEFAULT_NETWORK 0x0a000200u /* 10.0.2.0 */
#define DEFAULT_PREFIX 24
/* Router, name server, guests from .15 on and broadcast must find room. */
#define PREFIX_MIN 8
#define PREFIX_MAX 27

/* ---- values ---- */

static bool parse_number(const char *text, unsigned least, unsigned most, unsigned *number)
{
    char *end;

    if (!isdigit((unsigned char)text[0]))
        return false;
    errno = 0;
    unsigned long value = strtoul(text, &end, 10);
    if (*end || errno || value < least || value > most)
        return false;
    *number = (unsigned)value;
    return true;
}

static bool parse_address(const char *text, uint32_t *number)
{
    struct in_addr address;

    if (inet_pton(AF_INET, text, &address) != 1)
        return false;
    *number = ntohl(address.s_addr);
    return true;
}

static int take_text(char *to, size_t size, const char *key, const char *value, struct error *err)
{
    if (!value[0] || strlen(value) >= size)
        return error_set(err, -EINVAL, "%s needs 1 to %zu characters", key, size - 1);
    strcpy(to, value);
    return 0;
}

static int take_mac(struct net_options *options, const char *value, struct error *err)
{
    uint8_t *mac = options->mac;
    int used = 0;

    if (sscanf(value, "%2hhx:%2hhx:%2hhx:%2hhx:%2hhx:%2hhx%n", &mac[0], &mac[1], &mac[2], &mac[3],
               &mac[4], &mac[5], &used) != NET_MAC_LENGTH ||
        value[used] || strlen(value) != 3 * NET_MAC_LENGTH - 1)
        return error_set(err, -EINVAL, "mac=%s is no address: write it like 52:54:00:12:34:56",
                         value);
    if (mac[0] & 1)
        return error_set(err, -EINVAL,
                         "mac=%s is a group address: the second digit of a card's is even", value);
    options->has_mac = true;
    return 0;
}

static int take_network(struct net_options *options, char *value, struct error *err)
{
    char *slash = strchr(value, '/');
    uint32_t network;
    unsigned prefix;

    if (slash)
        *slash = '\0';
    bool known = slash && parse_address(value, &network) &&
                 parse_number(slash + 1, PREFIX_MIN, PREFIX_MAX, &prefix);
    if (slash)
        *slash = '/';
    if (!known)
        return error_set(err, -EINVAL,
                         "net=%s is no network: write it like 10.0.2.0/24, with /%d to /%d", value,
                         PREFIX_MIN, PREFIX_MAX);
    if (network & ~(~0u << (32 - prefix)))
        return error_set(err, -EINVAL,
                         "net=%s has bits behind its prefix: end the address in zeros", value);
    options->network = network;
    options->prefix = prefix;
    return 0;
}

/* "ADDRESS:PORT", the address may be missing. */
static bool parse_end(char *text, uint32_t *address, uint16_t *port)
{
    char *colon = strchr(text, ':');
    unsigned number;

    if (!colon)
        return false;
    *colon = '\0';
    bool known = (!text[0] || parse_address(text, address)) &&
                 parse_number(colon + 1, 1, UINT16_MAX, &number);
    *colon = ':';
    if (known)
        *port = (uint16_t)number;
    return known;
}

static int take_forward(struct net_options *options, char *value, struct error *err)
{
    struct net_forward forward = {0};
    char *host = strchr(value, ':');
    char *dash = strchr(value, '-');
    bool known = host && dash && host < dash;

    if (options->forward_count == NET_FORWARDS_MAX)
        return error_set(err, -EINVAL, "hostfwd=%s is one too many: %d work", value,
                         NET_FORWARDS_MAX);
    if (known) {
        forward.udp = !strncmp(value, "udp:", 4);
        known = forward.udp || !strncmp(value, "tcp:", 4);
    }
    if (known) {
        *dash = '\0';
        known = parse_end(host + 1, &forward.host_address, &forward.host_port) &&
                parse_end(dash + 1, &forward.guest_address, &forward.guest_port);
        *dash = '-';
    }
    if (!known)
        return error_set(err, -EINVAL,
                         "hostfwd=%s is no forward: write it like tcp:127.0.0.1:8080-:80, which "
                         "leads from port 8080 of the host to port 80 of the guest",
                         value);
    options->forward[options->forward_count++] = forward;
    return 0;
}

static int take_restrict(struct net_options *options, const char *value, struct error *err)
{
    options->restricted = !strcmp(value, "on");
    if (!options->restricted && strcmp(value, "off") != 0)
        return error_set(err, -EINVAL, "restrict=%s: use on or off", value);
    return 0;
}

static int take_model(struct net_options *options, const char *value, struct error *err)
{
    if (!strcmp(value, "virtio"))
        options->model = NET_MODEL_VIRTIO;
    else if (!strcmp(value, "e1000e"))
        options->model = NET_MODEL_E1000E;
    else
        return error_set(err, -EINVAL, "there is no card model=%s: use virtio or e1000e", value);
    return 0;
}

/* ---- the option ---- */

static int take_key(struct net_options *options, const char *key, char *value, struct error *err)
{
    if (!strcmp(key, "mac"))
        return take_mac(options, value, err);
    if (!strcmp(key, "model"))
        return take_model(options, value, err);
    if (options->kind == NET_TAP)
        return error_set(err, -EINVAL, "a tap network has no option %s; there are mac and model",
                         key);
    if (!strcmp(key, "net"))
        return take_network(options, value, err);
    if (!strcmp(key, "hostfwd"))
        return take_forward(options, value, err);
    if (!strcmp(key, "restrict"))
        return take_restrict(options, value, err);
    if (!strcmp(key, "hostname"))
        return take_text(options->hostname, sizeof(options->hostname), key, value, err);
    if (!strcmp(key, "tftp"))
        return take_text(options->tftp, sizeof(options->tftp), key, value, err);
    if (!strcmp(key, "bootfile"))
        return take_text(options->bootfile, sizeof(options->bootfile), key, value, err);
    return error_set(err, -EINVAL,
                     "the user network has no option %s; there are net, hostfwd, restrict, "
                     "hostname, tftp, bootfile, mac and model",
                     key);
}

static int take_kind(struct net_options *options, const char *item, struct error *err)
{
    if (!strcmp(item, "user")) {
        options->kind = NET_USER;
        return 0;
    }
    if (!strncmp(item, "tap=", 4)) {
        options->kind = NET_TAP;
        return take_text(options->tap, sizeof(options->tap), "tap", item + 4, err);
    }
    return error_set(err, -EINVAL, "there is no network '%s': use user, tap=NAME or none", item);
}

/* Copies up to the next single comma, two commas standing for one. Returns what follows the comma,
 * or NULL at the end of the text; `*fits` is false when `to` is too small. */
static const char *take_item(const char *text, char *to, size_t size, bool *fits)
{
    size_t length = 0;

    *fits = true;
    for (; *text && (*text != ',' || text[1] == ','); text++) {
        if (*text == ',')
            text++;
        if (length + 1 < size)
            to[length++] = *text;
        else
            *fits = false;
    }
    to[length] = '\0';
    return *text ? text + 1 : NULL;
}

int net_parse_options(struct net_options *options, const char *text, struct error *err)
{
    struct net_options parsed = {.network = DEFAULT_NETWORK, .prefix = DEFAULT_PREFIX};
    char item[NET_PATH_MAX + 16];
    bool fits;
    const char *rest = take_item(text, item, sizeof(item), &fits);

    int ret = take_kind(&parsed, item, err);
    while (rest && !ret) {
        rest = take_item(rest, item, sizeof(item), &fits);
        char *value = strchr(item, '=');
        if (!fits || !value)
            return error_set(err, -EINVAL, "'%s' is not of the form key=value", item);
        *value++ = '\0';
        ret = take_key(&parsed, item, value, err);
    }
    if (!ret)
        *options = parsed;
    return ret;
}

void net_default_mac(uint8_t mac[NET_MAC_LENGTH], const char *name, unsigned index)
{
    /* FNV-1a, 64 bits */
    uint64_t hash = 0xcbf29ce484222325ull;

    for (const char *c = name; *c; c++)
        hash = (hash ^ (uint8_t)*c) * 0x100000001b3ull;
    hash = (hash ^ index) * 0x100000001b3ull;
    for (unsigned i = 0; i < NET_MAC_LENGTH; i++)
        mac[i] = (uint8_t)(hash >> (8 + 8 * i));
    /* IEEE 802, 8.2: locally administered, not a group. */
    mac[0] = (uint8_t)((mac[0] & 0xfc) | 2);
}

/* ---- life ---- */

int net_open(struct net_backend **out, const struct net_options *options, struct error *err)
{
    return options->kind == NET_TAP ? net_tap_open(out, options, err)
                                    : net_user_open(out, options, err);
}

int net_attach(struct net_backend *backend, const struct net_card_ops *card, void *opaque,
               struct error *err)
{
    backend->card = card;
    backend->card_opaque = opaque;
    return backend->ops->start(backend, err);
}

void net_close(struct net_backend *backend)
{
    if (backend)
        backend->ops->close(backend);
}
