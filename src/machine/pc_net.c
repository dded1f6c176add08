/*
 * The network cards of the board, each with the backend that its `--net` option names. Control
 * thread.
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

static bool boots_from_network(const struct pc_config *config)
{
    for (unsigned i = 0; i < config->boot_order_count; i++) {
        if (config->boot_order[i] == PC_BOOT_NET)
            return true;
    }
    return false;
}

/* Without the ROM the card works, and only booting from it does not, which is an error if the
 * user asks for that. What is plugged in later is nothing to boot from. */
static const char *boot_rom(const struct pc *pc, const struct virtio_pci_config *place,
                            const char *path)
{
    if (pc->config.firmware == PC_FIRMWARE_NONE || place->bus->bridge)
        return NULL;
    if (!access(path, R_OK) || boots_from_network(&pc->config))
        return path;
    log_info("%s: firmware cannot boot from it without %s: install the package %s", place->name,
             path, IPXE_PACKAGE);
    return NULL;
}

static int new_card(struct pc *pc, const struct virtio_pci_config *place,
                    const struct net_options *options, const uint8_t *mac,
                    struct net_backend *backend, struct device **device, struct error *err)
{
    if (options->model == NET_MODEL_E1000E) {
        struct e1000e_config config = {
            .name = place->name,
            .bus = place->bus,
            .devfn = place->devfn,
            .clock = pc->clock,
            .rom = boot_rom(pc, place, IPXE_E1000E),
            .rom_package = IPXE_PACKAGE,
        };
        memcpy(config.mac, mac, NET_MAC_LENGTH);
        return e1000e_new(device, &config, backend, err);
    }
    struct virtio_net_config config = {
        .pci = *place,
        .rom = boot_rom(pc, place, IPXE_VIRTIO),
        .rom_package = IPXE_PACKAGE,
    };
    memcpy(config.mac, mac, NET_MAC_LENGTH);
    return virtio_net_new(device, &config, backend, err);
}

int pc_new_card(struct pc *pc, const struct virtio_pci_config *place,
                const struct net_options *options, unsigned index, struct device **device,
                struct error *err)
{
    struct net_backend *backend;
    uint8_t mac[NET_MAC_LENGTH];

    if (options->has_mac)
        memcpy(mac, options->mac, sizeof(mac));
    else
        net_default_mac(mac, pc->config.name, index);
    int result = net_open(&backend, options, err);
    if (result)
        return result;
    result = new_card(pc, place, options, mac, backend, device, err);
    if (result)
        net_close(backend);
    return result;
}

int pc_add_nets(struct pc *pc, struct error *err)
{
    for (unsigned i = 0; i < pc->config.net_count; i++) {
        const struct virtio_pci_config place = {pc->net_name[i], pci_host_bus(pc->pci_host),
                                                PCI_DEVFN_AUTO};
        struct device *device;

        snprintf(pc->net_name[i], sizeof(pc->net_name[i]), "net%u", i);
        int result = pc_new_card(pc, &place, &pc->config.nets[i], i, &device, err);
        if (result)
            return error_prefix(err, result, "--net");
        pc_add_device(pc, device);
        pc_add_pci_boot_device(pc, PC_BOOT_NET, device, "ethernet", "/ethernet-phy@0");
    }
    return 0;
}
