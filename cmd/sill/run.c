/* `sill run`: hosts one VM in the foreground, on the main thread. */
#include "commands.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "engine/select.h"
#include "options.h"
#include "terminal.h"
#include "vm/firmware.h"
#include "vm/vm.h"

static bool uses_terminal(const struct vm_config *config)
{
    bool uses = config->console.kind == CONSOLE_STDIO;
    for (unsigned i = 0; i < config->device_count; i++)
        uses |= config->devices[i].console.kind == CONSOLE_STDIO;
    return uses;
}

static int run_to_end(struct vm *vm, bool raw, struct error *err)
{
    if (terminal_attach(vm, raw, err))
        return VM_STATUS_ERROR;
    int status = vm_run(vm, err);
    terminal_detach();
    return status;
}

/* Says what was chosen, since another choice would boot otherwise. */
static int choose_firmware(struct pc_config *board, bool quiet, struct error *err)
{
    const char *because;
    int result = firmware_choose(board, &because, err);

    if (result || quiet)
        return result;
    if (because)
        fprintf(stderr, "sill: firmware %s, by what is on %s\n",
                board->firmware == PC_FIRMWARE_UEFI ? "uefi" : "bios", because);
    if (board->firmware == PC_FIRMWARE_UEFI && !board->uefi_vars)
        fprintf(stderr, "sill: UEFI settings end with this VM; --firmware uefi,vars=FILE keeps "
                        "them\n");
    return 0;
}

int command_run(int argc, char **argv)
{
    struct run_options *options = calloc(1, sizeof(*options));
    struct engine_choice choice;
    struct vm *vm = NULL;
    struct error err = {{0}};
    int status = VM_STATUS_ERROR;

    if (!options) {
        error_set(&err, -ENOMEM, "no memory for the options");
        return complain(&err);
    }
    if (options_parse(options, argc, argv, &err))
        goto fail;
    if (engine_select(&choice, options->engine, &err))
        goto fail;
    if (!options->quiet)
        fprintf(stderr, "sill: engine %s: %s\n", choice.ops->name, choice.reason);
    if (choose_firmware(&options->vm.board, options->quiet, &err))
        goto fail;
    options->vm.board.engine = choice.ops;
    options->vm.board.engine_cpuid = &choice.info.supported;

    terminal_block_signals();
    if (vm_new(&vm, &options->vm, &err))
        goto fail;
    if (vm_gdb_address(vm) && !options->quiet)
        fprintf(stderr, "sill: in GDB type: target remote %s\n", vm_gdb_address(vm));
    if (options->dry_run)
        status = VM_STATUS_OK;
    else
        status = run_to_end(vm, uses_terminal(&options->vm), &err);
    vm_free(vm);

fail:
    free(options);
    if (err.text[0])
        return complain(&err);
    return status;
}
