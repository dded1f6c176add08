/*
 * What the board's files share: pc.c (construction and lifecycle), pc_io.c (the engine's callbacks)
 * and one file for each area of devices. Nobody else includes this.
 */
#ifndef SILL_MACHINE_PC_INTERNAL_H
#define SILL_MACHINE_PC_INTERNAL_H

#include "boot/layout.h"
#include "boot/tables.h"
#include "bus/bus.h"
#include "dev/legacy/acpi_pm.h"
#include "dev/legacy/fw_cfg.h"
#include "dev/legacy/hpet.h"
#include "dev/legacy/i8259.h"
#include "dev/legacy/ioapic.h"
#include "dev/legacy/mc146818.h"
#include "dev/pci/pci_host.h"
#include "dev/pci/root_port.h"
#include "dev/virtio/virtio_pci.h"
#include "machine/gsi.h"
#include "machine/pc.h"
#include "machine/uefi_store.h"

/* The board's own devices, disks, network cards, extras, and slots with what is in them. */
#define PC_MAX_DEVICES (25 + PC_MAX_DISKS + PC_MAX_NETS + PC_MAX_EXTRAS + 2 * PC_MAX_SLOTS)

#define PC_MAX_BOOT_DEVICES (PC_MAX_DISKS + PC_MAX_NETS + 2) /* and floppy drives */

/* What firmware may boot from. */
struct pc_boot_device {
    enum pc_boot_class class;
    char path[80]; /* its Open Firmware path */
};

/* A drive, pc_storage.c. */
struct pc_drive {
    char name[16]; /* "disk0", "cd0" */
    enum block_interface interface;
    unsigned unit; /* port or position on its controller */
    bool removable;
};

/* A hot-plug slot, pc_slots.c. */
struct pc_slot {
    struct root_port *port;
    char port_name[16];
    struct device *device; /* NULL: the slot is empty */
    char name[PC_NAME_MAX + 1];
};

struct pc {
    struct pc_config config;
    struct layout layout;
    uint32_t cpu_signature, cpu_features; /* EAX and EDX of CPUID leaf 1 */
    struct memory memory;
    struct clock *clock;
    struct bus bus;
    struct engine_vm *engine_vm;
    struct engine_vcpu *vcpu[PC_MAX_CPUS];
    struct msi_sink msi;

    /* In the order of building: lifecycle calls go first to last, destruction last to first. */
    struct device *device[PC_MAX_DEVICES];
    unsigned device_count;
    unsigned started; /* of them */
    bool running;     /* started or resumed, not paused */

    /* Those that others on the board need; owned through the list above. */
    struct gsi_wires gsi;
    struct i8259 *pic;
    struct ioapic *ioapic;
    struct hpet *hpet;
    struct acpi_pm *acpi_pm;
    struct mc146818 *rtc;
    struct fw_cfg *fw_cfg;
    struct pci_host *pci_host;
    struct display *display;
    struct input *input;
    struct ahci *ahci;   /* NULL: no drive asks for it */
    unsigned ahci_ports; /* of it that are taken */
    struct ide *ide;     /* the same */
    unsigned ide_units;
    struct xhci *xhci; /* the same */

    struct uefi_store uefi_store;
    gpa_t uefi_flash_base;
    uint64_t uefi_flash_size;

    struct pc_boot_device boot_device[PC_MAX_BOOT_DEVICES]; /* of a class: in order of boot */
    unsigned boot_device_count;

    struct pc_drive drive[PC_MAX_DISKS]; /* as config.disks */
    struct pc_slot slot[PC_MAX_SLOTS];
    unsigned next_slot; /* where to look first for an empty one */
    char net_name[PC_MAX_NETS][16];
    char extra_name[PC_MAX_EXTRAS][24];
};

/* pc.c, for the build steps that have files of their own. Control thread. */
void pc_add_device(struct pc *pc, struct device *device); /* takes it over */
/* The same behind another device, which is there. */
void pc_insert_device(struct pc *pc, const struct device *before, struct device *device);
void pc_take_device(struct pc *pc, const struct device *device); /* the caller's from now on */
int pc_out_of_memory(struct error *err);                         /* -ENOMEM and a sentence */
struct irq_line pc_isa_line(struct pc *pc, unsigned irq);        /* of the ISA interrupt `irq` */

/* pc.c, struct pci_remap.ask and root_port_config.attention: see pc_rearrange(). */
void pc_ask_rearrange(void *opaque);
/* pc.c: what the firmware's or direct boot's tables say. */
struct board_description pc_describe(struct pc *pc);

/* pc_firmware.c: build steps; the last one comes after all devices. */
SILL_CHECKED int pc_add_fw_cfg(struct pc *pc, struct error *err);
SILL_CHECKED int pc_add_bios(struct pc *pc, struct error *err);
SILL_CHECKED int pc_finish_firmware(struct pc *pc, struct error *err);
/* Says that firmware may boot from a device, while that is added: its Open Firmware path, as
 * printf(). The first of a class is the first to be tried. */
void pc_add_boot_device(struct pc *pc, enum pc_boot_class class, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* The same for a PCI function that is on the bus: "/pci@i0cf8/`node`@slot,function`below`". */
void pc_add_pci_boot_device(struct pc *pc, enum pc_boot_class class, const struct device *device,
                            const char *node, const char *below);

/* pc_storage.c: a build step. */
SILL_CHECKED int pc_add_storage(struct pc *pc, struct error *err);
/* A virtio disk at `place`. */
SILL_CHECKED int pc_new_disk(struct pc *pc, const struct virtio_pci_config *place,
                             const struct block_options *options, struct device **device,
                             struct error *err);

/* pc_floppy.c: a build step. */
SILL_CHECKED int pc_add_floppies(struct pc *pc, struct error *err);

/* pc_net.c: build step. */
SILL_CHECKED int pc_add_nets(struct pc *pc, struct error *err);
/* A card at `place`, with its backend; `index` is for its address. */
SILL_CHECKED int pc_new_card(struct pc *pc, const struct virtio_pci_config *place,
                             const struct net_options *options, unsigned index,
                             struct device **device, struct error *err);

/* pc_slots.c: build step; and what the guest did to the power of slots, everything stopped. */
SILL_CHECKED int pc_add_slots(struct pc *pc, struct error *err);
void pc_serve_slots(struct pc *pc);

/* pc_display.c: a build step. */
int pc_add_display(struct pc *pc, struct error *err);
bool pc_has_vga(const struct pc *pc);

/* pc_usb.c: each with a controller, if there is none yet. */
SILL_CHECKED int pc_add_usb_tablet(struct pc *pc, const struct pc_extra *extra, const char *name,
                                   struct error *err);
SILL_CHECKED int pc_add_usb_keyboard(struct pc *pc, const struct pc_extra *extra, const char *name,
                                     struct error *err);

/* pc_uefi.c: the firmware's ROM and flash, before the engine's VM exists; and the flash device.
 * All do nothing with another firmware. */
SILL_CHECKED int pc_add_uefi_memory(struct pc *pc, struct error *err);
SILL_CHECKED int pc_add_uefi_flash(struct pc *pc, struct error *err);
/* Makes the CPU model one that the firmware copes with. */
void pc_uefi_limit_cpuid(const struct pc *pc, struct x86_cpuid *cpuid);

/* pc_io.c */
struct engine_callbacks pc_engine_callbacks(struct pc *pc);
/* The 8259's INT wire towards the local APICs, and where messages go. */
struct irq_line pc_extint_line(struct pc *pc);
struct msi_sink pc_msi_sink(struct pc *pc);

#endif
