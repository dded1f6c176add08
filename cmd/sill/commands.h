/* The subcommands of `sill`. Each gets the words after its own name and returns an exit status. */
#ifndef SILL_CMD_COMMANDS_H
#define SILL_CMD_COMMANDS_H

#include "base/error.h"

int command_run(int argc, char **argv);
int command_engines(int argc, char **argv);
int command_ctl(int argc, char **argv);
void help_ctl(void);

/* "sill: SENTENCE" on standard error; returns the exit status of usage and start-up errors. */
int complain(const struct error *err);

#endif
