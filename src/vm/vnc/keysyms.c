/* Key symbols and key codes of VNC clients; see keysyms.h. */
#include "vm/vnc/keysyms.h"

#include "dev/input/input.h"
#include "vm/control/keys.h"

#define LAST_ASCII 0x7e

/* Linux numbers the keys of the original keyboard as its scan codes. */
#define LAST_SAME_CODE 0x58

static const struct {
    uint32_t first; /* of a row of symbols */
    unsigned count;
    unsigned code; /* of the first; the others follow */
} rows[] = {
    {0xff08, 1, 0x0e},                  /* BackSpace */
    {0xff09, 1, 0x0f},                  /* Tab */
    {0xff0d, 1, 0x1c},                  /* Return */
    {0xff13, 1, INPUT_KEY_PAUSE},       /* Pause */
    {0xff14, 1, 0x46},                  /* Scroll_Lock */
    {0xff15, 1, INPUT_EXTENDED | 0x37}, /* Sys_Req */
    {0xff1b, 1, 0x01},                  /* Escape */
    {0xff50, 1, INPUT_EXTENDED | 0x47}, /* Home */
    {0xff51, 1, INPUT_EXTENDED | 0x4b}, /* Left */
    {0xff52, 1, INPUT_EXTENDED | 0x48}, /* Up */
    {0xff53, 1, INPUT_EXTENDED | 0x4d}, /* Right */
    {0xff54, 1, INPUT_EXTENDED | 0x50}, /* Down */
    {0xff55, 1, INPUT_EXTENDED | 0x49}, /* Page_Up */
    {0xff56, 1, INPUT_EXTENDED | 0x51}, /* Page_Down */
    {0xff57, 1, INPUT_EXTENDED | 0x4f}, /* End */
    {0xff61, 1, INPUT_EXTENDED | 0x37}, /* Print */
    {0xff63, 1, INPUT_EXTENDED | 0x52}, /* Insert */
    {0xff67, 1, INPUT_EXTENDED | 0x5d}, /* Menu */
    {0xff6b, 1, INPUT_KEY_PAUSE},       /* Break */
    {0xff7f, 1, 0x45},                  /* Num_Lock */
    {0xff8d, 1, INPUT_EXTENDED | 0x1c}, /* KP_Enter */
    {0xff95, 1, 0x47},                  /* KP_Home */
    {0xff96, 1, 0x4b},                  /* KP_Left */
    {0xff97, 1, 0x48},                  /* KP_Up */
    {0xff98, 1, 0x4d},                  /* KP_Right */
    {0xff99, 1, 0x50},                  /* KP_Down */
    {0xff9a, 1, 0x49},                  /* KP_Page_Up */
    {0xff9b, 1, 0x51},                  /* KP_Page_Down */
    {0xff9c, 1, 0x4f},                  /* KP_End */
    {0xff9d, 1, 0x4c},                  /* KP_Begin */
    {0xff9e, 1, 0x52},                  /* KP_Insert */
    {0xff9f, 1, 0x53},                  /* KP_Delete */
    {0xffaa, 1, 0x37},                  /* KP_Multiply */
    {0xffab, 1, 0x4e},                  /* KP_Add */
    {0xffad, 1, 0x4a},                  /* KP_Subtract */
    {0xffae, 1, 0x53},                  /* KP_Decimal */
    {0xffaf, 1, INPUT_EXTENDED | 0x35}, /* KP_Divide */
    {0xffb0, 1, 0x52},                  /* KP_0 */
    {0xffb1, 3, 0x4f},                  /* KP_1 to KP_3 */
    {0xffb4, 3, 0x4b},                  /* KP_4 to KP_6 */
    {0xffb7, 3, 0x47},                  /* KP_7 to KP_9 */
    {0xffbe, 10, 0x3b},                 /* F1 to F10 */
    {0xffc8, 2, 0x57},                  /* F11, F12 */
    {0xffe1, 1, 0x2a},                  /* Shift_L */
    {0xffe2, 1, 0x36},                  /* Shift_R */
    {0xffe3, 1, 0x1d},                  /* Control_L */
    {0xffe4, 1, INPUT_EXTENDED | 0x1d}, /* Control_R */
    {0xffe5, 1, 0x3a},                  /* Caps_Lock */
    {0xffe7, 1, 0x38},                  /* Meta_L */
    {0xffe8, 1, INPUT_EXTENDED | 0x38}, /* Meta_R */
    {0xffe9, 1, 0x38},                  /* Alt_L */
    {0xffea, 1, INPUT_EXTENDED | 0x38}, /* Alt_R */
    {0xffeb, 2, INPUT_EXTENDED | 0x5b}, /* Super_L, Super_R */
    {0xfe03, 1, INPUT_EXTENDED | 0x38}, /* ISO_Level3_Shift */
    {0xfe20, 1, 0x0f},                  /* ISO_Left_Tab */
    {0xffff, 1, INPUT_EXTENDED | 0x53}, /* Delete */
};

bool keysym_to_key(uint32_t keysym, unsigned *code, enum keysym_shift *shift)
{
    bool with_shift;

    if (keysym <= LAST_ASCII) {
        if (keysym < ' ' || !key_of_character((char)keysym, code, &with_shift))
            return false;
        *shift = keysym == ' ' ? KEYSYM_SHIFT_ANY
                 : with_shift  ? KEYSYM_SHIFT_DOWN
                               : KEYSYM_SHIFT_UP;
        return true;
    }
    *shift = KEYSYM_SHIFT_ANY;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        if (keysym < rows[i].first || keysym - rows[i].first >= rows[i].count)
            continue;
        *code = rows[i].code + (keysym - rows[i].first);
        return true;
    }
    return false;
}

bool keycode_to_key(uint32_t keycode, unsigned *code)
{
    static const uint8_t extended[] = {
        [96] = 0x1c,  [97] = 0x1d,  [98] = 0x35,  [99] = 0x37,  [100] = 0x38, [102] = 0x47,
        [103] = 0x48, [104] = 0x49, [105] = 0x4b, [106] = 0x4d, [107] = 0x4f, [108] = 0x50,
        [109] = 0x51, [110] = 0x52, [111] = 0x53, [125] = 0x5b, [126] = 0x5c, [127] = 0x5d,
    };
    const uint32_t pause = 119;

    if (keycode == pause)
        *code = INPUT_KEY_PAUSE;
    else if (keycode >= 1 && keycode <= LAST_SAME_CODE)
        *code = keycode;
    else if (keycode < ARRAY_SIZE(extended) && extended[keycode])
        *code = INPUT_EXTENDED | extended[keycode];
    else
        return false;
    return true;
}
