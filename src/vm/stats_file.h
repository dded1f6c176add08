/*
 * The file that `--stats` names: what the engine counted (engine_ops.stats), as JSON.
 *
 *     {
 *       "vm": "sill", "engine": "dbt", "cpus": 1,
 *       "statistics": {"code_cache": {...}, "vcpu0": {"exits": {"lookup": 12, ...}, ...}}
 *     }
 *
 * Control thread.
 */
#ifndef SILL_VM_STATS_FILE_H
#define SILL_VM_STATS_FILE_H

#include "machine/pc.h"

/* Opens the file for writing, so that what is wrong with it is known before the guest starts. The
 * descriptor, or negative errno. */
SILL_CHECKED int stats_file_open(const char *path, struct error *err);

/* Replaces what it holds. vCPUs stopped. */
SILL_CHECKED int stats_file_write(int fd, const char *path, struct pc *pc,
                                  const struct pc_config *config, struct error *err);

#endif
