/* The choice of the firmware and of what it boots from; see firmware.h. */
#include "vm/firmware.h"

#include <errno.h>
#include <string.h>

static int parse_uefi(struct pc_config *board, const char *key, struct error *err)
{
    board->firmware = PC_FIRMWARE_UEFI;
    if (!*key)
        return 0;
    if (strncmp(key, ",vars=", 6) != 0 || !key[6])
        return error_set(err, -EINVAL, "'%s' is not known: use uefi,vars=FILE", key);
    board->uefi_vars = key + 6;
    return 0;
}

int firmware_parse(struct pc_config *board, char *text, struct error *err)
{
    if (!strncmp(text, "uefi", 4) && (!text[4] || text[4] == ','))
        return parse_uefi(board, text + 4, err);
    if (!*text)
        return error_set(err, -EINVAL, "use bios, uefi or the name of a file");
    board->firmware = PC_FIRMWARE_BIOS;
    board->bios_file = strcmp(text, "bios") ? text : NULL;
    return 0;
}

static int add_class(struct pc_config *board, const char *word, struct error *err)
{
    static const char *const names[PC_BOOT_CLASSES] = {[PC_BOOT_DISK] = "disk",
                                                       [PC_BOOT_CD] = "cd",
                                                       [PC_BOOT_FLOPPY] = "floppy",
                                                       [PC_BOOT_NET] = "net"};

    for (unsigned i = 0; i < PC_BOOT_CLASSES; i++) {
        if (strcmp(word, names[i]) != 0)
            continue;
        for (unsigned j = 0; j < board->boot_order_count; j++) {
            if (board->boot_order[j] == i)
                return error_set(err, -EINVAL, "'%s' is in the order twice", word);
        }
        board->boot_order[board->boot_order_count++] = i;
        return 0;
    }
    return error_set(err, -EINVAL, "nothing boots from '%s': use disk, cd, floppy or net", word);
}

/* The words after order= are those up to the end, but for `menu`. */
int firmware_parse_boot(struct pc_config *board, char *text, struct error *err)
{
    bool in_order = false;
    char *rest;

    for (char *word = strtok_r(text, ",", &rest); word; word = strtok_r(NULL, ",", &rest)) {
        int result = 0;

        if (!strcmp(word, "menu")) {
            board->boot_menu = true;
        } else if (!in_order && !strncmp(word, "order=", 6)) {
            in_order = true;
            result = add_class(board, word + 6, err);
        } else if (in_order) {
            result = add_class(board, word, err);
        } else {
            result = error_set(err, -EINVAL,
                               "'%s' is not known: use order=cd,disk,floppy,net or menu", word);
        }
        if (result)
            return result;
    }
    return 0;
}

/* Names elsewhere belong to firmware and its makers (QEMU's docs/specs/fw_cfg.rst). */
int firmware_parse_file(struct pc_config *board, char *text, struct error *err)
{
    char *path = strchr(text, '=');

    if (strncmp(text, "opt/", 4) != 0 || !path || !path[1])
        return error_set(err, -EINVAL, "'%s' is no file for the guest: use opt/NAME=FILE", text);
    if (board->firmware_file_count == PC_MAX_FIRMWARE_FILES)
        return error_set(err, -EINVAL, "'%s' is one file too many: %d work", text,
                         PC_MAX_FIRMWARE_FILES);
    *path++ = '\0';
    board->firmware_files[board->firmware_file_count++] =
        (struct pc_firmware_file){.name = text, .path = path};
    return 0;
}
