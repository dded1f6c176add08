/* What the software engine needs of, and can offer on, this host. */
#ifndef SILL_ENGINE_DBT_HOST_H
#define SILL_ENGINE_DBT_HOST_H

#include "engine/engine.h"

/* Whether the host's CPU has what translated code uses; the reason if not. */
bool host_usable(char *reason, size_t size);

/* The CPUID table of all that guests can have. */
void host_supported_cpuid(struct x86_cpuid *table);

/* Million supervisor-mode instructions a second, by a short run (some milliseconds). (measure.c) */
double host_measure(void);

/* engine_ops.probe */
void host_probe(struct engine_info *info);

#endif
