/*
 * The virtio side of the GPU: requests in its two queues, and its configuration. VIRTIO 1.2,
 * section 5.7. The PCI function around it is virtio_vga.h.
 */
#ifndef SILL_DEV_DISPLAY_VIRTIO_GPU_H
#define SILL_DEV_DISPLAY_VIRTIO_GPU_H

#include "dev/display/gpu.h"
#include "dev/virtio/virtio.h"

/* virtio_init() with what a GPU is. */
void virtio_gpu_init(struct virtio_device *vdev, const char *name,
                     const struct virtio_device_ops *ops, struct memory *memory);

/* virtio_device_ops.serve: handles all that is in `queue`, one of the two. */
void virtio_gpu_serve(struct gpu *gpu, struct virtio_queue *queue);

#endif
