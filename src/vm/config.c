/* How a VM's configuration is written; see config.h. No thread, no state. */
#include "vm/config.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "dev/legacy/debug_exit.h"
#include "dev/legacy/debugcon.h"

/* What a device can be told. */
enum device_key { KEY_PORT = 1 << 0, KEY_TO = 1 << 1 };

static const struct {
    const char *name;
    enum pc_extra_kind kind;
    unsigned keys;
    bool many; /* a VM may have several */
    uint16_t default_port;
    const char *usage;
    const char *what;
} devices[] = {
    {"console", PC_VIRTIO_CONSOLE, KEY_TO, true, 0, "console[,to=CONSOLE]",
     "a virtio console, in Linux hvc0"},
    {"debug-exit", PC_DEBUG_EXIT, KEY_PORT, false, DEBUG_EXIT_DEFAULT_PORT,
     "debug-exit[,port=0xf4]", "a write of V ends the run with (V << 1) | 1"},
    {"debugcon", PC_DEBUGCON, KEY_PORT | KEY_TO, true, DEBUGCON_BOCHS_PORT,
     "debugcon[,port=0xe9][,to=CONSOLE]", "a port whose bytes go to a console"},
    {"pvpanic", PC_PVPANIC, 0, false, 0, "pvpanic",
     "a panic of the guest ends the run with status 2"},
    {"rng", PC_VIRTIO_RNG, 0, true, 0, "rng", "a virtio source of random numbers"},
    {"testdev", PC_TESTDEV, 0, false, 0, "testdev", "ports and memory for test programs"},
    {"usb-keyboard", PC_USB_KEYBOARD, 0, false, 0, "usb-keyboard",
     "a USB keyboard, beside the PS/2 one"},
    {"usb-tablet", PC_USB_TABLET, 0, false, 0, "usb-tablet",
     "a USB pointer that is where the viewer's is; there\n"
     "by default with firmware and --display"},
};

int config_parse_size(uint64_t *bytes, const char *text, struct error *err)
{
    static const char units[] = "KMGT";
    char *end;

    if (!isdigit((unsigned char)text[0]))
        return error_set(err, -EINVAL, "'%s' is no size: write it like 512M or 2G", text);
    errno = 0;
    uint64_t value = strtoull(text, &end, 10);
    if (errno)
        return error_set(err, -ERANGE, "the size '%s' is beyond all limits", text);
    unsigned shift = 0;
    if (*end) {
        const char *unit = strchr(units, toupper((unsigned char)*end));
        if (!unit || end[1])
            return error_set(err, -EINVAL, "'%s' is no size: write it like 512M or 2G", text);
        shift = 10 * (unsigned)(unit - units + 1);
    }
    if (value > UINT64_MAX >> shift)
        return error_set(err, -ERANGE, "the size '%s' is beyond all limits", text);
    *bytes = value << shift;
    return 0;
}

/* Cuts the next piece off at a single comma and turns double ones into one. NULL: none left. */
static char *next_piece(char **rest)
{
    char *piece = *rest, *in = piece, *out = piece;

    if (!piece)
        return NULL;
    while (*in && !(in[0] == ',' && in[1] != ',')) {
        if (in[0] == ',')
            in++;
        *out++ = *in++;
    }
    *rest = *in ? in + 1 : NULL;
    *out = '\0';
    return piece;
}

static int parse_port(uint16_t *port, const char *text, struct error *err)
{
    char *end;

    errno = 0;
    unsigned long value = strtoul(text, &end, 0);
    if (!isdigit((unsigned char)text[0]) || *end || errno || value > UINT16_MAX)
        return error_set(err, -EINVAL, "'%s' is no port: use a number up to 0xffff", text);
    *port = (uint16_t)value;
    return 0;
}

static int parse_key(struct vm_device *device, unsigned keys, char *piece, struct error *err)
{
    char *value = strchr(piece, '=');
    if (value)
        *value++ = '\0';
    if (keys & KEY_PORT && value && !strcmp(piece, "port"))
        return parse_port(&device->extra.port, value, err);
    if (keys & KEY_TO && value && !strcmp(piece, "to"))
        return console_parse(&device->console, value, err);
    return error_set(err, -EINVAL, "it does not know '%s%s%s'", piece, value ? "=" : "",
                     value ? value : "");
}

int config_parse_device(struct vm_device *device, char *text, struct error *err)
{
    char *rest = text;
    const char *name = next_piece(&rest);

    for (size_t i = 0; i < ARRAY_SIZE(devices); i++) {
        if (strcmp(name, devices[i].name) != 0)
            continue;
        *device = (struct vm_device){
            .extra = {.kind = devices[i].kind, .port = devices[i].default_port},
            .console = {.kind = devices[i].keys & KEY_TO ? CONSOLE_STDIO : CONSOLE_NONE},
        };
        for (char *piece = next_piece(&rest); piece; piece = next_piece(&rest)) {
            int result = parse_key(device, devices[i].keys, piece, err);
            if (result)
                return error_prefix(err, result, "device %s (%s)", name, devices[i].usage);
        }
        return 0;
    }
    return error_set(err, -EINVAL,
                     "there is no device '%s': 'sill help run' lists those that there are", name);
}

bool config_device_help(unsigned index, const char **usage, const char **what)
{
    if (index >= ARRAY_SIZE(devices))
        return false;
    *usage = devices[index].usage;
    *what = devices[index].what;
    return true;
}

static const char *device_name(const struct vm_device *device)
{
    for (size_t i = 0; i < ARRAY_SIZE(devices); i++) {
        if (devices[i].kind == device->extra.kind)
            return devices[i].name;
    }
    return NULL;
}

static bool may_repeat(enum pc_extra_kind kind)
{
    for (size_t i = 0; i < ARRAY_SIZE(devices); i++) {
        if (devices[i].kind == kind)
            return devices[i].many;
    }
    return false;
}

static bool has_device(const struct vm_config *config, enum pc_extra_kind kind)
{
    for (unsigned i = 0; i < config->device_count; i++) {
        if (config->devices[i].extra.kind == kind)
            return true;
    }
    return false;
}

void config_add_defaults(struct vm_config *config)
{
    bool shown =
        config->vnc.kind != VNC_NONE && !config->board.kernel && config->board.vga != PC_VGA_NONE;

    if (shown && !has_device(config, PC_USB_TABLET) && config->device_count < PC_MAX_EXTRAS)
        config->devices[config->device_count++] =
            (struct vm_device){.extra = {.kind = PC_USB_TABLET}};
}

static int check_pair(const struct vm_device *a, const struct vm_device *b, struct error *err)
{
    if (a->extra.kind == b->extra.kind && !may_repeat(a->extra.kind))
        return error_set(err, -EINVAL, "a VM can have only one device %s", device_name(a));
    if (a->console.kind == CONSOLE_STDIO && b->console.kind == CONSOLE_STDIO)
        return error_set(err, -EINVAL,
                         "the devices %s and %s both want the terminal: give one of them "
                         "to=file:PATH, to=socket:PATH or to=none",
                         device_name(a), device_name(b));
    return 0;
}

int config_check(const struct vm_config *config, struct error *err)
{
    for (unsigned i = 0; i < config->device_count; i++) {
        const struct vm_device *device = &config->devices[i];
        if (config->console.kind == CONSOLE_STDIO && device->console.kind == CONSOLE_STDIO)
            return error_set(err, -EINVAL,
                             "the device %s and the console on COM1 both want the terminal: add "
                             "--console none, or give the device to=file:PATH, to=socket:PATH or "
                             "to=none",
                             device_name(device));
        for (unsigned j = 0; j < i; j++) {
            int result = check_pair(&config->devices[j], device, err);
            if (result)
                return result;
        }
    }
    return 0;
}
