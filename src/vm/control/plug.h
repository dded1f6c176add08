/*
 * Commands of the control socket for devices that come and go: device_add, device_del and slots, as
 * struct command.run in commands.h. Control thread.
 */
#ifndef SILL_VM_CONTROL_PLUG_H
#define SILL_VM_CONTROL_PLUG_H

#include "vm/control/commands.h"

int plug_device_add(struct control *control, json_t *request, json_t *reply, struct error *err);
int plug_device_del(struct control *control, json_t *request, json_t *reply, struct error *err);
int plug_slots(struct control *control, json_t *request, json_t *reply, struct error *err);

#endif
