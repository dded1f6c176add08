/* The tables that firmware leaves in memory, or is given; see tables.h. Control thread. */
#include "boot/tables.h"

#include <errno.h>

#include "boot/acpi/acpi.h"
#include "boot/mp_table.h"
#include "boot/smbios.h"

/* The BIOS data area, as far as kernels look at it (IBM PC AT Technical Reference, section 5). */
#define BDA_COM1 0x00u         /* I/O port */
#define BDA_EBDA_SEGMENT 0x0eu /* where the extended area starts */
#define BDA_MEMORY_KIB 0x13u   /* RAM below it */

#define COM1_PORT 0x3f8u

static int put16(struct memory *mem, gpa_t gpa, uint16_t value)
{
    return memory_write(mem, gpa, &value, sizeof(value));
}

static int write_bios_data(const struct board_description *board, struct memory *mem)
{
    const uint8_t ebda_kib = (LAYOUT_VGA_BASE - LAYOUT_EBDA) / KIB;
    int ret = put16(mem, LAYOUT_BDA + BDA_COM1, board->serial ? COM1_PORT : 0);

    if (!ret)
        ret = put16(mem, LAYOUT_BDA + BDA_EBDA_SEGMENT, LAYOUT_EBDA >> 4);
    if (!ret)
        ret = put16(mem, LAYOUT_BDA + BDA_MEMORY_KIB, LAYOUT_EBDA / KIB);
    /* The extended area begins with its size. */
    return ret ? ret : memory_write(mem, LAYOUT_EBDA, &ebda_kib, 1);
}

int boot_build_tables(const struct board_description *board, struct memory *mem,
                      struct board_tables *tables, struct error *err)
{
    struct board_tables written;

    int ret = write_bios_data(board, mem);
    if (ret)
        return error_set(err, ret, "no guest memory below 1 MiB");
    ret = acpi_build(board, mem, &written.rsdp, err);
    if (!ret)
        ret = smbios_build(board, mem, &written.smbios, err);
    if (!ret)
        ret = mp_table_build(board, mem, err);
    if (!ret)
        *tables = written;
    return ret;
}

/* The file etc/e820: entries as in e820 maps. Firmware adds what it reserves itself. */
static int add_memory_map(const struct layout *layout, struct fw_cfg *fw_cfg, struct error *err)
{
    struct entry {
        uint64_t base, size;
        uint32_t type;
    } __attribute__((packed)) map[2] = {
        {0, layout->ram_below_4g, LAYOUT_RAM},
        {LAYOUT_RAM_ABOVE_BASE, layout->ram_above_4g, LAYOUT_RAM},
    };

    return fw_cfg_add_file(fw_cfg, "etc/e820", map, (layout->ram_above_4g ? 2 : 1) * sizeof(map[0]),
                           err);
}

int boot_add_firmware_files(const struct board_description *board, struct fw_cfg *fw_cfg,
                            struct error *err)
{
    int ret = add_memory_map(board->layout, fw_cfg, err);

    if (!ret)
        ret = acpi_add_files(board, fw_cfg, err);
    return ret ? ret : smbios_add_files(board, fw_cfg, err);
}
