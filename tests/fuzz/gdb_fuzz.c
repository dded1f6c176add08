/*
 * Fuzzes the GDB stub's side of its protocol: what a client may send must not break it, and no
 * reply may be longer than was agreed on. The first byte chooses the description of the registers;
 * a byte of 0x80 or more between packets makes the VM stop, for a reason that it chooses.
 */
#include <stdlib.h>

#include "../unit/gdb_rig.h"
#include "fuzz.h"

static void stop(struct gdb_rig *rig, uint8_t how)
{
    struct engine_vcpu *vcpu = &rig->vcpu[how & 1];

    if (rig->held)
        return;
    vcpu->has_stop = how & 2;
    vcpu->stop = (how >> 2 & 7) - 2;
    rig->held = true;
    gdb_session_held(&rig->session);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct gdb_rig rig;
    static struct gdb_reader reader;
    static char frame[GDB_FRAME_SIZE];
    struct gdb_session *s = &rig.session;

    if (!size || rig_init(&rig, data[0] % 3))
        return 0;
    memset(&reader, 0, sizeof(reader));
    for (size_t i = 1; i < size; i++) {
        if (reader.state == GDB_BETWEEN && data[i] & 0x80)
            stop(&rig, data[i]);
        switch (gdb_reader_take(&reader, data[i])) {
        case GDB_INPUT_PACKET:
        case GDB_INPUT_DAMAGED: /* a fuzzer is not good at sums */
            if (s->state == GDB_STOPPED)
                gdb_session_packet(s, reader.data, reader.length);
            break;
        case GDB_INPUT_INTERRUPT:
            gdb_session_interrupt(s);
            break;
        default:
            break;
        }
        if (s->has_reply && gdb_writer_end(&s->reply, frame) > sizeof(frame))
            abort();
        s->has_reply = false;
        s->reply.length = 0;
    }
    rig_done(&rig);
    return 0;
}
