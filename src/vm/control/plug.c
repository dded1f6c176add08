/* Hot-plug over the control socket; see plug.h. */
#include "vm/control/plug.h"

#include <errno.h>
#include <string.h>

#include "vm/vm.h"

/* A string that may be missing, and is NULL then. */
static int optional_string(const char **out, json_t *request, const char *key, struct error *err)
{
    *out = NULL;
    return json_object_get(request, key) ? command_string(out, request, key, err) : 0;
}

static int take_slot(unsigned *out, json_t *request, struct error *err)
{
    json_t *value = json_object_get(request, "slot");
    json_int_t slot = json_integer_value(value);

    if (value && (slot < 1 || slot > PC_MAX_SLOTS))
        return error_set(err, -EINVAL, "a slot is a number from 1 to %d", PC_MAX_SLOTS);
    *out = (unsigned)slot;
    return 0;
}

/* What the options of each kind of device say, and where. */
struct options {
    struct block_options disk;
    struct net_options net;
};

static int parse(struct pc_plug *plug, struct options *options, const char *kind, const char *text,
                 struct error *err)
{
    if (!strcmp(kind, "rng")) {
        plug->kind = PC_PLUG_RNG;
        return text ? error_set(err, -EINVAL, "rng takes no options") : 0;
    }
    if (strcmp(kind, "disk") != 0 && strcmp(kind, "net") != 0)
        return error_set(err, -EINVAL, "there is no kind '%.40s': use disk, net or rng", kind);
    if (!text)
        return error_set(err, -EINVAL, "%s needs 'options', as --%s takes them", kind, kind);
    if (!strcmp(kind, "disk")) {
        plug->kind = PC_PLUG_DISK;
        plug->disk = &options->disk;
        return block_parse_options(&options->disk, text, err);
    }
    plug->kind = PC_PLUG_NET;
    plug->net = &options->net;
    return net_parse_options(&options->net, text, err);
}

int plug_device_add(struct control *control, json_t *request, json_t *reply, struct error *err)
{
    const char *kind, *text, *name;
    struct options options;
    struct pc_plug plug = {0};

    int result = command_string(&kind, request, "kind", err);
    if (!result)
        result = optional_string(&text, request, "options", err);
    if (!result)
        result = optional_string(&plug.name, request, "name", err);
    if (!result)
        result = take_slot(&plug.slot, request, err);
    if (!result)
        result = parse(&plug, &options, kind, text, err);
    if (!result)
        result = vm_plug(control->vm, &plug, &name, err);
    if (result)
        return result;
    (void)json_object_set_new(reply, "device", json_string(name));
    return CONTROL_DONE;
}

int plug_device_del(struct control *control, json_t *request, json_t *reply, struct error *err)
{
    bool force = json_is_true(json_object_get(request, "force"));
    const char *name;
    int result = command_string(&name, request, "device", err);

    return result ? result : vm_unplug(control->vm, name, force, err);
}

int plug_slots(struct control *control, json_t *request, json_t *reply, struct error *err)
{
    json_t *slots = json_array();
    const char *device;
    bool leaving;

    for (unsigned i = 0; pc_slot(vm_get_board(control->vm), i, &device, &leaving); i++) {
        json_t *slot =
            json_pack("{s:i, s:s?, s:b}", "slot", i + 1, "device", device, "leaving", leaving);
        (void)json_array_append_new(slots, slot);
    }
    (void)json_object_set_new(reply, "slots", slots);
    return CONTROL_DONE;
}
