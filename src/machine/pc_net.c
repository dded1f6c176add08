/*
 * The network cards of the board, each with the backend that its `--net` option names. Control
 * thread, while the board is built.
 */
#include <stdio.h>
#include <string.h>

#include "dev/net/e1000e.h"
#include "dev/virtio/virtio_net.h"
#include "machine/pc_internal.h"

static int add_card(struct pc *pc, const struct net_options *options, const uint8_t *mac,
                    const char *name, struct net_backend *backend, struct device **device,
                    struct error *err)
{
    struct pci_bus *bus = pci_host_bus(pc->pci_host);
    struct virtio_net_config virtio = {.pci = {name, bus, PCI_DEVFN_AUTO}};
    struct e1000e_config e1000e = {
        .name = name, .bus = bus, .devfn = PCI_DEVFN_AUTO, .clock = pc->clock};

    if (options->model == NET_MODEL_E1000E) {
        memcpy(e1000e.mac, mac, NET_MAC_LENGTH);
        return e1000e_new(device, &e1000e, backend, err);
    }
    memcpy(virtio.mac, mac, NET_MAC_LENGTH);
    return virtio_net_new(device, &virtio, backend, err);
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
    }
    return 0;
}
