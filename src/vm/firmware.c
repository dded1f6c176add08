/* The choice of the firmware; see firmware.h. */
#include "vm/firmware.h"

#include <errno.h>
#include <string.h>

int firmware_parse(struct pc_config *board, char *text, struct error *err)
{
    char *key = strchr(text, ',');

    if (key)
        *key++ = '\0';
    if (strcmp(text, "uefi") != 0)
        return error_set(err, -EINVAL, "there is no firmware '%s': use uefi", text);
    board->firmware = PC_FIRMWARE_UEFI;
    if (!key)
        return 0;
    if (strncmp(key, "vars=", 5) != 0 || !key[5])
        return error_set(err, -EINVAL, "'%s' is not known: use uefi,vars=FILE", key);
    board->uefi_vars = key + 5;
    return 0;
}
