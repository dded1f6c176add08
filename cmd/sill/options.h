/*
 * The command line of `sill run`: one table of options drives the parser, its sentences and the
 * help text.
 */
#ifndef SILL_CMD_OPTIONS_H
#define SILL_CMD_OPTIONS_H

#include <stdio.h>

#include "vm/vm.h"

struct run_options {
    struct vm_config vm; /* its pointers lead into argv and into this struct */
    struct block_options disks[PC_MAX_DISKS];
    struct block_options floppies[PC_MAX_FLOPPIES];
    struct net_options nets[PC_MAX_NETS];
    const char *engine; /* "auto", "kvm", "dbt" */
    bool dry_run;
    bool quiet;
};

/* Reads `argv` (the words after `run`), which it may change, and checks all that needs no engine
 * and no file; images without an option are looked at. -EINVAL with the sentence. */
SILL_CHECKED int options_parse(struct run_options *options, int argc, char **argv,
                               struct error *err);

/* An entry of help: how something is written, and what it does, in lines of up to 51 characters. */
void options_print_entry(FILE *out, const char *usage, const char *what);
/* Every option and device, one a line. */
void options_print_help(FILE *out);

/* The word of `words` that `typed` was probably meant to be, or NULL. */
const char *options_nearest(const char *typed, const char *const *words, size_t count);

#endif
