/*
 * What the board shows: the screen, and the display adapter that draws on it. Control thread.
 */
#include "dev/display/vga_pci.h"
#include "machine/pc_internal.h"

/* What the adapters of others that guests have drivers for hold. */
#define VGA_MEMORY (16 * MIB)

/* SeaBIOS's VGA BIOS for it; only a BIOS runs it. */
#define VGA_ROM "/usr/share/seabios/vgabios-stdvga.bin"
#define VGA_ROM_PACKAGE "seabios"

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
    if (wanted_vga(&pc->config) == PC_VGA_NONE)
        return 0;

    const struct vga_pci_config config = {
        .name = "vga",
        .bus = pci_host_bus(pc->pci_host),
        .devfn = PCI_DEVFN_AUTO,
        .clock = pc->clock,
        .memory = VGA_MEMORY,
        .display = pc->display,
        .rom = pc->config.kernel ? NULL : VGA_ROM,
        .rom_package = VGA_ROM_PACKAGE,
    };
    struct device *device;
    int result = vga_pci_new(&device, &config, err);
    if (!result)
        pc_add_device(pc, device);
    return result;
}

struct display *pc_display(struct pc *pc)
{
    return pc->display;
}
