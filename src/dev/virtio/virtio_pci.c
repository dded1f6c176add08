/*
 * The PCI transport of virtio; see virtio_pci.h. VIRTIO 1.2, 4.1.
 *
 * Register accesses come from any vCPU thread and hold the device's control lock, except for
 * notifications, which only wake a worker, and the ISR status.
 */
#include "dev/virtio/virtio_pci.h"

#include <errno.h>

/* What Windows' virtio drivers look for besides vendor and device. */
#define SUBSYSTEM_ID 0x1100
#define REVISION 1

#define PAGE 0x1000u

static const struct virtio_pci_layout plain_layout = {.registers_bar = 0, .msix_bar = 2};

/* Capability types, 4.1.4 */
enum cfg_type {
    CFG_COMMON = 1,
    CFG_NOTIFY = 2,
    CFG_ISR = 3,
    CFG_DEVICE = 4,
    CFG_PCI = 5,
};

/* struct virtio_pci_cap */
enum cap_layout {
    CAP_LENGTH = 2,
    CAP_CFG_TYPE = 3,
    CAP_BAR = 4,
    CAP_OFFSET = 8,
    CAP_REGION_LENGTH = 12,
    CAP_SIZE = 16,
    CAP_NOTIFY_MULTIPLIER = 16, /* only CFG_NOTIFY */
    CAP_PCI_DATA = 16,          /* only CFG_PCI */
    CAP_LONG_SIZE = 20,
};

/* struct virtio_pci_common_cfg, 4.1.4.3; addresses are 64 bits wide and accessed by halves. */
enum common_layout {
    DEVICE_FEATURE_SELECT = 0x00,
    DEVICE_FEATURE = 0x04,
    DRIVER_FEATURE_SELECT = 0x08,
    DRIVER_FEATURE = 0x0c,
    CONFIG_VECTOR = 0x10,
    NUM_QUEUES = 0x12,
    DEVICE_STATUS = 0x14,
    CONFIG_GENERATION = 0x15,
    QUEUE_SELECT = 0x16,
    QUEUE_SIZE = 0x18,
    QUEUE_VECTOR = 0x1a,
    QUEUE_ENABLE = 0x1c,
    QUEUE_NOTIFY_OFF = 0x1e,
    QUEUE_DESC = 0x20,
    QUEUE_DRIVER = 0x28,
    QUEUE_DEVICE = 0x30,
    QUEUE_NOTIFY_DATA = 0x38,
    QUEUE_RESET = 0x3a,
    COMMON_SIZE = 0x3c,
};

enum isr_bits {
    ISR_QUEUE = 1,
    ISR_CONFIG = 2,
};

/* The register width at each offset of the common configuration, 0 where none begins. */
static const uint8_t common_width[COMMON_SIZE] = {
    [DEVICE_FEATURE_SELECT] = 4, [DEVICE_FEATURE] = 4,
    [DRIVER_FEATURE_SELECT] = 4, [DRIVER_FEATURE] = 4,
    [CONFIG_VECTOR] = 2,         [NUM_QUEUES] = 2,
    [DEVICE_STATUS] = 1,         [CONFIG_GENERATION] = 1,
    [QUEUE_SELECT] = 2,          [QUEUE_SIZE] = 2,
    [QUEUE_VECTOR] = 2,          [QUEUE_ENABLE] = 2,
    [QUEUE_NOTIFY_OFF] = 2,      [QUEUE_DESC] = 4,
    [QUEUE_DESC + 4] = 4,        [QUEUE_DRIVER] = 4,
    [QUEUE_DRIVER + 4] = 4,      [QUEUE_DEVICE] = 4,
    [QUEUE_DEVICE + 4] = 4,      [QUEUE_NOTIFY_DATA] = 2,
    [QUEUE_RESET] = 2,
};

static struct virtio_pci *of_vdev(struct virtio_device *vdev)
{
    return CONTAINER_OF(vdev, struct virtio_pci, vdev);
}

/* Interrupts. */

static void virtio_pci_interrupt(struct virtio_device *vdev, struct virtio_queue *queue)
{
    struct virtio_pci *v = of_vdev(vdev);

    if (pci_msix_enabled(&v->pci)) {
        /* VIRTIO_NO_VECTOR is beyond the last one and goes nowhere. */
        pci_msix_notify(&v->pci, queue ? queue->vector : v->config_vector);
        return;
    }
    pthread_mutex_lock(&v->isr_lock);
    v->isr |= queue ? ISR_QUEUE : ISR_CONFIG;
    pci_intx_set(&v->pci, true);
    pthread_mutex_unlock(&v->isr_lock);
}

/* 4.1.4.5: reading it acknowledges the interrupt. */
static uint8_t isr_take(struct virtio_pci *v)
{
    pthread_mutex_lock(&v->isr_lock);
    uint8_t isr = v->isr;
    v->isr = 0;
    pci_intx_set(&v->pci, false);
    pthread_mutex_unlock(&v->isr_lock);
    return isr;
}

static bool virtio_pci_may_access(struct virtio_device *vdev)
{
    return pci_bus_master(&of_vdev(vdev)->pci);
}

static const struct virtio_transport pci_transport = {
    .interrupt = virtio_pci_interrupt,
    .may_access = virtio_pci_may_access,
};

/* The common configuration; vdev's control lock is held. */

static struct virtio_queue *selected_queue(struct virtio_pci *v)
{
    return v->queue_select < v->vdev.queue_count ? &v->vdev.queue[v->queue_select] : NULL;
}

/* 4.1.4.3: a queue that does not exist has size 0. */
static uint32_t queue_register_read(const struct virtio_queue *queue, unsigned offset)
{
    if (!queue)
        return 0;
    switch (offset) {
    case QUEUE_SIZE:
        return queue->ring.size;
    case QUEUE_VECTOR:
        return queue->vector;
    case QUEUE_ENABLE:
        return queue->enabled;
    case QUEUE_NOTIFY_OFF:
        return queue->index;
    case QUEUE_DESC:
        return (uint32_t)queue->ring.desc;
    case QUEUE_DESC + 4:
        return (uint32_t)(queue->ring.desc >> 32);
    case QUEUE_DRIVER:
        return (uint32_t)queue->ring.avail;
    case QUEUE_DRIVER + 4:
        return (uint32_t)(queue->ring.avail >> 32);
    case QUEUE_DEVICE:
        return (uint32_t)queue->ring.used;
    case QUEUE_DEVICE + 4:
        return (uint32_t)(queue->ring.used >> 32);
    default: /* QUEUE_RESET: complete when the write returns; QUEUE_NOTIFY_DATA: not offered */
        return 0;
    }
}

static uint32_t common_read(struct virtio_pci *v, unsigned offset)
{
    struct virtio_device *vdev = &v->vdev;

    switch (offset) {
    case DEVICE_FEATURE_SELECT:
        return v->feature_select;
    case DEVICE_FEATURE:
        return v->feature_select < 2 ? (uint32_t)(vdev->features >> 32 * v->feature_select) : 0;
    case DRIVER_FEATURE_SELECT:
        return v->driver_feature_select;
    case DRIVER_FEATURE:
        return v->driver_feature_select < 2
                   ? (uint32_t)(vdev->driver_features >> 32 * v->driver_feature_select)
                   : 0;
    case CONFIG_VECTOR:
        return v->config_vector;
    case NUM_QUEUES:
        return vdev->queue_count;
    case DEVICE_STATUS:
        return vdev->status;
    case CONFIG_GENERATION:
        return vdev->config_generation;
    case QUEUE_SELECT:
        return v->queue_select;
    default:
        return queue_register_read(selected_queue(v), offset);
    }
}

static void reset_registers(struct virtio_pci *v)
{
    v->feature_select = 0;
    v->driver_feature_select = 0;
    v->queue_select = 0;
    v->config_vector = VIRTIO_NO_VECTOR;
    isr_take(v);
}

/* 4.1.5.1.2: a vector that does not exist reads back as none. */
static uint16_t usable_vector(const struct virtio_pci *v, uint32_t vector)
{
    return vector < v->pci.msix_vectors ? (uint16_t)vector : VIRTIO_NO_VECTOR;
}

static void set_low(uint64_t *reg, uint32_t value)
{
    *reg = (*reg & ~0xffffffffull) | value;
}

static void set_high(uint64_t *reg, uint32_t value)
{
    *reg = (*reg & 0xffffffffull) | (uint64_t)value << 32;
}

/* Size and addresses of a queue are only accepted before it is enabled. */
static void queue_layout_write(struct virtqueue *ring, unsigned offset, uint32_t value)
{
    switch (offset) {
    case QUEUE_SIZE:
        ring->size = (uint16_t)value;
        break;
    case QUEUE_DESC:
        set_low(&ring->desc, value);
        break;
    case QUEUE_DESC + 4:
        set_high(&ring->desc, value);
        break;
    case QUEUE_DRIVER:
        set_low(&ring->avail, value);
        break;
    case QUEUE_DRIVER + 4:
        set_high(&ring->avail, value);
        break;
    case QUEUE_DEVICE:
        set_low(&ring->used, value);
        break;
    case QUEUE_DEVICE + 4:
        set_high(&ring->used, value);
        break;
    }
}

static void queue_register_write(struct virtio_pci *v, struct virtio_queue *queue, unsigned offset,
                                 uint32_t value)
{
    switch (offset) {
    case QUEUE_VECTOR:
        queue->vector = usable_vector(v, value);
        break;
    case QUEUE_ENABLE:
        if (value == 1)
            virtio_queue_enable(queue);
        break;
    case QUEUE_RESET:
        if (value == 1)
            virtio_queue_reset(queue);
        break;
    default:
        if (!queue->enabled)
            queue_layout_write(&queue->ring, offset, value);
    }
}

static void common_write(struct virtio_pci *v, unsigned offset, uint32_t value)
{
    struct virtio_device *vdev = &v->vdev;

    switch (offset) {
    case DEVICE_FEATURE_SELECT:
        v->feature_select = value;
        break;
    case DRIVER_FEATURE_SELECT:
        v->driver_feature_select = value;
        break;
    case DRIVER_FEATURE:
        virtio_set_driver_features(vdev, v->driver_feature_select, value);
        break;
    case CONFIG_VECTOR:
        v->config_vector = usable_vector(v, value);
        break;
    case DEVICE_STATUS:
        virtio_set_status(vdev, (uint8_t)value);
        if (!value)
            reset_registers(v);
        break;
    case QUEUE_SELECT:
        v->queue_select = (uint16_t)value;
        break;
    default:
        if (selected_queue(v))
            queue_register_write(v, selected_queue(v), offset, value);
    }
}

/* The BAR. */

/* 4.1.3.1: the driver accesses each register in its own width; addresses by halves. The iPXE of
 * Debian's option ROMs reads the lower half of 32-bit ones, and is content with it. */
static bool common_legal(unsigned offset, unsigned size, bool write)
{
    if (offset >= COMMON_SIZE)
        return false;
    return common_width[offset] == size || (!write && common_width[offset] > size);
}

static enum bus_result registers_read(void *opaque, uint64_t offset, unsigned size, uint64_t *value)
{
    struct virtio_pci *v = opaque;
    unsigned reg = offset % PAGE;

    if (offset < v->layout->registers_offset)
        return v->layout->before->read(v->before, offset, size, value);
    switch (offset - reg - v->layout->registers_offset) {
    case VIRTIO_PCI_COMMON:
        if (!common_legal(reg, size, false))
            return BUS_ERROR;
        pthread_mutex_lock(&v->vdev.control);
        *value = common_read(v, reg) & UINT32_MAX >> (32 - 8 * size);
        pthread_mutex_unlock(&v->vdev.control);
        return BUS_OK;
    case VIRTIO_PCI_ISR:
        *value = reg ? 0 : isr_take(v);
        return BUS_OK;
    case VIRTIO_PCI_DEVICE:
        pthread_mutex_lock(&v->vdev.control);
        *value = virtio_config_read(&v->vdev, reg, size);
        pthread_mutex_unlock(&v->vdev.control);
        return BUS_OK;
    default: /* VIRTIO_PCI_NOTIFY, or behind all */
        return BUS_UNHANDLED;
    }
}

static enum bus_result registers_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct virtio_pci *v = opaque;
    unsigned reg = offset % PAGE;

    if (offset < v->layout->registers_offset)
        return v->layout->before->write(v->before, offset, size, value);
    switch (offset - reg - v->layout->registers_offset) {
    case VIRTIO_PCI_COMMON:
        if (!common_legal(reg, size, true))
            return BUS_ERROR;
        pthread_mutex_lock(&v->vdev.control);
        common_write(v, reg, (uint32_t)value);
        pthread_mutex_unlock(&v->vdev.control);
        return BUS_OK;
    case VIRTIO_PCI_DEVICE:
        pthread_mutex_lock(&v->vdev.control);
        virtio_config_write(&v->vdev, reg, size, (uint32_t)value);
        pthread_mutex_unlock(&v->vdev.control);
        return BUS_OK;
    case VIRTIO_PCI_NOTIFY:
        virtio_notify(&v->vdev, reg / VIRTIO_PCI_NOTIFY_STRIDE);
        return BUS_OK;
    default: /* VIRTIO_PCI_ISR, or behind all */
        return BUS_UNHANDLED;
    }
}

static const struct region_ops registers_ops = {
    .read = registers_read,
    .write = registers_write,
    .max_size = 4,
};

/*
 * The configuration access capability, 4.1.4.9: a window of up to four bytes into the BAR for
 * software that cannot reach the BAR, as firmware in real mode.
 */

/* Does [offset, offset + size) touch the window, and does the window point at something? */
static bool window_accessed(struct virtio_pci *v, unsigned offset, unsigned size, uint32_t *at,
                            uint32_t *length)
{
    const uint8_t *cap = &v->pci.config[v->cfg_access];
    unsigned data = v->cfg_access + CAP_PCI_DATA;

    if (!v->cfg_access || offset >= data + 4 || offset + size <= data)
        return false;
    pthread_mutex_lock(&v->pci.lock);
    unsigned bar = cap[CAP_BAR];
    *at = pci_get32(cap, CAP_OFFSET);
    *length = pci_get32(cap, CAP_REGION_LENGTH);
    pthread_mutex_unlock(&v->pci.lock);
    return bar == v->layout->registers_bar && (*length == 1 || *length == 2 || *length == 4) &&
           !(*at % *length) && *at < v->pci.bar[bar].size;
}

static void config_reading(struct pci_device *pci, unsigned offset, unsigned size)
{
    struct virtio_pci *v = CONTAINER_OF(pci, struct virtio_pci, pci);
    uint32_t at, length;
    uint64_t value;

    if (!window_accessed(v, offset, size, &at, &length) ||
        registers_read(v, at, length, &value) != BUS_OK)
        return;
    pthread_mutex_lock(&pci->lock);
    pci_set32(pci->config, v->cfg_access + CAP_PCI_DATA, (uint32_t)value);
    pthread_mutex_unlock(&pci->lock);
}

static void config_written(struct pci_device *pci, unsigned offset, unsigned size)
{
    struct virtio_pci *v = CONTAINER_OF(pci, struct virtio_pci, pci);
    uint32_t at, length;

    if (offset < PCI_COMMAND + 2 && offset + size > PCI_COMMAND)
        virtio_access_changed(&v->vdev);
    if (window_accessed(v, offset, size, &at, &length)) {
        pthread_mutex_lock(&pci->lock);
        uint32_t value = pci_get32(pci->config, v->cfg_access + CAP_PCI_DATA);
        pthread_mutex_unlock(&pci->lock);
        value &= UINT32_MAX >> (32 - 8 * length);
        /* Not legal there: as for the BAR itself, nothing happens. */
        (void)registers_write(v, at, length, value);
    }
}

static const struct pci_device_ops virtio_pci_ops = {
    .config_written = config_written,
    .config_reading = config_reading,
};

/* Life. */

static unsigned add_cap(struct virtio_pci *v, enum cfg_type type, uint32_t offset, uint32_t length)
{
    bool is_long = type == CFG_NOTIFY || type == CFG_PCI;
    uint8_t size = is_long ? CAP_LONG_SIZE : CAP_SIZE;
    unsigned at = pci_add_capability(&v->pci, PCI_CAP_VENDOR, size);
    uint8_t *cap = &v->pci.config[at];

    cap[CAP_LENGTH] = size;
    cap[CAP_CFG_TYPE] = (uint8_t)type;
    cap[CAP_BAR] = (uint8_t)v->layout->registers_bar;
    pci_set32(cap, CAP_OFFSET, v->layout->registers_offset + offset);
    pci_set32(cap, CAP_REGION_LENGTH, length);
    return at;
}

static void add_capabilities(struct virtio_pci *v)
{
    uint8_t *mask = v->pci.write_mask;

    add_cap(v, CFG_COMMON, VIRTIO_PCI_COMMON, COMMON_SIZE);
    add_cap(v, CFG_ISR, VIRTIO_PCI_ISR, 1);
    /* 4.1.4.6: no capability for a device without configuration. */
    if (v->vdev.config_size)
        add_cap(v, CFG_DEVICE, VIRTIO_PCI_DEVICE, v->vdev.config_size);
    unsigned notify =
        add_cap(v, CFG_NOTIFY, VIRTIO_PCI_NOTIFY, v->vdev.queue_count * VIRTIO_PCI_NOTIFY_STRIDE);
    pci_set32(v->pci.config, notify + CAP_NOTIFY_MULTIPLIER, VIRTIO_PCI_NOTIFY_STRIDE);

    unsigned access = add_cap(v, CFG_PCI, 0, 0);
    mask[access + CAP_BAR] = 0xff;
    pci_set32(mask, access + CAP_OFFSET, UINT32_MAX);
    pci_set32(mask, access + CAP_REGION_LENGTH, UINT32_MAX);
    pci_set32(mask, access + CAP_PCI_DATA, UINT32_MAX);
    v->cfg_access = (uint8_t)access;
}

/* A power of two, as a BAR has to have. */
static uint64_t bar_size(const struct virtio_pci_layout *layout)
{
    uint64_t size = VIRTIO_PCI_BAR_SIZE;

    while (size < layout->registers_offset + VIRTIO_PCI_BAR_SIZE)
        size *= 2;
    return size;
}

void virtio_pci_build(struct virtio_pci *v, const struct virtio_pci_config *config,
                      uint32_t class_code, const struct device_ops *ops)
{
    const struct pci_ident ident = {
        .vendor = VIRTIO_PCI_VENDOR,
        .device = (uint16_t)(VIRTIO_PCI_DEVICE_BASE + v->vdev.type),
        .subsystem_vendor = VIRTIO_PCI_VENDOR,
        .subsystem = SUBSYSTEM_ID,
        .revision = REVISION,
        .class_code = class_code,
        .interrupt_pin = 1,
    };

    v->pci.dev = (struct device){.ops = ops, .name = config->name, .state_object = v};
    v->vdev.transport = &pci_transport;
    v->config_vector = VIRTIO_NO_VECTOR;
    pthread_mutex_init(&v->isr_lock, NULL);
    pci_device_init(&v->pci, config->bus, &virtio_pci_ops, &ident);
    if (!v->layout)
        v->layout = &plain_layout;
    pci_add_bar(&v->pci, v->layout->registers_bar, PCI_BAR_MEM64, bar_size(v->layout), config->name,
                &registers_ops, v);
    /* One for each queue and one for configuration changes. */
    pci_add_msix(&v->pci, v->layout->msix_bar, v->vdev.queue_count + 1);
    pci_add_express(&v->pci);
    add_capabilities(v);
}

int virtio_pci_attach(struct virtio_pci *v, const struct virtio_pci_config *config,
                      uint32_t class_code, const struct device_ops *ops, struct error *err)
{
    virtio_pci_build(v, config, class_code, ops);
    return pci_device_attach(&v->pci, config->devfn, err);
}

void virtio_pci_done(struct virtio_pci *v)
{
    virtio_done(&v->vdev);
    pci_device_done(&v->pci);
    pthread_mutex_destroy(&v->isr_lock);
}

static struct virtio_pci *of_device(struct device *dev)
{
    return CONTAINER_OF(dev, struct virtio_pci, pci.dev);
}

int virtio_pci_start(struct device *dev, struct error *err)
{
    virtio_resume(&of_device(dev)->vdev);
    return 0;
}

void virtio_pci_pause(struct device *dev)
{
    virtio_pause(&of_device(dev)->vdev);
}

void virtio_pci_resume(struct device *dev)
{
    virtio_resume(&of_device(dev)->vdev);
}

void virtio_pci_reset(struct device *dev)
{
    struct virtio_pci *v = of_device(dev);

    pthread_mutex_lock(&v->vdev.control);
    virtio_set_status(&v->vdev, 0);
    reset_registers(v);
    pthread_mutex_unlock(&v->vdev.control);
    pci_device_reset(&v->pci);
}

const struct state_field virtio_pci_fields[] = {
    STATE_STRUCT(struct virtio_pci, pci, pci_device_fields),
    STATE_STRUCT(struct virtio_pci, vdev, virtio_device_fields),
    STATE_INT(struct virtio_pci, feature_select),
    STATE_INT(struct virtio_pci, driver_feature_select),
    STATE_INT(struct virtio_pci, queue_select),
    STATE_INT(struct virtio_pci, config_vector),
    STATE_INT(struct virtio_pci, isr),
    STATE_END,
};

int virtio_pci_post_load(struct virtio_pci *v, struct error *err)
{
    int ret = virtio_post_load(&v->vdev, err);

    return ret ? ret : pci_device_post_load(&v->pci, err);
}
