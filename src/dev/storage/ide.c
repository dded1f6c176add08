/* The IDE controller as a PCI function, and its lifecycle; see ide.h and ide_internal.h. */
#include "dev/storage/ide_internal.h"

#include <errno.h>
#include <stdlib.h>

#define PIIX4_VENDOR 0x8086
#define PIIX4_IDE 0x7111
#define PIIX4_REVISION 1
#define IDE_CLASS 0x010180 /* both channels in compatibility mode, bus master */
#define MASTER_BAR 4
#define MASTER_BAR_SIZE 16

/* 82371AB, 5.1: timing registers, which change nothing here. The upper bit of each IDETIM word says
 * that the channel decodes its ports, which drivers look at. */
#define IDETIM 0x40
#define IDETIM_DECODE 0x8000u
#define TIMING_END 0x58

static const struct {
    uint16_t command, control;
    const char *name;
} places[IDE_CHANNELS] = {{0x1f0, 0x3f6, "ide0"}, {0x170, 0x376, "ide1"}};

void ide_enter(struct ide *ide)
{
    pthread_mutex_lock(&ide->lock);
}

/* Requests go to the medium of the drive that the channel's job is of. */
void ide_leave(struct ide *ide)
{
    for (unsigned i = 0; i < IDE_CHANNELS; i++) {
        struct ide_channel *channel = &ide->channel[i];
        ata_queue_submit(&channel->queue, channel->unit[channel->owner].drive.medium);
    }
    pthread_mutex_unlock(&ide->lock);
}

/* Transfers wait while the function may not access memory; those under way end first. */
static void config_written(struct pci_device *pci, unsigned offset, unsigned size)
{
    struct ide *ide = CONTAINER_OF(pci, struct ide, pci);

    if (offset > PCI_COMMAND + 1)
        return;
    ide_enter(ide);
    for (unsigned i = 0; i < IDE_CHANNELS; i++) {
        if (!pci_bus_master(pci))
            ata_queue_drain(&ide->channel[i].queue);
        ide_dma_run(&ide->channel[i]);
    }
    ide_leave(ide);
}

static const struct pci_device_ops pci_ops = {
    .config_written = config_written,
};

static void ide_pause(struct device *dev)
{
    struct ide *ide = CONTAINER_OF(dev, struct ide, pci.dev);

    ide_enter(ide);
    for (unsigned i = 0; i < IDE_CHANNELS && !ide->paused; i++)
        ata_queue_hold(&ide->channel[i].queue);
    ide->paused = true;
    for (unsigned i = 0; i < IDE_CHANNELS; i++)
        ata_queue_drain(&ide->channel[i].queue);
    ide_leave(ide);
}

/* What became ready while the controller was held, or waited when it was saved. */
static void ide_resume(struct device *dev)
{
    struct ide *ide = CONTAINER_OF(dev, struct ide, pci.dev);

    ide_enter(ide);
    for (unsigned i = 0; i < IDE_CHANNELS && ide->paused; i++)
        ata_queue_release(&ide->channel[i].queue);
    ide->paused = false;
    for (unsigned i = 0; i < IDE_CHANNELS; i++)
        ide_dma_run(&ide->channel[i]);
    ide_leave(ide);
}

static int ide_start(struct device *dev, struct error *err)
{
    ide_resume(dev);
    return 0;
}

static void ide_reset(struct device *dev)
{
    struct ide *ide = CONTAINER_OF(dev, struct ide, pci.dev);

    pci_device_reset(&ide->pci);
    ide_enter(ide);
    for (unsigned i = 0; i < IDE_CHANNELS; i++)
        ide_channel_reset(&ide->channel[i]);
    ide_leave(ide);
}

static void ide_destroy(struct device *dev)
{
    struct ide *ide = CONTAINER_OF(dev, struct ide, pci.dev);

    for (unsigned i = 0; i < IDE_CHANNELS; i++) {
        struct ide_channel *channel = &ide->channel[i];
        if (channel->command_block.added)
            bus_remove(ide->pci.bus->bus, BUS_PORT, &channel->command_block);
        if (channel->control_block.added)
            bus_remove(ide->pci.bus->bus, BUS_PORT, &channel->control_block);
        ata_drive_done(&channel->unit[0].drive);
        ata_drive_done(&channel->unit[1].drive);
        ata_queue_done(&channel->queue);
    }
    pci_device_done(&ide->pci);
    pthread_mutex_destroy(&ide->lock);
    free(ide);
}

static int post_load_channel(struct ide *ide, struct ide_channel *channel, struct error *err)
{
    for (unsigned i = 0; i < ARRAY_SIZE(channel->unit); i++) {
        struct ide_unit *unit = &channel->unit[i];
        int ret = unit->present ? ata_drive_post_load(&unit->drive, ide->pci.dev.name, err) : 0;
        if (ret)
            return ret;
    }
    if (!ide_channel_valid(channel))
        return error_set(err, -EBADMSG, "%s: impossible state of a channel", ide->pci.dev.name);
    return 0;
}

static int ide_post_load(void *object, struct error *err)
{
    struct ide *ide = object;

    for (unsigned i = 0; i < IDE_CHANNELS; i++) {
        int ret = post_load_channel(ide, &ide->channel[i], err);
        if (ret)
            return ret;
    }
    return pci_device_post_load(&ide->pci, err);
}

static const struct state_field ide_fields[] = {
    STATE_STRUCT(struct ide, pci, pci_device_fields),
    STATE_STRUCT_ARRAY(struct ide, channel, ide_channel_fields),
    STATE_END,
};

static const struct state_desc ide_state = {
    .name = "ide",
    .version = 1,
    .fields = ide_fields,
    .post_load = ide_post_load,
};

static const struct device_ops ide_ops = {
    .type = "ide",
    .start = ide_start,
    .pause = ide_pause,
    .resume = ide_resume,
    .reset = ide_reset,
    .destroy = ide_destroy,
    .state = &ide_state,
};

static int add_channel(struct ide *ide, unsigned number, const struct irq_line *irq,
                       struct error *err)
{
    struct ide_channel *channel = &ide->channel[number];

    channel->irq = *irq;
    channel->command_block = (struct region){
        .name = places[number].name, .ops = &ide_command_ops, .opaque = channel, .size = 8};
    channel->control_block = (struct region){
        .name = places[number].name, .ops = &ide_control_ops, .opaque = channel, .size = 1};
    struct bus *bus = ide->pci.bus->bus;
    int ret = bus_add(bus, BUS_PORT, &channel->command_block, places[number].command, err);
    if (!ret)
        ret = bus_add(bus, BUS_PORT, &channel->control_block, places[number].control, err);
    return ret;
}

int ide_new(struct ide **out, const struct ide_config *config, struct error *err)
{
    static const struct pci_ident ident = {
        .vendor = PIIX4_VENDOR,
        .device = PIIX4_IDE,
        .subsystem_vendor = PIIX4_VENDOR,
        .subsystem = PIIX4_IDE,
        .revision = PIIX4_REVISION,
        .class_code = IDE_CLASS,
    };
    struct ide *ide = calloc(1, sizeof(*ide));
    int ret = 0;

    if (!ide)
        return error_set(err, -ENOMEM, "%s: no memory for the device", config->name);
    pthread_mutex_init(&ide->lock, NULL);
    for (unsigned i = 0; i < IDE_CHANNELS; i++) {
        ide->channel[i].ide = ide;
        ata_queue_init(&ide->channel[i].queue, &ide->lock);
    }
    ide->pci.dev = (struct device){.ops = &ide_ops, .name = config->name, .state_object = ide};
    pci_device_init(&ide->pci, config->bus, &pci_ops, &ident);
    pci_add_bar(&ide->pci, MASTER_BAR, PCI_BAR_IO, MASTER_BAR_SIZE, config->name, &ide_master_ops,
                ide);
    for (unsigned i = IDETIM; i < TIMING_END; i++)
        ide->pci.write_mask[i] = 0xff;
    for (unsigned i = 0; i < IDE_CHANNELS; i++)
        pci_set16(ide->pci.config, IDETIM + 2 * i, IDETIM_DECODE);
    for (unsigned i = 0; i < IDE_CHANNELS && !ret; i++)
        ret = add_channel(ide, i, &config->irq[i], err);
    if (!ret)
        ret = pci_device_attach(&ide->pci, config->devfn, err);
    if (ret) {
        ide_destroy(&ide->pci.dev);
        return ret;
    }
    *out = ide;
    return 0;
}

struct device *ide_device(struct ide *ide)
{
    return &ide->pci.dev;
}

void ide_add_drive(struct ide *ide, unsigned unit, const struct ata_drive_config *config)
{
    struct ide_unit *place = &ide->channel[unit / 2].unit[unit % 2];

    ata_drive_init(&place->drive, config);
    place->present = true;
}

int ide_change_medium(struct ide *ide, unsigned unit, struct block_device *medium, bool force,
                      struct block_device **old)
{
    struct ide_channel *channel = &ide->channel[unit / 2];
    struct ata_drive *drive = &channel->unit[unit % 2].drive;

    ide_enter(ide);
    ata_queue_drain(&channel->queue);
    int ret = ata_drive_change(drive, medium, force, old);
    if (!ret)
        ide_channel_medium_changed(channel, unit % 2);
    ide_dma_run(channel); /* which the wait has held back */
    ide_leave(ide);
    return ret;
}
