/*
 * The network cards of the board, each with the backend that its `--net` option names. Control
 * thread, while the board is built.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "dev/net/e1000e.h"
#include "dev/virtio/virtio_net.h"
#include "machine/pc_internal.h"

/* iPXE, with which firmware boots from the network; each file serves BIOS and UEFI. */
#define IPXE_PACKAGE "ipxe-qemu"
#define IPXE_VIRTIO "/usr/lib/ipxe/qemu/efi-virtio.rom"
#define IPXE_E1000E "/usr/lib/ipxe/qemu/efi-e1000e.rom"

/* Without the ROM the card works, and only booting from it does not. */
static const char *boot_rom(const struct pc *pc, const char *path, const char *name)
{
    if (pc->config.firmware == PC_FIRMWARE_NONE)
        return NULL;
    if (!access(path, R_OK))
        return path;
    log_info("%s: firmware cannot boot from it without %s: install the package %s", name, path,
             IPXE_PACKAGE);
    return NULL;
}

static int add_card(struct pc *pc, const struct net_options *options, const uint8_t *mac,
                    const char *name, struct net_backend *backend, struct device **device,
                    struct error *err)
{
    struct pci_bus *bus = pci_host_bus(pc->pci_host);

    if (options->model == NET_MODEL_E1000E) {
        struct e1000e_config config = {
            .name = name,
            .bus = bus,
            .devfn = PCI_DEVFN_AUTO,
            .clock = pc->clock,
            .rom = boot_rom(pc, IPXE_E1000E, name),
            .rom_package = IPXE_PACKAGE,
        };
        memcpy(config.mac, mac, NET_MAC_LENGTH);
        return e1000e_new(device, &config, backend, err);
    }
    struct virtio_net_config config = {
        .pci = {name, bus, PCI_DEVFN_AUTO},
        .rom = boot_rom(pc, IPXE_VIRTIO, name),
        .rom_package = IPXE_PACKAGE,
    };
    memcpy(config.mac, mac, NET_MAC_LENGTH);
    return virtio_net_new(device, &config, backend, err);
}

int pc_add_nets(struct pc *pc, struct error *err)
{
    for (unsigned i = 0; i < pc->config.net_count; i++) {
        const struct net_options *options = &pc->config.nets[i];
        struct net_backend *backend;
        struct device *device;
        uint8_t mac[NET_MAC_LENGTH];

        if (options->has_mac)
            memcpy(mac, options->mac, sizeof(mac));
        else
            net_default_mac(mac, pc->config.name, i);
        snprintf(pc->net_name[i], sizeof(pc->net_name[i]), "net%u", i);
        int result = net_open(&backend, options, err);
        if (result)
            return error_prefix(err, result, "--net");
        result = add_card(pc, options, mac, pc->net_name[i], backend, &device, err);
        if (result) {
            net_close(backend);
            return result;
        }
        pc_add_device(pc, device);
        pc_add_pci_boot_device(pc, PC_BOOT_NET, device, "ethernet", "/ethernet-phy@0");
    }
    return 0;
}
