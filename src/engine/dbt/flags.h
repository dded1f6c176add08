/* RFLAGS as POPF and IRET write it. vCPU thread. */
#ifndef SILL_ENGINE_DBT_FLAGS_H
#define SILL_ENGINE_DBT_FLAGS_H

#include "engine/dbt/insn.h"

/* The flags as they are after `image` has been loaded with an operand of `width` bits (16, 32, 64)
 * by code at the current CPL and IOPL, outside VM86. RF is not touched. */
uint64_t flags_merge(const struct dbt_vcpu *v, uint64_t image, unsigned width);

#endif
