/*
 * What the board shows: the screen, and the display adapter that draws on it. Control thread.
 */
#include "dev/display/vga_pci.h"
#include "dev/display/virtio_vga.h"
#include "machine/pc_internal.h"

/* What the adapters of others that guests have drivers for hold. */
#define VGA_MEMORY (16 * MIB)

/* SeaBIOS's VGA BIOSes for them; only a BIOS runs them, and UEFI has drivers of its own. */
#define VGA_ROM_PACKAGE "seabios"

/* What there is of each kind of adapter. */
static const struct {
    int (*create)(struct device **out, const struct vga_pci_config *config, struct error *err);
    const char *rom;
} adapters[] = {
    [PC_VGA_STD] = {vga_pci_new, "/usr/share/seabios/vgabios-stdvga.bin"},
    [PC_VGA_VIRTIO] = {virtio_vga_new, "/usr/share/seabios/vgabios-virtio.bin"},
};

/* Firmware needs something to show itself on; a kernel that is booted directly gets what was asked
 * for. */
static enum pc_vga wanted_vga(const struct pc_config *config)
{
    if (config->vga == PC_VGA_AUTO)
        return config->kernel ? PC_VGA_NONE : PC_VGA_STD;
    return config->vga;
}

bool pc_has_vga(const struct pc *pc)
{
    return wanted_vga(&pc->config) != PC_VGA_NONE;
}

int pc_add_display(struct pc *pc, struct error *err)
{
    if (display_new(&pc->display))
        return pc_out_of_memory(err);
    if (!pc_has_vga(pc))
        return 0;

    enum pc_vga kind = wanted_vga(&pc->config);
    const struct vga_pci_config config = {
        .name = "vga",
        .bus = pci_host_bus(pc->pci_host),
        .devfn = PCI_DEVFN_AUTO,
        .clock = pc->clock,
        .memory = VGA_MEMORY,
        .display = pc->display,
        .rom = pc->config.firmware == PC_FIRMWARE_BIOS ? adapters[kind].rom : NULL,
        .rom_package = VGA_ROM_PACKAGE,
    };
    struct device *device;
    int result = adapters[kind].create(&device, &config, err);
    if (!result)
        pc_add_device(pc, device);
    return result;
}

struct display *pc_display(struct pc *pc)
{
    return pc->display;
}
