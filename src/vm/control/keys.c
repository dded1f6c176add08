/* The US keyboard; see keys.h. */
#include "vm/control/keys.h"

#include <string.h>
#include <strings.h>

#include "dev/input/input.h"

/* Rows of keys whose scan codes follow each other. */
static const struct {
    unsigned first;
    const char *plain, *shifted;
} rows[] = {
    {0x02, "1234567890-=", "!@#$%^&*()_+"},
    {0x0f, "\tqwertyuiop[]\n", "\tQWERTYUIOP{}\n"},
    {0x1e, "asdfghjkl;'`", "ASDFGHJKL:\"~"},
    {0x2b, "\\zxcvbnm,./", "|ZXCVBNM<>?"},
    {0x39, " ", " "},
};

static const struct {
    const char *name;
    unsigned code;
} names[] = {
    {"esc", 0x01},
    {"escape", 0x01},
    {"backspace", 0x0e},
    {"tab", 0x0f},
    {"enter", 0x1c},
    {"ctrl", 0x1d},
    {"shift", KEY_LEFT_SHIFT},
    {"alt", 0x38},
    {"space", 0x39},
    {"caps-lock", 0x3a},
    {"f1", 0x3b},
    {"f2", 0x3c},
    {"f3", 0x3d},
    {"f4", 0x3e},
    {"f5", 0x3f},
    {"f6", 0x40},
    {"f7", 0x41},
    {"f8", 0x42},
    {"f9", 0x43},
    {"f10", 0x44},
    {"num-lock", 0x45},
    {"scroll-lock", 0x46},
    {"f11", 0x57},
    {"f12", 0x58},
    {"right-ctrl", INPUT_EXTENDED | 0x1d},
    {"print", INPUT_EXTENDED | 0x37},
    {"right-alt", INPUT_EXTENDED | 0x38},
    {"home", INPUT_EXTENDED | 0x47},
    {"up", INPUT_EXTENDED | 0x48},
    {"page-up", INPUT_EXTENDED | 0x49},
    {"left", INPUT_EXTENDED | 0x4b},
    {"right", INPUT_EXTENDED | 0x4d},
    {"end", INPUT_EXTENDED | 0x4f},
    {"down", INPUT_EXTENDED | 0x50},
    {"page-down", INPUT_EXTENDED | 0x51},
    {"insert", INPUT_EXTENDED | 0x52},
    {"delete", INPUT_EXTENDED | 0x53},
    {"super", INPUT_EXTENDED | 0x5b},
    {"menu", INPUT_EXTENDED | 0x5d},
    {"pause", INPUT_KEY_PAUSE},
};

bool key_of_character(char character, unsigned *code, bool *shift)
{
    for (size_t i = 0; character && i < ARRAY_SIZE(rows); i++) {
        const char *plain = strchr(rows[i].plain, character);
        const char *shifted = strchr(rows[i].shifted, character);
        if (!plain && !shifted)
            continue;
        *shift = !plain;
        *code =
            rows[i].first + (unsigned)(plain ? plain - rows[i].plain : shifted - rows[i].shifted);
        return true;
    }
    return false;
}

bool key_of_name(const char *name, size_t length, unsigned *code)
{
    bool shift;

    if (length == 1)
        return key_of_character(name[0], code, &shift) && !shift;
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        if (strlen(names[i].name) == length && !strncasecmp(names[i].name, name, length)) {
            *code = names[i].code;
            return true;
        }
    }
    return false;
}
