/*
 * The board "pc-1": a Q35-class PC, put together from an engine, memory and devices.
 *
 *     vCPUs + local APICs (engine)
 *       |  callbacks: ports, MMIO, MSRs, INTA, EOI
 *     bus --+-- 8259 pair, IOAPIC <-- interrupt wires (gsi.h) <-- devices
 *           +-- 8254, RTC, HPET, ACPI block, 8042, port 92, POST, COM1
 *           +-- PCI host bridge --+-- LPC bridge 00:1f.0
 *                                 +-- what the VM asks for: disks, ... from slot 1 on
 *                                 +-- root ports, empty or with what was plugged in
 *
 * The board is what guests and saved states depend on: a change that they could notice makes a new
 * version. pc.c builds it, pc_io.c is the engine's way into it.
 *
 * Threads: everything here is for the VM's control thread; functions that need stopped vCPUs say
 * so. The engine's callbacks come from vCPU threads.
 */
#ifndef SILL_MACHINE_PC_H
#define SILL_MACHINE_PC_H

#include "base/chardev.h"
#include "base/error.h"
#include "block/block.h"
#include "dev/display/display.h"
#include "dev/input/input.h"
#include "dev/legacy/board_events.h"
#include "engine/engine.h"
#include "net/net.h"
#include "state/state.h"

#define PC_BOARD_VERSION "pc-1"
#define PC_MAX_CPUS 64
#define PC_MAX_DISKS 16
#define PC_MAX_FLOPPIES 2
#define PC_MAX_NETS 8
#define PC_MAX_EXTRAS 16
#define PC_MAX_FIRMWARE_FILES 16
#define PC_MAX_SLOTS 16
#define PC_NAME_MAX 31 /* characters of the name of a device that is plugged in */

/* Devices that are there only when asked for. */
enum pc_extra_kind {
    PC_DEBUG_EXIT,
    PC_DEBUGCON,
    PC_PVPANIC,
    PC_TESTDEV,
    PC_USB_KEYBOARD,
    PC_USB_TABLET,
    PC_VIRTIO_CONSOLE,
    PC_VIRTIO_RNG,
};

/* A file of the host's that the guest finds in the firmware configuration device. */
struct pc_firmware_file {
    const char *name; /* "opt/..." */
    const char *path;
};

/* Kinds of devices to boot from. */
enum pc_boot_class { PC_BOOT_DISK, PC_BOOT_CD, PC_BOOT_FLOPPY, PC_BOOT_NET, PC_BOOT_CLASSES };

/* The display adapter. */
enum pc_vga {
    PC_VGA_AUTO, /* PC_VGA_STD when firmware boots, else none */
    PC_VGA_NONE,
    PC_VGA_STD,    /* dev/display/vga_pci.h */
    PC_VGA_VIRTIO, /* dev/display/virtio_vga.h */
};

struct pc_extra {
    enum pc_extra_kind kind;
    uint16_t port;                /* PC_DEBUG_EXIT, PC_DEBUGCON */
    struct char_backend *backend; /* PC_DEBUGCON, PC_VIRTIO_CONSOLE; NULL: output vanishes */
};

enum pc_firmware {
    PC_FIRMWARE_NONE, /* direct boot */
    PC_FIRMWARE_BIOS,
    PC_FIRMWARE_UEFI,
};

/* Everything it points to outlives the board. */
struct pc_config {
    const char *name; /* of the VM, for SMBIOS */
    const struct engine_ops *engine;
    const struct x86_cpuid *engine_cpuid; /* what its probe() found: engine_info.supported */
    const char *engine_debug;             /* see engine.h; NULL */
    uint64_t code_cache_size;             /* see engine.h; 0 */

    unsigned cpus; /* 1 to PC_MAX_CPUS */
    const char *cpu_model;
    uint64_t memory;
    bool huge_pages;

    enum pc_firmware firmware;
    const char *uefi_vars; /* file for UEFI's variables; NULL: they end with the VM */
    const char *bios_file; /* NULL: the BIOS that the host's packages bring */
    enum pc_boot_class boot_order[PC_BOOT_CLASSES];
    unsigned boot_order_count; /* 0: the usual order */
    bool boot_menu;            /* firmware offers a choice */
    struct pc_firmware_file firmware_files[PC_MAX_FIRMWARE_FILES];
    unsigned firmware_file_count;

    /* Direct boot, boot/boot.h. Without a kernel the CPU starts at its reset vector. */
    const char *kernel;
    const char *initrd;
    const char *append;

    enum pc_vga vga;
    struct char_backend *serial; /* COM1; NULL: output vanishes */
    const struct block_options *disks;
    unsigned disk_count; /* up to PC_MAX_DISKS */
    const struct block_options *floppies;
    unsigned floppy_count; /* up to PC_MAX_FLOPPIES */
    const struct net_options *nets;
    unsigned net_count; /* up to PC_MAX_NETS */
    const struct pc_extra *extras;
    unsigned extra_count; /* up to PC_MAX_EXTRAS */
    unsigned slot_count;  /* for pc_plug(), up to PC_MAX_SLOTS */

    struct board_events events; /* called on vCPU threads */
    /* events.opaque, and a device that a guest has given back. Control thread, inside
     * pc_rearrange(). May be NULL. */
    void (*unplugged)(void *opaque, const char *name);
};

struct pc;

/* Builds the board and its vCPUs, devices in power-on state. pc_reset() comes next. */
SILL_CHECKED int pc_new(struct pc **out, const struct pc_config *config, struct error *err);
/* vCPUs and devices are stopped. NULL is fine. */
void pc_free(struct pc *pc);

/* Power-on state, VM time 0, and the kernel loaded: before pc_start(), or while paused. vCPUs
 * stopped. */
SILL_CHECKED int pc_reset(struct pc *pc, struct error *err);

/* After events.rearrange: what cannot be changed while anything runs is made what the guest asked
 * for (memory of PCI functions, power of slots). While paused or before pc_start(), vCPUs stopped.
 */
SILL_CHECKED int pc_rearrange(struct pc *pc, struct error *err);

/* The devices and VM time; vCPUs stopped. Started once; pausing what is paused and resuming what
 * runs does nothing. */
SILL_CHECKED int pc_start(struct pc *pc, struct error *err);
void pc_pause(struct pc *pc);
void pc_resume(struct pc *pc);

/* VM time and the state of all devices in board order, while paused. Restoring needs a board with
 * the same devices that has not been started; a refused state leaves it fit only for pc_free(). */
SILL_CHECKED int pc_save_devices(struct pc *pc, struct state_buffer *buffer);
SILL_CHECKED int pc_restore_devices(struct pc *pc, struct state_buffer *buffer, struct error *err);

/*
 * Takes the disc out of the drive (`cd0`, `cd1`, ...) and puts in what the options name; NULL:
 * none. The VM may run. -EBUSY when the guest has locked the drive and `force` is off; the guest is
 * told that somebody wants the disc. Sentences for that, for drives that do not exist and for
 * images that cannot be opened; the drive then keeps its disc.
 */
SILL_CHECKED int pc_change_medium(struct pc *pc, const char *drive,
                                  const struct block_options *options, bool force,
                                  struct error *err);

/* A device that goes into a hot-plug slot. */
enum pc_plug_kind { PC_PLUG_DISK, PC_PLUG_NET, PC_PLUG_RNG };

struct pc_plug {
    enum pc_plug_kind kind;
    unsigned slot;                    /* from 1 on; 0: the next one that is empty */
    const char *name;                 /* NULL: the first free one of "disk0", "disk1", ... */
    const struct block_options *disk; /* PC_PLUG_DISK; virtio only */
    const struct net_options *net;    /* PC_PLUG_NET */
};

/*
 * Puts a device into an empty slot, where it is used at once if the board has not been started,
 * else when the guest finds it. `*name` is valid for as long as it is there. Sentences for: a slot
 * that is taken or not there, none that is empty, a name that is taken or none, and what can be
 * wrong with its files. While paused or before pc_start(), vCPUs stopped.
 */
SILL_CHECKED int pc_plug(struct pc *pc, const struct pc_plug *plug, const char **name,
                         struct error *err);
/*
 * Asks the guest for it; when it powers the slot off, the device goes in pc_rearrange(). With
 * `force`, and on a board that was not started, it is gone on return. -ENOENT, -EBUSY: with a
 * sentence. In the same states.
 */
SILL_CHECKED int pc_unplug(struct pc *pc, const char *name, bool force, struct error *err);
/* What is in slot `index` (from 0 on); *device NULL: nothing. False: there is no such slot. */
bool pc_slot(const struct pc *pc, unsigned index, const char **device, bool *leaving);

struct engine_vcpu *pc_vcpu(struct pc *pc, unsigned index);
struct engine_vm *pc_engine_vm(struct pc *pc);
struct memory *pc_memory(struct pc *pc);
/* The screen; there is one even where no adapter draws on it. */
struct display *pc_display(struct pc *pc);
struct input *pc_input(struct pc *pc);
/* Somebody presses the ACPI power button. Any thread. */
void pc_power_button(struct pc *pc);

#endif
