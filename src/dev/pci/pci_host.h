/*
 * The host bridge of a Q35-class board: function 00:00.0 (8086:29c0), the configuration ports
 * 0xcf8-0xcff and the memory-mapped configuration window (ECAM).
 * Intel 3 Series chipset (MCH) data sheet, 316966, 5.1; PCI Local Bus specification 3.0, 3.2.2.3.2;
 * PCI Express base specification 3.0, 7.2.2.
 *
 * The PCIEXBAR register (0x60) of the function says where the ECAM window is and whether it is on;
 * firmware may move it. With direct boot it is on from the start. The PAM registers (0x90) are in
 * pam.h. SMRAM (0x9d) is closed and locked: no engine has system management mode.
 */
#ifndef SILL_DEV_PCI_PCI_HOST_H
#define SILL_DEV_PCI_PCI_HOST_H

#include "dev/pci/pci.h"

#define PCI_HOST_ECAM_DEFAULT_BASE 0xb0000000u
#define PCI_HOST_ECAM_SIZE (256 * MIB)

struct pci_host;

struct pci_host_config {
    struct bus *bus;
    struct memory *memory;
    struct msi_sink msi;
    /* 256 MiB aligned; after each reset. 0: ECAM stays off until firmware places it. */
    gpa_t ecam_base;
    /* Takes byte accesses to port 0xcf9, the reset control register, which lies inside the
     * configuration address port (acpi_pm_reset_region()). May be NULL. */
    const struct region *reset_control;
    /* Told when the PAM registers change what memory shows, on the vCPU's thread. NULL: a bridge
     * without them. */
    int (*memory_changed)(void *opaque, gpa_t gpa, uint64_t size, struct error *err);
    void *opaque;
    /* All from 0xe0000 to 0xfffff is RAM after each reset, as a boot loader would find it. */
    bool shadowed;
};

SILL_CHECKED int pci_host_new(struct pci_host **out, const struct pci_host_config *config,
                              struct error *err);
/* The bus to put devices on. It lives as long as the host bridge, which goes last. */
struct pci_bus *pci_host_bus(struct pci_host *host);
/* The firmware whose end the guest sees below 1 MiB; before the first reset. Needs PAM. */
SILL_CHECKED int pci_host_set_rom(struct pci_host *host, const void *rom, uint64_t size,
                                  struct error *err);
struct device *pci_host_device(struct pci_host *host);

#endif
