/* `sill engines`: which engines work on this host, how fast each is, and which `auto` takes. */
#include "commands.h"

#include <stdio.h>
#include <stdlib.h>

#include "engine/select.h"

static void print_engine(const struct engine_ops *engine, struct engine_info *info)
{
    char speed[16] = "-";

    engine->probe(info);
    if (info->usable)
        snprintf(speed, sizeof(speed), "%.*f", info->supervisor_mips < 10 ? 1 : 0,
                 info->supervisor_mips);
    printf("%-8s%-8s%8s  %s\n", engine->name, info->usable ? "yes" : "no", speed, info->reason);
}

int command_engines(int argc, char **argv)
{
    struct engine_info *info = malloc(sizeof(*info));
    struct engine_choice choice;
    struct error err;

    if (argc) {
        free(info);
        error_set(&err, 0, "'sill engines' takes no '%s'", argv[0]);
        return complain(&err);
    }
    if (!info) {
        error_set(&err, 0, "no memory to look at the engines");
        return complain(&err);
    }
    printf("%-8s%-8s%8s  %s\n", "engine", "usable", "MIPS", "");
    for (size_t i = 0; engine_list[i]; i++)
        print_engine(engine_list[i], info);
    free(info);
    if (engine_select(&choice, "auto", &err))
        return complain(&err);
    printf("\nauto takes %s (%s)\n", choice.ops->name, choice.reason);
    return EXIT_SUCCESS;
}
