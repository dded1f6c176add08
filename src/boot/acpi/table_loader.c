/*
 * How firmware gets the ACPI tables: two files with their bytes, and a file of commands that tell
 * how to put them into memory (the "linker/loader" that SeaBIOS and OVMF implement; commands of 128
 * bytes in the file etc/table-loader). Control thread.
 *
 *     allocate     read a file into memory, at an alignment, in high memory or in the BIOS area
 *     add pointer  add a file's address to a number within another
 *     add checksum make the bytes of a range add up to 0
 */
#include <endian.h>
#include <stdlib.h>
#include <string.h>

#include "boot/acpi/acpi.h"

#define TABLES_FILE "etc/acpi/tables"
#define RSDP_FILE "etc/acpi/rsdp"
#define LOADER_FILE "etc/table-loader"

#define RSDP_ALIGN 16 /* ACPI specification 6.5, 5.2.5.1 */

enum command_kind { COMMAND_ALLOCATE = 1, COMMAND_ADD_POINTER = 2, COMMAND_ADD_CHECKSUM = 3 };
enum zone { ZONE_HIGH = 1, ZONE_BIOS_AREA = 2 };

/* Numbers are little endian. */
struct command {
    uint32_t kind;
    union {
        struct {
            char file[FW_CFG_NAME_SIZE];
            uint32_t align;
            uint8_t zone;
        } __attribute__((packed)) allocate;
        struct {
            char file[FW_CFG_NAME_SIZE]; /* holds the pointer */
            char to[FW_CFG_NAME_SIZE];
            uint32_t at;
            uint8_t width;
        } __attribute__((packed)) pointer;
        struct {
            char file[FW_CFG_NAME_SIZE];
            uint32_t at;
            uint32_t start, length;
        } __attribute__((packed)) checksum;
        uint8_t bytes[124];
    };
} __attribute__((packed));

struct script {
    struct command command[2 + ARRAY_SIZE(((struct acpi_image *)0)->pointer) +
                           ARRAY_SIZE(((struct acpi_image *)0)->sum)];
    unsigned count;
};

static struct command *next(struct script *script, enum command_kind kind)
{
    struct command *command = &script->command[script->count++];

    command->kind = htole32(kind);
    return command;
}

static void allocate(struct script *script, const char *file, uint32_t align, enum zone zone)
{
    struct command *command = next(script, COMMAND_ALLOCATE);

    strcpy(command->allocate.file, file);
    command->allocate.align = htole32(align);
    command->allocate.zone = zone;
}

static void write_script(struct script *script, const struct acpi_image *image)
{
    allocate(script, RSDP_FILE, RSDP_ALIGN, ZONE_BIOS_AREA);
    allocate(script, TABLES_FILE, ACPI_IMAGE_ALIGN, ZONE_HIGH);
    for (unsigned i = 0; i < image->pointer_count; i++) {
        const struct acpi_pointer *pointer = &image->pointer[i];
        struct command *command = next(script, COMMAND_ADD_POINTER);

        strcpy(command->pointer.file, pointer->in_rsdp ? RSDP_FILE : TABLES_FILE);
        strcpy(command->pointer.to, TABLES_FILE);
        command->pointer.at = htole32(pointer->at);
        command->pointer.width = pointer->width;
    }
    for (unsigned i = 0; i < image->sum_count; i++) {
        const struct acpi_sum *sum = &image->sum[i];
        struct command *command = next(script, COMMAND_ADD_CHECKSUM);

        strcpy(command->checksum.file, sum->in_rsdp ? RSDP_FILE : TABLES_FILE);
        command->checksum.at = htole32(sum->at);
        command->checksum.start = htole32(sum->start);
        command->checksum.length = htole32(sum->length);
    }
}

int acpi_add_files(const struct board_description *board, struct fw_cfg *fw_cfg, struct error *err)
{
    struct script script = {0};
    struct acpi_image *image;

    int ret = acpi_build_image(board, &image, err);
    if (ret)
        return ret;
    write_script(&script, image);
    ret = fw_cfg_add_file(fw_cfg, TABLES_FILE, image->data, image->used, err);
    if (!ret)
        ret = fw_cfg_add_file(fw_cfg, RSDP_FILE, &image->rsdp, sizeof(image->rsdp), err);
    if (!ret)
        ret = fw_cfg_add_file(fw_cfg, LOADER_FILE, script.command,
                              script.count * sizeof(script.command[0]), err);
    free(image);
    return ret;
}
