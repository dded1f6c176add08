/*
 * The 82574L as a PCI function and a device: configuration, life, state; see e1000e.h and
 * e1000e_internal.h. Datasheet chapter 9 (PCI configuration). Control thread, but for the hooks.
 */
#include "dev/net/e1000e_internal.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define VENDOR_INTEL 0x8086
#define DEVICE_82574L 0x10d3
#define SUBSYSTEM_82574L 0xa01f
#define NET_CLASS 0x020000

enum e1000e_bar { BAR_REGISTERS = 0, BAR_IO = 2, BAR_MSIX = 3 };

void e1000e_access_changed(struct e1000e *dev)
{
    /* The frame in the worker's hand is not given back into memory that is no longer the card's. */
    if (!e1000e_may_access(dev))
        dev->epoch++;
    e1000e_irq_update(dev);
    e1000e_tx_kick(dev);
}

/* Bus mastering and the way of interrupting may have changed. */
static void config_written(struct pci_device *pci, unsigned offset, unsigned size)
{
    struct e1000e *dev = CONTAINER_OF(pci, struct e1000e, pci);

    pthread_mutex_lock(&dev->lock);
    e1000e_access_changed(dev);
    pthread_mutex_unlock(&dev->lock);
    net_receive_ready(dev->backend);
}

static const struct pci_device_ops pci_ops = {
    .config_written = config_written,
};

/* ---- the card, for the backend ---- */

static void card_writable(void *opaque)
{
    struct e1000e *dev = opaque;

    pthread_mutex_lock(&dev->lock);
    e1000e_tx_kick(dev);
    pthread_mutex_unlock(&dev->lock);
}

static const struct net_card_ops card_ops = {
    .receive = e1000e_receive,
    .writable = card_writable,
};

/* ---- life ---- */

static struct e1000e *of_device(struct device *device)
{
    return CONTAINER_OF(device, struct e1000e, pci.dev);
}

static int create_worker(struct e1000e *dev, struct error *err)
{
    sigset_t all, before;
    char name[16]; /* the kernel's limit */

    /* Signals are for the control and vCPU threads. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int ret = pthread_create(&dev->worker, NULL, e1000e_tx_main, dev);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (ret)
        return error_set(err, -ret, "%s: no thread for sending: %s", dev->pci.dev.name,
                         strerror(ret));
    snprintf(name, sizeof(name), "%.12s/tx", dev->pci.dev.name);
    pthread_setname_np(dev->worker, name);
    dev->worker_exists = true;
    return 0;
}

static void e1000e_resume(struct device *device)
{
    struct e1000e *dev = of_device(device);

    pthread_mutex_lock(&dev->lock);
    dev->paused = false;
    e1000e_irq_update(dev);
    e1000e_tx_kick(dev);
    pthread_mutex_unlock(&dev->lock);
    net_receive_ready(dev->backend);
}

static int e1000e_start(struct device *device, struct error *err)
{
    int ret = create_worker(of_device(device), err);

    if (!ret)
        e1000e_resume(device);
    return ret;
}

static void e1000e_pause(struct device *device)
{
    struct e1000e *dev = of_device(device);

    pthread_mutex_lock(&dev->lock);
    dev->paused = true;
    while (dev->busy)
        pthread_cond_wait(&dev->worker_idle, &dev->lock);
    pthread_mutex_unlock(&dev->lock);
}

static void e1000e_reset(struct device *device)
{
    struct e1000e *dev = of_device(device);

    pthread_mutex_lock(&dev->lock);
    e1000e_registers_reset(dev);
    e1000e_phy_reset(dev);
    dev->io_address = 0;
    pthread_mutex_unlock(&dev->lock);
    pci_device_reset(&dev->pci);
}

static void e1000e_free(struct e1000e *dev)
{
    pthread_mutex_lock(&dev->lock);
    dev->quit = true;
    pthread_cond_signal(&dev->worker_wake);
    pthread_mutex_unlock(&dev->lock);
    if (dev->worker_exists)
        pthread_join(dev->worker, NULL);
    timer_cancel_sync(&dev->moderation);
    pci_device_done(&dev->pci);
    pthread_cond_destroy(&dev->worker_idle);
    pthread_cond_destroy(&dev->worker_wake);
    pthread_mutex_destroy(&dev->lock);
    free(dev);
}

static void e1000e_destroy(struct device *device)
{
    struct e1000e *dev = of_device(device);

    e1000e_pause(device);
    net_close(dev->backend);
    e1000e_free(dev);
}

/* ---- state ---- */

static int e1000e_post_load(void *object, struct error *err)
{
    struct e1000e *dev = object;

    if (dev->systim_since > clock_now(dev->clock))
        return error_set(err, -EBADMSG, "%s: the saved time stamp is in the future",
                         dev->pci.dev.name);
    e1000e_registers_loaded(dev);
    return pci_device_post_load(&dev->pci, err);
}

static const struct state_field context_fields[] = {
    STATE_INT(struct e1000e_context, ipcss), STATE_INT(struct e1000e_context, ipcso),
    STATE_INT(struct e1000e_context, ipcse), STATE_INT(struct e1000e_context, tucss),
    STATE_INT(struct e1000e_context, tucso), STATE_INT(struct e1000e_context, tucse),
    STATE_INT(struct e1000e_context, tucmd), STATE_INT(struct e1000e_context, hdrlen),
    STATE_INT(struct e1000e_context, mss),   STATE_END,
};

static const struct state_field e1000e_fields[] = {
    STATE_STRUCT(struct e1000e, pci, pci_device_fields),
    STATE_INT_ARRAY(struct e1000e, reg),
    STATE_INT_ARRAY(struct e1000e, phy),
    STATE_INT(struct e1000e, io_address),
    STATE_INT(struct e1000e, systim_base),
    STATE_INT(struct e1000e, systim_since),
    STATE_STRUCT_ARRAY(struct e1000e, context, context_fields),
    STATE_INT(struct e1000e, signalled),
    STATE_INT_ARRAY(struct e1000e, quiet_until),
    STATE_END,
};

static const struct state_desc e1000e_state = {
    .name = "e1000e",
    .version = 1,
    .fields = e1000e_fields,
    .post_load = e1000e_post_load,
};

static const struct device_ops e1000e_ops = {
    .type = "e1000e",
    .start = e1000e_start,
    .pause = e1000e_pause,
    .resume = e1000e_resume,
    .reset = e1000e_reset,
    .destroy = e1000e_destroy,
    .state = &e1000e_state,
};

int e1000e_new(struct device **out, const struct e1000e_config *config, struct net_backend *backend,
               struct error *err)
{
    static const struct pci_ident ident = {
        .vendor = VENDOR_INTEL,
        .device = DEVICE_82574L,
        .subsystem_vendor = VENDOR_INTEL,
        .subsystem = SUBSYSTEM_82574L,
        .class_code = NET_CLASS,
        .interrupt_pin = 1,
    };
    struct e1000e *dev = calloc(1, sizeof(*dev));

    if (!dev)
        return error_set(err, -ENOMEM, "%s: no memory for the device", config->name);
    dev->backend = backend;
    dev->clock = config->clock;
    dev->memory = config->bus->memory;
    dev->paused = true;
    pthread_mutex_init(&dev->lock, NULL);
    pthread_cond_init(&dev->worker_wake, NULL);
    pthread_cond_init(&dev->worker_idle, NULL);
    timer_init(&dev->moderation, config->clock, e1000e_irq_timer, dev);

    dev->pci.dev = (struct device){&e1000e_ops, config->name, dev};
    pci_device_init(&dev->pci, config->bus, &pci_ops, &ident);
    pci_add_bar(&dev->pci, BAR_REGISTERS, PCI_BAR_MEM32, E1000E_BAR_SIZE, config->name,
                &e1000e_registers_ops, dev);
    pci_add_bar(&dev->pci, BAR_IO, PCI_BAR_IO, E1000E_IO_SIZE, config->name, &e1000e_io_ops, dev);
    pci_add_msi(&dev->pci, 1);
    pci_add_express(&dev->pci);
    pci_add_msix(&dev->pci, BAR_MSIX, E1000E_VECTORS);
    e1000e_nvm_init(dev, config->mac);
    e1000e_phy_reset(dev);
    int ret = config->rom ? pci_add_rom_file(&dev->pci, config->rom, config->rom_package, err) : 0;
    if (!ret)
        ret = pci_device_attach(&dev->pci, config->devfn, err);
    if (!ret) {
        e1000e_registers_reset(dev);
        ret = net_attach(backend, &card_ops, dev, err);
    }
    if (ret) {
        e1000e_free(dev);
        return ret;
    }
    *out = &dev->pci.dev;
    return 0;
}
