/* The engines Sill has. */
#include "engine/select.h"

const struct engine_ops *const engine_list[] = {&engine_kvm, &engine_dbt, NULL};
