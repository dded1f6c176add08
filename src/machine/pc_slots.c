/*
 * The board's hot-plug slots: root ports (dev/pci/root_port.h), and devices that are put into them
 * and taken out while the guest runs. Control thread; everything but building: vCPUs and devices
 * stopped, so that no look-up of any thread meets a device that comes or goes.
 *
 * In the list of devices what is in a slot follows its root port. So the order, and with it that of
 * saved states, does not tell in which order things were plugged in.
 */
#include "machine/pc_internal.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "dev/virtio/virtio_rng.h"

int pc_add_slots(struct pc *pc, struct error *err)
{
    for (unsigned i = 0; i < pc->config.slot_count; i++) {
        struct pc_slot *slot = &pc->slot[i];
        const struct root_port_config config = {
            .name = slot->port_name,
            .bus = pci_host_bus(pc->pci_host),
            .slot = i + 1,
            .attention = pc_ask_rearrange,
            .opaque = pc,
        };

        snprintf(slot->port_name, sizeof(slot->port_name), "slot%u", i + 1);
        int result = root_port_new(&slot->port, &config, err);
        if (result)
            return result;
        pc_add_device(pc, root_port_device(slot->port));
    }
    return 0;
}

bool pc_slot(const struct pc *pc, unsigned index, const char **device, bool *leaving)
{
    if (index >= pc->config.slot_count)
        return false;
    const struct pc_slot *slot = &pc->slot[index];
    *device = slot->device ? slot->name : NULL;
    *leaving = root_port_is_leaving(slot->port);
    return true;
}

/* ---- names ---- */

/* Drives behind a controller are no devices of the board's. */
static bool is_taken(const struct pc *pc, const char *name)
{
    for (unsigned i = 0; i < pc->device_count; i++) {
        if (!strcmp(pc->device[i]->name, name))
            return true;
    }
    for (unsigned i = 0; i < pc->config.disk_count; i++) {
        if (!strcmp(pc->drive[i].name, name))
            return true;
    }
    return false;
}

static int check_name(const struct pc *pc, const char *name, struct error *err)
{
    size_t length = strlen(name);
    bool good = length >= 1 && length <= PC_NAME_MAX;

    for (size_t i = 0; i < length; i++)
        good = good && (isalnum((unsigned char)name[i]) || strchr("-_.", name[i]));
    if (!good)
        return error_set(err, -EINVAL,
                         "'%.40s' is no name for a device: use up to %d letters, digits, '-', '_' "
                         "and '.'",
                         name, PC_NAME_MAX);
    if (is_taken(pc, name))
        return error_set(err, -EEXIST, "there is a device %s already", name);
    return 0;
}

static void choose_name(const struct pc *pc, enum pc_plug_kind kind, char name[PC_NAME_MAX + 1])
{
    static const char *const kinds[] = {
        [PC_PLUG_DISK] = "disk", [PC_PLUG_NET] = "net", [PC_PLUG_RNG] = "rng"};

    for (unsigned i = 0; i == 0 || is_taken(pc, name); i++)
        snprintf(name, PC_NAME_MAX + 1, "%s%u", kinds[kind], i);
}

/* ---- in ---- */

static struct pc_slot *no_slot(const struct pc *pc, unsigned wanted, struct error *err)
{
    unsigned count = pc->config.slot_count;

    if (!count)
        error_set(err, -ENOSPC,
                  "the VM has no PCI slots for devices that come later: the option --pci-slots N "
                  "gives it some");
    else if (wanted > count)
        error_set(err, -ENOENT, "there is no PCI slot %u: the VM has %u", wanted, count);
    else if (wanted)
        error_set(err, -ENOSPC, "PCI slot %u is taken by %s", wanted, pc->slot[wanted - 1].name);
    else
        error_set(err, -ENOSPC,
                  "all %u PCI slots are taken: the option --pci-slots gives a VM up to %d", count,
                  PC_MAX_SLOTS);
    return NULL;
}

/* Slots take turns: a guest's driver may need time, or worse, after a device was pulled out. */
static struct pc_slot *find_empty(struct pc *pc, unsigned wanted, struct error *err)
{
    unsigned count = pc->config.slot_count;

    if (wanted > count)
        return no_slot(pc, wanted, err);
    for (unsigned i = 0; i < (wanted ? 1 : count); i++) {
        unsigned index = wanted ? wanted - 1 : (pc->next_slot + i) % count;
        if (!pc->slot[index].device)
            return &pc->slot[index];
    }
    return no_slot(pc, wanted, err);
}

static int new_device(struct pc *pc, const struct pc_slot *slot, const struct pc_plug *plug,
                      struct device **device, struct error *err)
{
    const struct virtio_pci_config place = {slot->name, root_port_bus(slot->port), 0};

    switch (plug->kind) {
    case PC_PLUG_DISK:
        if (plug->disk->interface != BLOCK_VIRTIO)
            return error_set(err, -EINVAL,
                             "%s: only virtio disks go into a PCI slot, without if= or with "
                             "if=virtio",
                             plug->disk->path);
        return pc_new_disk(pc, &place, plug->disk, device, err);
    case PC_PLUG_NET:
        return pc_new_card(pc, &place, plug->net, PC_MAX_NETS + (unsigned)(slot - pc->slot), device,
                           err);
    case PC_PLUG_RNG:
        return virtio_rng_new(device, &place, err);
    }
    return -EINVAL;
}

int pc_plug(struct pc *pc, const struct pc_plug *plug, const char **name, struct error *err)
{
    bool started = pc->started > 0;
    struct pc_slot *slot = find_empty(pc, plug->slot, err);
    struct device *device;

    if (!slot)
        return -ENOSPC;
    int result = plug->name ? check_name(pc, plug->name, err) : 0;
    if (result)
        return result;
    if (plug->name)
        strcpy(slot->name, plug->name);
    else
        choose_name(pc, plug->kind, slot->name);
    result = new_device(pc, slot, plug, &device, err);
    if (result)
        return result;
    if (started && device->ops->start) {
        result = device->ops->start(device, err);
        if (device->ops->pause)
            device->ops->pause(device);
    }
    if (result) {
        device->ops->destroy(device);
        return result;
    }
    slot->device = device;
    pc->next_slot = (unsigned)(slot - pc->slot) + 1;
    pc_insert_device(pc, root_port_device(slot->port), device);
    root_port_plugged(slot->port, started);
    *name = slot->name;
    return 0;
}

/* ---- out ---- */

static void take_out(struct pc *pc, struct pc_slot *slot)
{
    struct device *device = slot->device;

    root_port_unplugged(slot->port);
    pc_take_device(pc, device);
    slot->device = NULL;
    device->ops->destroy(device);
    if (pc->config.unplugged)
        pc->config.unplugged(pc->config.events.opaque, slot->name);
}

static struct pc_slot *find_plugged(struct pc *pc, const char *name, struct error *err)
{
    char known[256] = "";

    for (unsigned i = 0; i < pc->config.slot_count; i++) {
        struct pc_slot *slot = &pc->slot[i];
        if (!slot->device)
            continue;
        if (!strcmp(slot->name, name))
            return slot;
        strncat(known, known[0] ? ", " : "", sizeof(known) - strlen(known) - 1);
        strncat(known, slot->name, sizeof(known) - strlen(known) - 1);
    }
    if (is_taken(pc, name))
        error_set(err, -ENOENT, "%s is in no slot: it cannot be taken out", name);
    else
        error_set(err, -ENOENT, "there is no device '%.40s' in a slot%s%s", name,
                  known[0] ? "; there are: " : "", known);
    return NULL;
}

int pc_unplug(struct pc *pc, const char *name, bool force, struct error *err)
{
    struct pc_slot *slot = find_plugged(pc, name, err);

    if (!slot)
        return -ENOENT;
    if (force || !pc->started || root_port_is_off(slot->port)) {
        take_out(pc, slot);
        return 0;
    }
    if (root_port_ask_removal(slot->port))
        return error_set(err, -EBUSY,
                         "the guest has been asked for %s, and is about to give it back", name);
    return 0;
}

void pc_serve_slots(struct pc *pc)
{
    for (unsigned i = 0; i < pc->config.slot_count; i++) {
        struct pc_slot *slot = &pc->slot[i];
        if (!slot->device || !root_port_link_lost(slot->port))
            continue;
        if (root_port_is_leaving(slot->port) && root_port_is_off(slot->port))
            take_out(pc, slot);
        else
            slot->device->ops->reset(slot->device);
    }
}
