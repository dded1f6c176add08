/* The command `sill`: finds the subcommand. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "commands.h"
#include "options.h"

int complain(const struct error *err)
{
    fprintf(stderr, "sill: %s\n", err->text);
    return EXIT_FAILURE;
}

static void help_general(void)
{
    puts("Runs virtual machines, with hardware virtualization or without.\n"
         "\n"
         "  sill run IMAGE... [options]   run a VM on this terminal\n"
         "  sill ctl SOCKET COMMAND       steer a VM that runs\n"
         "  sill engines                  which engines work here, and how fast\n"
         "  sill help [COMMAND]           more about a command\n"
         "  sill --version");
}

static void help_run(void)
{
    puts("sill run IMAGE... [options]\n"
         "sill run --kernel FILE [options]\n"
         "\n"
         "Runs a VM until it powers off. An IMAGE becomes a CD-ROM, a floppy disk or a\n"
         "disk, by what is in it. On the console Ctrl-] q ends the VM, and Ctrl-] Ctrl-]\n"
         "sends one Ctrl-]. SIGINT, SIGTERM and SIGHUP end it as well.\n");
    options_print_help(stdout);
    puts("\n"
         "A SIZE is a number with K, M, G or T. A CONSOLE is one of\n"
         "  stdio          this terminal, or standard input and output; for one user only\n"
         "  file:PATH      output only; the file is emptied first\n"
         "  socket:PATH    a Unix socket; output is lost while it has no client\n"
         "  none\n"
         "\n"
         "Exit status: 0 after the guest powered off or the user ended the run; 1 after\n"
         "a usage or start-up error; 2 when the guest crashed (triple fault, pvpanic)\n"
         "or, with --no-reboot, was reset; (V << 1) | 1 after debug-exit took V.");
}

static void help_engines(void)
{
    puts("sill engines\n"
         "\n"
         "Lists the engines, whether each works on this host and why not, how many million\n"
         "instructions of a guest's kernel it runs in a second, and which 'auto' takes.");
}

static const struct command {
    const char *name;
    int (*run)(int argc, char **argv);
    void (*help)(void);
} commands[] = {
    {"run", command_run, help_run},
    {"engines", command_engines, help_engines},
    {"ctl", command_ctl, help_ctl},
};

static const struct command *find_command(const char *name)
{
    for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
        if (!strcmp(name, commands[i].name))
            return &commands[i];
    }
    return NULL;
}

static int unknown_command(const char *name)
{
    static const char *const words[] = {"run", "engines", "ctl", "help"};
    struct error err;
    const char *nearest = options_nearest(name, words, ARRAY_SIZE(words));

    if (nearest)
        error_set(&err, 0, "unknown command '%s': did you mean 'sill %s'?", name, nearest);
    else
        error_set(&err, 0, "unknown command '%s': 'sill help' lists those that there are", name);
    return complain(&err);
}

static int command_help(int argc, char **argv)
{
    if (!argc) {
        help_general();
        return EXIT_SUCCESS;
    }
    const struct command *command = find_command(argv[0]);
    if (!command)
        return unknown_command(argv[0]);
    command->help();
    return EXIT_SUCCESS;
}

static bool is_help(const char *word)
{
    return !strcmp(word, "--help") || !strcmp(word, "-h");
}

/* Whoever starts us with a standard descriptor closed must not see one of our own files in its
 * place. */
static void fill_standard_descriptors(void)
{
    int fd;
    do
        fd = open("/dev/null", O_RDWR);
    while (fd >= STDIN_FILENO && fd <= STDERR_FILENO);
    if (fd >= 0)
        close(fd);
}

int main(int argc, char **argv)
{
    fill_standard_descriptors();
    if (argc < 2) {
        help_general();
        return EXIT_FAILURE;
    }
    if (!strcmp(argv[1], "--version")) {
        puts("sill " SILL_VERSION);
        return EXIT_SUCCESS;
    }
    if (is_help(argv[1]) || !strcmp(argv[1], "help"))
        return command_help(argc - 2, argv + 2);

    const struct command *command = find_command(argv[1]);
    if (!command)
        return unknown_command(argv[1]);
    if (argc > 2 && is_help(argv[2])) {
        command->help();
        return EXIT_SUCCESS;
    }
    return command->run(argc - 2, argv + 2);
}
