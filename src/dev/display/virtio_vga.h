/*
 * A virtio-gpu that is a VGA until its driver takes the screen: 1af4:1050 with the class of a VGA,
 * laid out as QEMU's virtio-vga is, so that firmware and kernels have drivers for either half.
 *
 *     BAR 0   video memory of the VGA, prefetchable
 *     BAR 2   0x0000 as BAR 2 of vga_pci.h, 0x1000 virtio's registers (virtio_pci.h)
 *     BAR 4   MSI-X
 */
#ifndef SILL_DEV_DISPLAY_VIRTIO_VGA_H
#define SILL_DEV_DISPLAY_VIRTIO_VGA_H

#include "dev/display/vga_pci.h"

SILL_CHECKED int virtio_vga_new(struct device **out, const struct vga_pci_config *config,
                                struct error *err);

#endif
