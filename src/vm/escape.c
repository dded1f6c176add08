/* The escape key of an interactive console; see escape.h. */
#include "vm/escape.h"

size_t escape_filter(struct escape *escape, const uint8_t *in, size_t length, uint8_t *out,
                     bool *leave)
{
    size_t count = 0;

    *leave = false;
    for (size_t i = 0; i < length; i++) {
        if (!escape->pending) {
            if (in[i] == ESCAPE_KEY)
                escape->pending = true;
            else
                out[count++] = in[i];
            continue;
        }
        escape->pending = false;
        if (in[i] == 'q' || in[i] == 'Q') {
            *leave = true;
            break;
        }
        out[count++] = ESCAPE_KEY;
        if (in[i] != ESCAPE_KEY)
            out[count++] = in[i];
    }
    return count;
}
