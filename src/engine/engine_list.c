/* The engines Sill has, and the choice among them. */
#include "engine/select.h"

const struct engine_ops *const engine_list[] = {&engine_kvm, &engine_dbt, NULL};

int engine_select(struct engine_choice *out, const char *name, struct error *err)
{
    return engine_select_from(out, name, engine_list, err);
}
