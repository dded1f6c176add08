/* `sill run`: hosts one VM in the foreground, on the main thread. */
#include "commands.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "engine/select.h"
#include "options.h"
#include "terminal.h"
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
    if (!options->quiet && options->vm.board.firmware == PC_FIRMWARE_UEFI &&
        !options->vm.board.uefi_vars)
        fprintf(stderr, "sill: UEFI settings end with this VM; --firmware uefi,vars=FILE keeps "
                        "them\n");
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
