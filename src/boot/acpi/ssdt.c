/*
 * The SSDT: what varies in the ACPI namespace from machine to machine, beside the compiled
 * dsdt.asl. Section numbers: ACPI specification 6.5. Control thread.
 */
#include <stdio.h>

#include "boot/acpi/acpi.h"
#include "dev/pci/lpc.h"

/* 6.3.7, _STA */
#define STATUS_PRESENT 0xfu

/* ---- _CRS of the PCI root: the windows that its devices can be given (6.4) ---- */

/* 6.4.3.5: resource types and flags of address space descriptors */
#define SPACE_MEMORY 0
#define SPACE_IO 1
#define SPACE_BUS 2
#define SPACE_FIXED 0x0c /* minimum and maximum are what they are; the bridge passes them on */
#define SPACE_MEMORY_WRITABLE 0x01
#define SPACE_IO_ENTIRE 0x03

/* 6.4.3.5.1 to 3: the same descriptor with fields of 8, 4 or 2 bytes */
#define TAG_QWORD 0x8a
#define TAG_DWORD 0x87
#define TAG_WORD 0x88

#define PCI_CONFIG_PORTS 0xcf8u
#define PCI_CONFIG_PORTS_END 0xd00u

static void window(struct aml *aml, uint8_t tag, uint8_t type, uint8_t type_flags, uint64_t base,
                   uint64_t size)
{
    unsigned width = tag == TAG_QWORD ? 8 : tag == TAG_DWORD ? 4 : 2;
    /* granularity, minimum, maximum, translation, length */
    const uint64_t fields[] = {0, base, base + size - 1, 0, size};
    const uint8_t head[] = {
        tag, (uint8_t)(3 + width * ARRAY_SIZE(fields)), 0, type, SPACE_FIXED, type_flags};

    aml_bytes(aml, head, sizeof(head));
    for (unsigned i = 0; i < ARRAY_SIZE(fields); i++)
        aml_bytes(aml, &fields[i], width);
}

static void write_root_resources(struct aml *aml, const struct board_description *board)
{
    const struct layout *layout = board->layout;
    /* 6.4.2.5: the configuration ports, decoded by the bridge itself */
    static const uint8_t config_ports[] = {
        0x47, 0x01, 0xf8, 0x0c, 0xf8, 0x0c, 0x01, PCI_CONFIG_PORTS_END - PCI_CONFIG_PORTS};
    static const uint8_t end_tag[] = {0x79, 0x00};
    uint8_t bytes[256];
    struct aml crs = {.data = bytes, .size = sizeof(bytes)};

    window(&crs, TAG_WORD, SPACE_BUS, 0, 0, 256);
    aml_bytes(&crs, config_ports, sizeof(config_ports));
    window(&crs, TAG_WORD, SPACE_IO, SPACE_IO_ENTIRE, 0, PCI_CONFIG_PORTS);
    window(&crs, TAG_WORD, SPACE_IO, SPACE_IO_ENTIRE, PCI_CONFIG_PORTS_END,
           0x10000 - PCI_CONFIG_PORTS_END);
    if (board->vga)
        window(&crs, TAG_DWORD, SPACE_MEMORY, SPACE_MEMORY_WRITABLE, LAYOUT_VGA_BASE,
               LAYOUT_VGA_SIZE);
    window(&crs, TAG_DWORD, SPACE_MEMORY, SPACE_MEMORY_WRITABLE, LAYOUT_PCI32_BASE,
           LAYOUT_PCI32_SIZE);
    if (layout->pci64_size)
        window(&crs, TAG_QWORD, SPACE_MEMORY, SPACE_MEMORY_WRITABLE, layout->pci64_base,
               layout->pci64_size);
    aml_bytes(&crs, end_tag, sizeof(end_tag));

    aml_name(aml, "_CRS");
    aml_buffer(aml, bytes, crs.used);
}

/* ---- interrupt routes (6.2.13) ---- */

#define PCI_SLOTS 32u
#define PCI_PINS 4u

static void write_routes(struct aml *aml)
{
    aml_name(aml, "APRT");
    size_t routes = aml_open_package(aml, PCI_SLOTS * PCI_PINS);
    for (unsigned slot = 0; slot < PCI_SLOTS; slot++) {
        for (unsigned pin = 0; pin < PCI_PINS; pin++) {
            size_t route = aml_open_package(aml, 4);
            aml_integer(aml, slot << 16 | 0xffff); /* all functions of the slot */
            aml_integer(aml, pin);
            aml_integer(aml, 0); /* no link device: the next is a global system interrupt */
            aml_integer(aml, LPC_PIRQ_FIRST_PIN + lpc_pirq(slot, pin));
            aml_close(aml, route);
        }
    }
    aml_close(aml, routes);
}

/* ---- the table ---- */

static void write_status(struct aml *aml, const char *name, bool present)
{
    aml_name(aml, name);
    aml_integer(aml, present ? STATUS_PRESENT : 0);
}

/* 8.4: the _UID is that of the processor's MADT entry. */
static void write_processors(struct aml *aml, unsigned cpus)
{
    size_t scope = aml_open_scope(aml, "\\_SB_");
    for (unsigned i = 0; i < cpus; i++) {
        char name[sizeof("Cxxx")];
        snprintf(name, sizeof(name), "C%03X", i & 0xfff);
        size_t device = aml_open_device(aml, name);
        aml_name(aml, "_HID");
        aml_string(aml, "ACPI0007");
        aml_name(aml, "_UID");
        aml_integer(aml, i);
        aml_close(aml, device);
    }
    aml_close(aml, scope);
}

void acpi_write_ssdt(struct aml *aml, const struct board_description *board)
{
    write_status(aml, "HPTS", board->hpet);
    write_status(aml, "KBDS", board->i8042);
    write_status(aml, "FDCS", board->floppy);
    write_status(aml, "COMS", board->serial);
    write_status(aml, "PVPS", board->pvpanic);
    size_t root = aml_open_scope(aml, "\\_SB_.PCI0");
    write_root_resources(aml, board);
    write_routes(aml);
    aml_close(aml, root);
    write_processors(aml, board->cpus);
}
