/* What devices share beyond device.h: the state table of those that have nothing to save. */
#include "dev/device.h"

static const struct state_field no_fields[] = {STATE_END};

const struct state_desc state_empty = {.name = "empty", .version = 1, .fields = no_fields};
