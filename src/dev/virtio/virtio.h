/*
 * What all virtio devices have in common, whatever bus they sit on: status and feature negotiation,
 * queues and their worker threads, configuration changes. VIRTIO 1.2, chapters 2 and 3.
 *
 * Threads. vCPU threads reach the functions of the "transport" part. Each queue that the driver
 * uses has one worker thread, started at its first notification: a notification only wakes it. The
 * worker calls ops->serve(), which pops and pushes under the queue's lock.
 *
 * Locks, outermost first:
 *   control  serialises what starts, stops and reconfigures queues; held while waiting for workers,
 *            so never taken by them
 *   queue    struct virtio_queue.lock: the rings
 *   worker   struct virtio_queue.worker_lock: what the worker should do
 *   then pci_device.lock through transport->interrupt
 */
#ifndef SILL_DEV_VIRTIO_VIRTIO_H
#define SILL_DEV_VIRTIO_VIRTIO_H

#include <pthread.h>
#include <stdatomic.h>

#include "dev/virtio/virtqueue.h"

#define VIRTIO_MAX_QUEUES 16
#define VIRTIO_NO_VECTOR 0xffff

/* Device types, chapter 5 */
enum virtio_type {
    VIRTIO_TYPE_NET = 1,
    VIRTIO_TYPE_BLK = 2,
    VIRTIO_TYPE_CONSOLE = 3,
    VIRTIO_TYPE_RNG = 4,
    VIRTIO_TYPE_GPU = 16,
};

/* Device status, 2.1 */
enum virtio_status {
    VIRTIO_STATUS_ACKNOWLEDGE = 1,
    VIRTIO_STATUS_DRIVER = 2,
    VIRTIO_STATUS_DRIVER_OK = 4,
    VIRTIO_STATUS_FEATURES_OK = 8,
    VIRTIO_STATUS_NEEDS_RESET = 64,
    VIRTIO_STATUS_FAILED = 128,
};

/* Feature bits of every device, chapter 6 */
#define VIRTIO_F_INDIRECT_DESC (1ull << 28)
#define VIRTIO_F_EVENT_IDX (1ull << 29)
#define VIRTIO_F_VERSION_1 (1ull << 32)
#define VIRTIO_F_RING_RESET (1ull << 40)

struct virtio_device;
struct virtio_queue;

/* How the transport tells the driver; any thread. NULL `queue`: the configuration changed. */
struct virtio_transport {
    void (*interrupt)(struct virtio_device *vdev, struct virtio_queue *queue);
    /* May the device touch guest memory now (PCI bus master)? */
    bool (*may_access)(struct virtio_device *vdev);
};

struct virtio_device_ops {
    /* Worker thread, no lock held: handles what is in the queue. Mandatory. */
    void (*serve)(struct virtio_queue *queue);
    /* Waits until no request is in flight; NULL when none outlives serve(). Control lock held, the
     * worker is idle. */
    void (*drain)(struct virtio_queue *queue);
    /* The driver wrote device-specific configuration, 2.5; NULL: nothing is writable. Control lock
     * held. */
    void (*config_written)(struct virtio_device *vdev, unsigned offset, unsigned size,
                           uint32_t value);
    /* The driver reset the device; queues are stopped. NULL: nothing to do. Control lock held. */
    void (*reset)(struct virtio_device *vdev);
};

struct virtio_queue {
    struct virtio_device *vdev;
    unsigned index;
    bool enabled;            /* by the driver; control lock */
    _Atomic uint16_t vector; /* the transport's: written with the control lock */

    pthread_mutex_t lock; /* ring: the worker, and who completes requests */
    struct virtqueue ring;

    pthread_mutex_t worker_lock;
    pthread_cond_t worker_wake; /* towards the worker */
    pthread_cond_t worker_idle; /* from the worker */
    pthread_t worker;
    bool worker_exists;
    bool kicked;       /* something may be in the queue */
    bool busy;         /* inside serve() */
    _Atomic bool runs; /* the queue may be served */
    bool quit;
};

struct virtio_device {
    const struct virtio_device_ops *ops;
    const struct virtio_transport *transport;
    struct memory *memory;
    const char *name; /* for log lines */
    enum virtio_type type;
    uint64_t features; /* what the device offers */
    unsigned queue_count;
    const void *config; /* device-specific configuration as the driver reads it; control lock */
    unsigned config_size;

    pthread_mutex_t control;
    uint64_t driver_features;
    _Atomic uint8_t status; /* workers add NEEDS_RESET */
    _Atomic uint8_t config_generation;
    bool paused; /* by the control thread */
    struct virtio_queue queue[VIRTIO_MAX_QUEUES];
};

/* For the state table of the device: STATE_STRUCT(struct my, vdev, virtio_device_fields). */
extern const struct state_field virtio_device_fields[];
/* Refuses impossible values and leaves the queues stopped until virtio_resume(). */
SILL_CHECKED int virtio_post_load(struct virtio_device *vdev, struct error *err);

/* ---- for the device: control thread ---- */

/* `features` without those of every device. `queue_size` is a power of two up to
 * VIRTQ_MAX_SIZE. */
void virtio_init(struct virtio_device *vdev, enum virtio_type type, const char *name,
                 const struct virtio_device_ops *ops, uint64_t features, unsigned queue_count,
                 uint16_t queue_size, struct memory *memory);
/* Ends the workers. */
void virtio_done(struct virtio_device *vdev);
/* Lifecycle (device.h): a paused device has idle workers and nothing in flight. It is created
 * paused; starting it is the first virtio_resume(). */
void virtio_pause(struct virtio_device *vdev);
void virtio_resume(struct virtio_device *vdev);

/* ---- for the device: any thread ---- */

static inline bool virtio_has_feature(const struct virtio_device *vdev, uint64_t feature)
{
    return (vdev->driver_features & feature) != 0;
}

/* Pops under the queue's lock. False: nothing there (notifications are then on), the queue must
 * not run, or the ring is broken, which this reports to the driver. */
bool virtio_queue_pop(struct virtio_queue *queue, struct virtq_chain *chain);
/* Pushes under the queue's lock and interrupts the driver if it wants that. */
void virtio_queue_push(struct virtio_queue *queue, const struct virtq_chain *chain,
                       uint32_t written);
/* As virtqueue_put(), virtqueue_publish() and virtqueue_retract(). */
void virtio_queue_put(struct virtio_queue *queue, const struct virtq_chain *chain,
                      uint32_t written);
void virtio_queue_publish(struct virtio_queue *queue);
void virtio_queue_retract(struct virtio_queue *queue);
/* Interrupts the driver if it wants that for what was published since the latest interrupt. */
void virtio_queue_interrupt(struct virtio_queue *queue);
/* The latest pop did not happen: the next one gives the same request. */
void virtio_queue_unpop(struct virtio_queue *queue);
/* The driver's request makes no sense: the queue hands out nothing more, and the driver is told. */
void virtio_queue_break(struct virtio_queue *queue, const char *why);
/* Wakes the worker, as a notification does. */
void virtio_queue_kick(struct virtio_queue *queue);
/* The driver broke a rule: DEVICE_NEEDS_RESET and a configuration interrupt. */
void virtio_needs_reset(struct virtio_device *vdev, const char *why);
/* Device-specific configuration changed. */
void virtio_config_changed(struct virtio_device *vdev);

/* ---- for the transport ---- */

/* vCPU thread, returns at once: wakes the worker of queue `index`. */
void virtio_notify(struct virtio_device *vdev, unsigned index);
/* transport->may_access() changed: stops or serves the queues. Takes the control lock. */
void virtio_access_changed(struct virtio_device *vdev);

/* The following with the control lock held. Those that stop queues wait for their workers. */
void virtio_set_driver_features(struct virtio_device *vdev, unsigned word, uint32_t value);
void virtio_set_status(struct virtio_device *vdev, uint8_t status); /* 0: reset */
/* A read of device-specific configuration; bytes that the device lacks are zero. */
uint32_t virtio_config_read(const struct virtio_device *vdev, unsigned offset, unsigned size);
void virtio_config_write(struct virtio_device *vdev, unsigned offset, unsigned size,
                         uint32_t value);
void virtio_queue_enable(struct virtio_queue *queue);
void virtio_queue_reset(struct virtio_queue *queue); /* VIRTIO_F_RING_RESET, 2.6.1 */

#endif
