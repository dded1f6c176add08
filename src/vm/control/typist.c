/* Keys at the guest's pace; see typist.h. */
#include "vm/control/typist.h"

#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "vm/control/keys.h"

#define NS_PER_MS 1000000ull
#define PACE_NS (15 * NS_PER_MS)      /* between two events */
#define LOOK_MS 2                     /* has the guest taken it? */
#define PATIENCE_NS (30 * NS_PER_SEC) /* firmware may be busy for long */
#define MAX_HELD 8

static void begin(struct typist *typist)
{
    typist->next = typist->count = 0;
    typist->due = typist->limit = 0;
    typist->ignored = false;
}

static void add(struct typist *typist, unsigned code, bool down)
{
    typist->event[typist->count++] = (struct typist_event){(uint16_t)code, down};
}

int typist_text(struct typist *typist, const char *text, struct error *err)
{
    size_t length = strlen(text);
    unsigned code;
    bool shift;

    if (length > TYPIST_TEXT_MAX)
        return error_set(err, -EINVAL, "%zu characters are too many: type up to %d at a time",
                         length, TYPIST_TEXT_MAX);
    for (size_t i = 0; i < length; i++) {
        if (!key_of_character(text[i], &code, &shift))
            return error_set(err, -EINVAL, "no key of a US keyboard writes character %zu (%#x)",
                             i + 1, (unsigned char)text[i]);
    }
    begin(typist);
    for (size_t i = 0; i < length; i++) {
        key_of_character(text[i], &code, &shift);
        if (shift)
            add(typist, KEY_LEFT_SHIFT, true);
        add(typist, code, true);
        add(typist, code, false);
        if (shift)
            add(typist, KEY_LEFT_SHIFT, false);
    }
    return 0;
}

/* The name that `at` begins with: a '-' may be a key, or part of a name ("page-up"). */
static size_t name_length(const char *at, unsigned *code)
{
    for (size_t length = strlen(at); length; length--) {
        if ((!at[length] || at[length] == '-') && key_of_name(at, length, code))
            return length;
    }
    return 0;
}

int typist_keys(struct typist *typist, const char *names, struct error *err)
{
    unsigned code[MAX_HELD], count = 0;
    const char *at = names;

    do {
        size_t length = count < MAX_HELD ? name_length(at, &code[count]) : 0;
        if (!length)
            return error_set(err, -EINVAL,
                             "'%s' is no key: use names like enter, f1, page-up, ctrl-alt-delete",
                             at);
        count++;
        at += length;
    } while (*at++ == '-');
    begin(typist);
    for (unsigned i = 0; i < count; i++)
        add(typist, code[i], true);
    while (count--) {
        if (code[count] != INPUT_KEY_PAUSE)
            add(typist, code[count], false);
    }
    return 0;
}

void typist_work(struct typist *typist, uint64_t now)
{
    if (!typist_is_busy(typist) || now < typist->due)
        return;
    if (!input_keys_taken(typist->input)) {
        if (typist->limit && now > typist->limit) {
            typist->ignored = true;
            typist->next = typist->count;
        }
        return;
    }
    const struct typist_event *event = &typist->event[typist->next++];
    input_key(typist->input, event->code, event->down);
    typist->due = now + PACE_NS;
    typist->limit = now + PATIENCE_NS;
}

int typist_timeout(const struct typist *typist, uint64_t now)
{
    if (!typist_is_busy(typist))
        return -1;
    return now < typist->due ? (int)((typist->due - now) / NS_PER_MS) + 1 : LOOK_MS;
}
