/*
 * The board's ISA DMA controllers, and its floppy drives, which are there only when they are asked
 * for. Control thread.
 */
#include "dev/legacy/i8237.h"
#include "dev/storage/floppy.h"
#include "machine/pc_internal.h"

#define CMOS_FLOPPY_KINDS 0x10 /* the first drive in the upper half */
#define CMOS_EQUIPMENT 0x14
#define EQUIPMENT_FLOPPY 0x01
#define EQUIPMENT_SECOND_FLOPPY 0x40
#define EQUIPMENT_ALWAYS 0x06 /* coprocessor, mouse */

static int insert(struct pc *pc, struct floppy *fdc, unsigned number, struct error *err)
{
    struct block_device *disk;
    int result = block_open(&disk, &pc->config.floppies[number], err);

    if (result)
        return result;
    result = floppy_insert(fdc, number, disk, err);
    if (result) {
        block_close(disk);
        return result;
    }
    pc_add_boot_device(pc, PC_BOOT_FLOPPY, "/pci@i0cf8/isa@1f/fdc@%04x/floppy@%u", FLOPPY_BASE,
                       number);
    return 0;
}

int pc_add_floppies(struct pc *pc, struct error *err)
{
    struct i8237 *dma;
    struct floppy *fdc;

    if (i8237_new(&dma, &pc->memory))
        return pc_out_of_memory(err);
    pc_add_device(pc, i8237_device(dma));
    int result = i8237_attach(dma, &pc->bus, err);
    if (result)
        return result;
    mc146818_set_byte(pc->rtc, CMOS_EQUIPMENT, EQUIPMENT_ALWAYS);
    if (!pc->config.floppy_count)
        return 0;

    const struct floppy_config config = {.irq = pc_isa_line(pc, FLOPPY_IRQ), .dma = dma};
    if (floppy_new(&fdc, &config))
        return pc_out_of_memory(err);
    pc_add_device(pc, floppy_device(fdc));
    result = floppy_attach(fdc, &pc->bus, err);
    for (unsigned i = 0; i < pc->config.floppy_count && !result; i++)
        result = insert(pc, fdc, i, err);
    mc146818_set_byte(pc->rtc, CMOS_FLOPPY_KINDS,
                      (uint8_t)(floppy_kind(fdc, 0) << 4 | floppy_kind(fdc, 1)));
    mc146818_set_byte(pc->rtc, CMOS_EQUIPMENT,
                      EQUIPMENT_ALWAYS | EQUIPMENT_FLOPPY |
                          (pc->config.floppy_count > 1 ? EQUIPMENT_SECOND_FLOPPY : 0));
    return result;
}
