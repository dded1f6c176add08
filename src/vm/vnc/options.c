/* The words behind `--display vnc=`; see options.h. */
#include "vm/vnc/options.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static bool is_loopback(const char *address)
{
    struct in6_addr v6;

    if (inet_pton(AF_INET6, address, &v6) == 1)
        return IN6_IS_ADDR_LOOPBACK(&v6);
    return !strncmp(address, "127.", 4);
}

static int parse_tcp(struct vnc_options *options, char *text, struct error *err)
{
    char *colon = strrchr(text, ':'), *end;
    uint8_t address[sizeof(struct in6_addr)];

    errno = 0;
    unsigned long number = colon ? strtoul(colon + 1, &end, 10) : 0;
    if (!colon || !isdigit((unsigned char)colon[1]) || *end || errno ||
        number > UINT16_MAX - VNC_FIRST_PORT)
        return error_set(err, -EINVAL,
                         "'%s' has no display number: write vnc=127.0.0.1:0 for port %d", text,
                         VNC_FIRST_PORT);
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
    options->kind = VNC_TCP;
    options->address = text;
    options->port = (uint16_t)(VNC_FIRST_PORT + number);
    return 0;
}

int vnc_parse(struct vnc_options *options, char *text, struct error *err)
{
    char *key = strchr(text, ',');
    int result = 0;

    if (key)
        *key++ = '\0';
    *options = (struct vnc_options){.kind = VNC_NONE};
    if (!strncmp(text, "unix:", 5) && text[5]) {
        options->kind = VNC_UNIX;
        options->address = text + 5;
    } else {
        result = parse_tcp(options, text, err);
    }
    if (result)
        return result;
    if (key && (strncmp(key, "password=", 9) != 0 || !key[9]))
        return error_set(err, -EINVAL, "'%s' is not known: use password=FILE", key);
    options->password_file = key ? key + 9 : NULL;
    if (options->kind == VNC_TCP && !key && !is_loopback(options->address))
        return error_set(err, -EINVAL,
                         "whoever reaches %s could use this VM: add password=FILE, or use "
                         "127.0.0.1 and a tunnel",
                         options->address);
    return 0;
}
