/* The commands of the control socket; see commands.h. */
#include "vm/control/commands.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vm/control/plug.h"
#include "vm/control/pointer.h"
#include "vm/control/screenshot.h"
#include "vm/vm.h"

int command_string(const char **out, json_t *request, const char *key, struct error *err)
{
    *out = json_string_value(json_object_get(request, key));
    return *out ? 0 : error_set(err, -EINVAL, "it needs the string '%s'", key);
}

static void put(json_t *reply, const char *key, json_t *value)
{
    /* Without memory the answer lacks a field. */
    (void)json_object_set_new(reply, key, value);
}

static const char *state_name(struct vm *vm)
{
    static const char *const names[VM_STATE_COUNT] = {
        [VM_CREATED] = "created",  [VM_RUNNING] = "running", [VM_PAUSED] = "paused",
        [VM_HELD] = "held by GDB", [VM_ENDED] = "ended",
    };
    return names[vm_get_state(vm)];
}

static int run_status(struct control *control, json_t *request, json_t *reply, struct error *err)
{
    const struct pc_config *board = &vm_get_config(control->vm)->board;

    put(reply, "name", json_string(board->name));
    put(reply, "state", json_string(state_name(control->vm)));
    put(reply, "engine", json_string(board->engine->name));
    put(reply, "cpus", json_integer(board->cpus));
    put(reply, "memory", json_integer((json_int_t)board->memory));
    return CONTROL_DONE;
}

/* Those that the control thread serves next: the answer tells what has become of them. */
static int request_served(struct control *control, json_t *reply, struct error *err)
{
    if (vm_has_requests(control->vm))
        return CONTROL_LATER;
    put(reply, "state", json_string(state_name(control->vm)));
    return CONTROL_DONE;
}

static int ask(struct control *control, enum vm_request request)
{
    vm_request(control->vm, request);
    return CONTROL_LATER;
}

static int run_pause(struct control *control, json_t *request, json_t *reply, struct error *err)
{
    return ask(control, VM_REQUEST_PAUSE);
}

static int run_resume(struct control *control, json_t *request, json_t *reply, struct error *err)
{
    return ask(control, VM_REQUEST_RESUME);
}

static int run_reset(struct control *control, json_t *request, json_t *reply, struct error *err)
{
    return ask(control, VM_REQUEST_RESET);
}

static int run_quit(struct control *control, json_t *request, json_t *reply, struct error *err)
{
    return ask(control, VM_REQUEST_QUIT);
}

static int run_powerdown(struct control *control, json_t *request, json_t *reply, struct error *err)
{
    pc_power_button(vm_get_board(control->vm));
    return CONTROL_DONE;
}

static int run_screenshot(struct control *control, json_t *request, json_t *reply,
                          struct error *err)
{
    const char *file;
    int result = command_string(&file, request, "file", err);

    return result ? result : screenshot_write(pc_display(vm_get_board(control->vm)), file, err);
}

static int run_screen_text(struct control *control, json_t *request, json_t *reply,
                           struct error *err)
{
    char *text;
    int result = display_text(pc_display(vm_get_board(control->vm)), &text);

    if (result == -ENODATA)
        return error_set(err, result, "the screen shows no text but a picture: take a screenshot");
    if (result)
        return error_set(err, result, "no memory for the screen's text");
    put(reply, "text", json_string(text));
    free(text);
    return CONTROL_DONE;
}

/* Takes the disc out of a drive, and puts in `file` with its options unless that is NULL. With
 * "force": true also when the guest has locked the drive. */
static int change_medium(struct control *control, json_t *request, const char *file,
                         struct error *err)
{
    bool force = json_is_true(json_object_get(request, "force"));
    struct block_options options;
    const char *drive;
    int result = command_string(&drive, request, "drive", err);

    if (!result && file)
        result = block_parse_cdrom_options(&options, file, err);
    return result ? result
                  : pc_change_medium(vm_get_board(control->vm), drive, file ? &options : NULL,
                                     force, err);
}

static int run_eject(struct control *control, json_t *request, json_t *reply, struct error *err)
{
    return change_medium(control, request, NULL, err);
}

static int run_change(struct control *control, json_t *request, json_t *reply, struct error *err)
{
    const char *file;
    int result = command_string(&file, request, "file", err);

    return result ? result : change_medium(control, request, file, err);
}

/* One client types at a time. */
static int check_typist(struct control *control, struct error *err)
{
    if (typist_is_busy(&control->typist))
        return error_set(err, -EBUSY, "another client is typing");
    if (vm_get_state(control->vm) != VM_RUNNING)
        return error_set(err, -EAGAIN, "the VM is %s and takes no keys", state_name(control->vm));
    control->typist.input = pc_input(vm_get_board(control->vm));
    return 0;
}

static int run_type(struct control *control, json_t *request, json_t *reply, struct error *err)
{
    const char *text;
    int result = check_typist(control, err);

    if (!result)
        result = command_string(&text, request, "text", err);
    if (!result)
        result = typist_text(&control->typist, text, err);
    return result ? result : CONTROL_LATER;
}

static int run_key(struct control *control, json_t *request, json_t *reply, struct error *err)
{
    const char *key;
    int result = check_typist(control, err);

    if (!result)
        result = command_string(&key, request, "key", err);
    if (!result)
        result = typist_keys(&control->typist, key, err);
    return result ? result : CONTROL_LATER;
}

static int run_point(struct control *control, json_t *request, json_t *reply, struct error *err)
{
    struct pc *board = vm_get_board(control->vm);
    const char *to;
    int result = command_string(&to, request, "to", err);

    if (!result && vm_get_state(control->vm) != VM_RUNNING)
        result = error_set(err, -EAGAIN, "the VM is %s and its pointer does not move",
                           state_name(control->vm));
    return result ? result : pointer_place(pc_input(board), pc_display(board), to, err);
}

static int finish_typing(struct control *control, json_t *reply, struct error *err)
{
    if (typist_is_busy(&control->typist))
        return CONTROL_LATER;
    if (control->typist.ignored)
        return error_set(err, -ETIMEDOUT, "the guest does not take the keys");
    return CONTROL_DONE;
}

static const struct command commands[] = {
    {"change", run_change, NULL},
    {"device_add", plug_device_add, NULL},
    {"device_del", plug_device_del, NULL},
    {"eject", run_eject, NULL},
    {"key", run_key, finish_typing},
    {"pause", run_pause, request_served},
    {"point", run_point, NULL},
    {"powerdown", run_powerdown, NULL},
    {"quit", run_quit, request_served},
    {"reset", run_reset, request_served},
    {"resume", run_resume, request_served},
    {"screen-text", run_screen_text, NULL},
    {"screenshot", run_screenshot, NULL},
    {"slots", plug_slots, NULL},
    {"status", run_status, NULL},
    {"type", run_type, finish_typing},
};

const struct command *command_find(const char *name)
{
    for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
        if (!strcmp(commands[i].name, name))
            return &commands[i];
    }
    return NULL;
}
