/*
 * The virtio console with one port. VIRTIO 1.2, section 5.3.
 *
 * Input arrives on the back end's I/O thread, goes into a small buffer, and the receive queue's
 * worker moves it into the driver's buffers. Output is written by the transmit queue's worker; when
 * the back end takes only part of a request, the worker puts the request back, remembers how far it
 * got and goes on when there is room.
 *
 * Locks: `input_lock` and `output_lock` are innermost but for the back end's own.
 */
#include "dev/virtio/virtio_console.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define QUEUE_SIZE 64
#define INPUT_SIZE 1024
#define CONSOLE_CLASS 0x078000

/* Port 0's queues, 5.3.2 */
enum console_queue { QUEUE_RECEIVE, QUEUE_TRANSMIT, QUEUE_COUNT };

/* Feature bits, 5.3.3 */
#define CONSOLE_F_SIZE (1ull << 0)
#define CONSOLE_F_EMERG_WRITE (1ull << 2)

/* struct virtio_console_config, 5.3.4 */
struct console_config {
    uint16_t cols;
    uint16_t rows;
    uint32_t max_nr_ports;
    uint32_t emerg_wr;
};

struct virtio_console {
    struct virtio_pci virtio;
    struct char_backend *backend;
    struct console_config config; /* vdev's control lock */

    pthread_mutex_t input_lock;
    uint16_t input_count;
    uint8_t input[INPUT_SIZE]; /* oldest first */

    pthread_mutex_t output_lock; /* one writer at a time */
    uint32_t output_offset;      /* written of the first request in the transmit queue */
    bool size_told;              /* to this driver; the transmit queue's worker */
};

static struct virtio_console *of_vdev(struct virtio_device *vdev)
{
    return CONTAINER_OF(vdev, struct virtio_console, virtio.vdev);
}

/* Input. */

/* Moves up to `length` bytes out of the buffer. */
static size_t input_take(struct virtio_console *console, const struct virtq_chain *chain)
{
    pthread_mutex_lock(&console->input_lock);
    size_t count = virtq_chain_write(chain, 0, console->input, console->input_count);
    console->input_count -= (uint16_t)count;
    memmove(console->input, console->input + count, console->input_count);
    pthread_mutex_unlock(&console->input_lock);
    return count;
}

static bool input_pending(struct virtio_console *console)
{
    pthread_mutex_lock(&console->input_lock);
    bool pending = console->input_count;
    pthread_mutex_unlock(&console->input_lock);
    return pending;
}

static void serve_receive(struct virtio_console *console, struct virtio_queue *queue)
{
    struct virtq_chain chain;
    bool moved = false;

    while (input_pending(console) && virtio_queue_pop(queue, &chain)) {
        virtio_queue_push(queue, &chain, (uint32_t)input_take(console, &chain));
        moved = true;
    }
    if (moved)
        char_input_ready(console->backend);
}

static size_t console_can_receive(void *opaque)
{
    struct virtio_console *console = opaque;

    pthread_mutex_lock(&console->input_lock);
    size_t room = INPUT_SIZE - console->input_count;
    pthread_mutex_unlock(&console->input_lock);
    return room;
}

static void console_receive(void *opaque, const uint8_t *data, size_t length)
{
    struct virtio_console *console = opaque;

    pthread_mutex_lock(&console->input_lock);
    size_t room = INPUT_SIZE - console->input_count;
    if (length > room)
        length = room;
    memcpy(console->input + console->input_count, data, length);
    console->input_count += (uint16_t)length;
    pthread_mutex_unlock(&console->input_lock);
    virtio_queue_kick(&console->virtio.vdev.queue[QUEUE_RECEIVE]);
}

/* Output. */

/* Writes what is left of the request; false when the back end has no more room. */
static bool output_request(struct virtio_console *console, const struct virtq_chain *chain)
{
    struct iovec iov[VIRTQ_MAX_SEGMENTS];
    unsigned count = virtq_chain_iov(chain, false, console->output_offset, UINT32_MAX, iov);

    for (unsigned i = 0; i < count; i++) {
        size_t written = char_write(console->backend, iov[i].iov_base, iov[i].iov_len);
        console->output_offset += (uint32_t)written;
        if (written < iov[i].iov_len)
            return false;
    }
    console->output_offset = 0;
    return true;
}

/*
 * Linux's driver looks at the size only when it hears of a change, and not before its terminal is
 * there, which its first output shows.
 */
static void tell_size(struct virtio_console *console)
{
    if (!console->size_told)
        virtio_config_changed(&console->virtio.vdev);
    console->size_told = true;
}

static void serve_transmit(struct virtio_console *console, struct virtio_queue *queue)
{
    struct virtq_chain chain;

    while (virtio_queue_pop(queue, &chain)) {
        pthread_mutex_lock(&console->output_lock);
        bool whole = output_request(console, &chain);
        pthread_mutex_unlock(&console->output_lock);
        if (!whole) {
            virtio_queue_unpop(queue);
            return;
        }
        virtio_queue_push(queue, &chain, 0);
        tell_size(console);
    }
}

static void console_writable(void *opaque)
{
    struct virtio_console *console = opaque;

    virtio_queue_kick(&console->virtio.vdev.queue[QUEUE_TRANSMIT]);
}

/* The rest. */

static void console_resized(void *opaque, uint16_t columns, uint16_t rows)
{
    struct virtio_console *console = opaque;
    struct virtio_device *vdev = &console->virtio.vdev;

    pthread_mutex_lock(&vdev->control);
    console->config.cols = columns;
    console->config.rows = rows;
    pthread_mutex_unlock(&vdev->control);
    virtio_config_changed(vdev);
}

static const struct char_frontend console_frontend = {
    .can_receive = console_can_receive,
    .receive = console_receive,
    .writable = console_writable,
    .resized = console_resized,
};

static void console_serve(struct virtio_queue *queue)
{
    struct virtio_console *console = of_vdev(queue->vdev);

    if (queue->index == QUEUE_RECEIVE)
        serve_receive(console, queue);
    else
        serve_transmit(console, queue);
}

/* 5.3.4: a character for emergencies, before the driver has queues; lost if there is no room. */
static void console_config_written(struct virtio_device *vdev, unsigned offset, unsigned size,
                                   uint32_t value)
{
    struct virtio_console *console = of_vdev(vdev);
    uint8_t byte = (uint8_t)value;

    if (offset != offsetof(struct console_config, emerg_wr))
        return;
    pthread_mutex_lock(&console->output_lock);
    (void)char_write(console->backend, &byte, 1);
    pthread_mutex_unlock(&console->output_lock);
}

static void console_reset(struct virtio_device *vdev)
{
    struct virtio_console *console = of_vdev(vdev);

    pthread_mutex_lock(&console->input_lock);
    console->input_count = 0;
    pthread_mutex_unlock(&console->input_lock);
    console->output_offset = 0;
    console->size_told = false;
    char_input_ready(console->backend);
}

static const struct virtio_device_ops console_virtio_ops = {
    .serve = console_serve,
    .config_written = console_config_written,
    .reset = console_reset,
};

static void console_destroy(struct device *dev)
{
    struct virtio_console *console = CONTAINER_OF(dev, struct virtio_console, virtio.pci.dev);

    virtio_pci_done(&console->virtio);
    pthread_mutex_destroy(&console->output_lock);
    pthread_mutex_destroy(&console->input_lock);
    free(console);
}

static int console_post_load(void *object, struct error *err)
{
    struct virtio_console *console = object;

    if (console->input_count > INPUT_SIZE)
        return error_set(err, -EBADMSG, "%s: the saved state holds %u bytes of input, at most %d",
                         console->virtio.pci.dev.name, console->input_count, INPUT_SIZE);
    return virtio_pci_post_load(&console->virtio, err);
}

static const struct state_field console_fields[] = {
    STATE_STRUCT(struct virtio_console, virtio, virtio_pci_fields),
    STATE_INT(struct virtio_console, input_count),
    STATE_BYTES(struct virtio_console, input),
    STATE_INT(struct virtio_console, output_offset),
    STATE_END,
};

static const struct state_desc console_state = {
    .name = "virtio-console",
    .version = 1,
    .fields = console_fields,
    .post_load = console_post_load,
};

static const struct device_ops console_ops = {
    .type = "virtio-console",
    .start = virtio_pci_start,
    .pause = virtio_pci_pause,
    .resume = virtio_pci_resume,
    .reset = virtio_pci_reset,
    .destroy = console_destroy,
    .state = &console_state,
};

int virtio_console_new(struct device **out, const struct virtio_pci_config *config,
                       struct char_backend *backend, struct error *err)
{
    struct virtio_console *console = calloc(1, sizeof(*console));

    if (!console)
        return error_set(err, -ENOMEM, "%s: no memory for the device", config->name);
    console->backend = backend;
    console->config.max_nr_ports = 1;
    pthread_mutex_init(&console->input_lock, NULL);
    pthread_mutex_init(&console->output_lock, NULL);
    virtio_init(&console->virtio.vdev, VIRTIO_TYPE_CONSOLE, config->name, &console_virtio_ops,
                CONSOLE_F_SIZE | CONSOLE_F_EMERG_WRITE, QUEUE_COUNT, QUEUE_SIZE,
                config->bus->memory);
    console->virtio.vdev.config = &console->config;
    console->virtio.vdev.config_size = sizeof(console->config);
    int ret = virtio_pci_attach(&console->virtio, config, CONSOLE_CLASS, &console_ops, err);
    if (ret) {
        console_destroy(&console->virtio.pci.dev);
        return ret;
    }
    char_attach(backend, &console_frontend, console);
    *out = &console->virtio.pci.dev;
    return 0;
}
