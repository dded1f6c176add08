/* The GDB stub without sockets: frames, the meaning of packets, registers in both directions. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "gdb_rig.h"

/* ---- frames ---- */

static enum gdb_input feed(struct gdb_reader *reader, const char *bytes, size_t length)
{
    enum gdb_input result = GDB_INPUT_NONE;

    for (size_t i = 0; i < length; i++) {
        assert_int_equal(result, GDB_INPUT_NONE); /* only the last byte brings something */
        result = gdb_reader_take(reader, (uint8_t)bytes[i]);
    }
    return result;
}

#define FEED(reader, text) feed(reader, text, sizeof(text) - 1)

static void packets_are_taken_from_their_frames(void **state)
{
    static struct gdb_reader reader;

    assert_int_equal(FEED(&reader, "+$g#67"), GDB_INPUT_PACKET);
    assert_string_equal(reader.data, "g");
    assert_int_equal(FEED(&reader, "$#00"), GDB_INPUT_PACKET);
    assert_int_equal(reader.length, 0);
    assert_int_equal(FEED(&reader, "$X0,2:}\x03\0#a0"), GDB_INPUT_PACKET);
    assert_int_equal(reader.length, 7);
    assert_memory_equal(reader.data, "X0,2:#\0", 8);
    assert_int_equal(FEED(&reader, "\x03"), GDB_INPUT_INTERRUPT);
    assert_int_equal(FEED(&reader, "-"), GDB_INPUT_AGAIN);
    /* A packet that is cut off by the next. */
    assert_int_equal(FEED(&reader, "$m12$?#3f"), GDB_INPUT_PACKET);
    assert_string_equal(reader.data, "?");
}

static void damaged_packets_are_refused(void **state)
{
    static struct gdb_reader reader;

    assert_int_equal(FEED(&reader, "$g#68"), GDB_INPUT_DAMAGED);
    assert_int_equal(FEED(&reader, "$g#6x"), GDB_INPUT_DAMAGED);
    assert_int_equal(FEED(&reader, "$g#x7"), GDB_INPUT_DAMAGED);
    assert_int_equal(FEED(&reader, "$g#67"), GDB_INPUT_PACKET);
}

static void a_packet_may_be_as_long_as_was_told(void **state)
{
    static struct gdb_reader reader;

    for (size_t length = GDB_PACKET_SIZE - 1; length <= GDB_PACKET_SIZE + 1; length++) {
        char end[4];

        gdb_reader_take(&reader, '$');
        for (size_t i = 0; i < length; i++)
            assert_int_equal(gdb_reader_take(&reader, 'a'), GDB_INPUT_NONE);
        snprintf(end, sizeof(end), "#%02x", (unsigned)(length * 'a') & 0xff);
        assert_int_equal(FEED(&reader, ""), GDB_INPUT_NONE);
        assert_int_equal(feed(&reader, end, 3),
                         length <= GDB_PACKET_SIZE ? GDB_INPUT_PACKET : GDB_INPUT_DAMAGED);
    }
}

static void what_is_written_is_read_back(void **state)
{
    static struct gdb_reader reader;
    static struct gdb_writer writer;
    static char frame[GDB_FRAME_SIZE];
    uint8_t bytes[256];

    for (unsigned i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)i;
    gdb_put_binary(&writer, bytes, sizeof(bytes));
    assert_false(writer.overflow);
    size_t length = gdb_writer_end(&writer, frame);
    assert_int_equal(feed(&reader, frame, length), GDB_INPUT_PACKET);
    assert_int_equal(reader.length, sizeof(bytes));
    assert_memory_equal(reader.data, bytes, sizeof(bytes));
}

static void a_reply_that_is_too_long_is_noticed(void **state)
{
    static struct gdb_writer writer;
    static char zeros[GDB_PACKET_SIZE];

    gdb_put_hex(&writer, zeros, GDB_PACKET_SIZE / 2);
    assert_false(writer.overflow);
    gdb_put_hex(&writer, zeros, 1);
    assert_true(writer.overflow);
    assert_int_equal(writer.length, GDB_PACKET_SIZE);
}

/* ---- packets ---- */

static struct gdb_rig rig;

static int setup(void **state)
{
    return rig_init(&rig, GDB_ARCH_AUTO);
}

static int teardown(void **state)
{
    rig_done(&rig);
    return 0;
}

/* Sends a packet; what it is answered with, or NULL. */
static const char *ask(const char *packet)
{
    static char text[GDB_PACKET_SIZE + 1];

    gdb_session_packet(&rig.session, packet, strlen(packet));
    if (!rig.session.has_reply)
        return NULL;
    rig.session.has_reply = false;
    assert_false(rig.session.reply.overflow);
    memcpy(text, rig.session.reply.data, rig.session.reply.length);
    text[rig.session.reply.length] = '\0';
    rig.session.reply.length = 0;
    return text;
}

static const char *stop(unsigned vcpu, int reason)
{
    static char text[100];

    rig.vcpu[vcpu].has_stop = true;
    rig.vcpu[vcpu].stop = reason;
    rig.held = true;
    gdb_session_held(&rig.session);
    assert_true(rig.session.has_reply);
    rig.session.has_reply = false;
    snprintf(text, sizeof(text), "%.*s", (int)rig.session.reply.length, rig.session.reply.data);
    rig.session.reply.length = 0;
    return text;
}

static void breakpoints_go_to_every_vcpu(void **state)
{
    ask("qSupported:swbreak+;hwbreak+");
    assert_string_equal(ask("Z0,1234,1"), "OK");
    assert_string_equal(ask("Z0,1234,1"), "OK"); /* the same */
    assert_string_equal(ask("Z2,5678,4"), "OK");
    assert_null(ask("vCont;c"));
    for (unsigned i = 0; i < RIG_CPUS; i++) {
        assert_int_equal(rig.vcpu[i].debug.count, 2);
        assert_int_equal(rig.vcpu[i].debug.breakpoint[0].address, 0x1234);
        assert_int_equal(rig.vcpu[i].debug.breakpoint[0].kind, ENGINE_BREAK_EXECUTE);
        assert_int_equal(rig.vcpu[i].debug.breakpoint[1].kind, ENGINE_BREAK_WRITE);
        assert_int_equal(rig.vcpu[i].debug.breakpoint[1].length, 4);
        assert_false(rig.vcpu[i].debug.single_step);
    }
    assert_string_equal(stop(1, 1), "T05thread:2;watch:5678;");
    assert_string_equal(ask("z2,5678,4"), "OK");
    assert_null(ask("vCont;c"));
    assert_string_equal(stop(0, 0), "T05thread:1;"); /* its rip is another, it seems */
    assert_null(ask("vCont;c"));
    rig.vcpu[0].state.rip = 0x1234;
    assert_string_equal(stop(0, 0), "T05thread:1;swbreak:;");
    assert_int_equal(rig.vcpu[1].debug.count, 1);
}

static void an_engine_without_room_is_an_error(void **state)
{
    for (unsigned i = 0; i < RIG_POINTS; i++) {
        char packet[20];

        snprintf(packet, sizeof(packet), "Z1,%x,1", i);
        assert_string_equal(ask(packet), "OK");
    }
    assert_string_equal(ask("Z1,99,1"), "E1c");
    assert_null(ask("vCont;c"));
    assert_int_equal(rig.vcpu[0].debug.count, RIG_POINTS);
}

static void a_step_is_for_the_thread_that_was_named(void **state)
{
    assert_null(ask("vCont;s:2;c"));
    assert_false(rig.vcpu[0].debug.single_step);
    assert_true(rig.vcpu[1].debug.single_step);
    assert_false(rig.vcpu[0].stays);
    assert_string_equal(stop(1, ENGINE_STEPPED), "T05thread:2;");
    assert_null(ask("vCont;s:1"));
    assert_true(rig.vcpu[0].debug.single_step);
    assert_true(rig.vcpu[1].stays);
    stop(0, ENGINE_STEPPED);
    assert_string_equal(ask("vCont;x"), "E01");
    assert_string_equal(ask("vCont;s:7"), "E01");
    assert_string_equal(ask("vCont"), "E01");
}

static void a_second_watchpoint_hit_is_not_lost(void **state)
{
    ask("Z3,100,4");
    ask("Z4,200,4");
    ask("vCont;c");
    rig.vcpu[0].has_stop = true;
    rig.vcpu[0].stop = 0;
    assert_string_equal(stop(1, 1), "T05thread:1;rwatch:100;");
    assert_string_equal(ask("vCont;c"), "T05thread:2;awatch:200;");
    assert_int_equal(rig.goes, 1);
    assert_null(ask("vCont;c"));
    assert_int_equal(rig.goes, 2);
}

static void a_breakpoint_is_passed_when_going_on(void **state)
{
    rig.vcpu[0].state.rip = 0x1234;
    ask("Z0,1234,1");
    ask("vCont;c");
    stop(0, 0);
    ask("vCont;c");
    assert_true(rig.vcpu[0].state.rflags & X86_FLAG_RF);
    rig.vcpu[0].state.rflags &= ~X86_FLAG_RF;
    stop(0, 0);
    rig.vcpu[0].state.rip = 0x1238; /* GDB moved it */
    ask("vCont;c");
    assert_false(rig.vcpu[0].state.rflags & X86_FLAG_RF);
}

static void an_interrupt_is_told_as_one(void **state)
{
    ask("vCont;c");
    gdb_session_interrupt(&rig.session);
    assert_int_equal(rig.holds, 2); /* the first was for the connection */
    rig.vcpu[0].has_stop = false;
    rig.held = true;
    gdb_session_held(&rig.session);
    assert_memory_equal(rig.session.reply.data, "T02thread:1;", 12);
}

static void a_crash_is_told_as_a_signal(void **state)
{
    ask("vCont;c");
    assert_string_equal(stop(1, GDB_STOP_CRASHED), "T0bthread:2;");
    assert_string_equal(ask("?"), "T0bthread:2;");
}

static void leaving_takes_the_breakpoints_away(void **state)
{
    ask("Z0,1234,1");
    assert_string_equal(ask("D"), "OK");
    assert_int_equal(rig.session.state, GDB_GONE);
    assert_int_equal(rig.vcpu[0].debug.count, 0);
    assert_false(rig.held);
}

static void a_lost_client_is_waited_for_until_the_vm_is_held(void **state)
{
    ask("Z0,1234,1");
    ask("vCont;c");
    gdb_session_lost(&rig.session);
    assert_int_equal(rig.session.state, GDB_LEAVING);
    assert_int_equal(rig.vcpu[0].debug.count, 1);
    rig.held = true;
    gdb_session_held(&rig.session);
    assert_int_equal(rig.session.state, GDB_GONE);
    assert_int_equal(rig.vcpu[0].debug.count, 0);
    assert_int_equal(rig.goes, 2);
}

/* ---- memory ---- */

static void memory_is_read_and_written(void **state)
{
    assert_string_equal(ask("M100,3:a1b2c3"), "OK");
    assert_string_equal(ask("mff,5"), "00a1b2c300");
    gdb_session_packet(&rig.session, "X100,2:\0z", 9);
    assert_string_equal(ask("m100,2"), "007a");
    /* What there is, and nothing. */
    assert_int_equal(strlen(ask("mffff0,20")), 32);
    assert_string_equal(ask("m100000,1"), "E0e");
    assert_string_equal(ask("Mfffff,2:0102"), "E0e");
    assert_string_equal(ask("M0,3:0102"), "E01");
    assert_string_equal(ask("X0,3:abcd"), "E01");
    assert_string_equal(ask("m0"), "E01");
    assert_int_equal(strlen(ask("m0,ffffffffffffffff")), GDB_PACKET_SIZE);
}

/* ---- registers ---- */

static unsigned number_of(const char *name)
{
    char wanted[32], *at;

    snprintf(wanted, sizeof(wanted), "name=\"%s\"", name);
    at = strstr(rig.session.registers.xml, wanted);
    assert_non_null(at);
    at = strstr(at, "regnum=\"");
    return (unsigned)strtoul(at + 8, NULL, 10);
}

static const char *get(const char *name)
{
    char packet[16];

    snprintf(packet, sizeof(packet), "p%x", number_of(name));
    return ask(packet);
}

static const char *set(const char *name, const char *digits)
{
    char packet[64];

    snprintf(packet, sizeof(packet), "P%x=%s", number_of(name), digits);
    return ask(packet);
}

static void every_register_is_in_the_description_and_the_packet(void **state)
{
    for (enum gdb_arch arch = GDB_ARCH_I386; arch <= GDB_ARCH_X86_64; arch++) {
        struct gdb_registers *r = &rig.session.registers;
        size_t bytes = 0;

        gdb_registers_init(r, arch == GDB_ARCH_X86_64);
        assert_non_null(strstr(r->xml, "</target>\n"));
        assert_true(r->count < GDB_MAX_REGISTERS);
        for (unsigned i = 0; i < r->count; i++)
            bytes += gdb_register_size(&r->reg[i]);
        assert_int_equal(strlen(ask("g")), 2 * bytes);
    }
}

static void registers_are_read_and_written(void **state)
{
    gdb_registers_init(&rig.session.registers, true);
    rig.vcpu[0].state.gpr[X86_R13] = 0x1122334455667788;
    rig.session.loaded = false;
    assert_string_equal(get("r13"), "8877665544332211");
    assert_string_equal(set("rbx", "0807060504030201"), "OK");
    assert_int_equal(rig.vcpu[0].state.gpr[X86_RBX], 0x0102030405060708);
    assert_string_equal(set("rip", "0000000000000080"), "E16"); /* not canonical */
    assert_string_equal(set("cr0", "0000000000000000"), "E16");
    assert_string_equal(set("cs", "08000000"), "E16");
    assert_string_equal(set("fs_base", "0010000000000000"), "OK");
    assert_int_equal(rig.vcpu[0].state.segment[X86_FS].base, 0x1000);
    assert_string_equal(set("eflags", "ffffffff"), "OK");
    assert_false(rig.vcpu[0].state.rflags & X86_FLAG_VM);
    assert_true(rig.vcpu[0].state.rflags & X86_FLAG_CF);
}

static void the_initial_state_of_a_component_is_made_explicit(void **state)
{
    uint8_t *xsave = rig.vcpu[0].state.xsave;

    gdb_registers_init(&rig.session.registers, true);
    memset(xsave, 0xee, 1024); /* what lies there means nothing while XSTATE_BV is 0 */
    memset(xsave + 512, 0, 64);
    rig.session.loaded = false;
    assert_string_equal(get("xmm5"), "00000000000000000000000000000000");
    assert_string_equal(get("fctrl"), "7f030000");
    assert_string_equal(get("ftag"), "ffff0000");
    assert_string_equal(set("xmm5", "000102030405060708090a0b0c0d0e0f"), "OK");
    assert_string_equal(get("xmm5"), "000102030405060708090a0b0c0d0e0f");
    assert_string_equal(get("xmm6"), "00000000000000000000000000000000");
    assert_int_equal(xsave[512], 1 << 1);
    assert_string_equal(set("mxcsr", "ffffffff"), "OK");
    assert_string_equal(get("mxcsr"), "ffff0000"); /* the others would fault */
}

static void the_tag_word_says_what_each_register_holds(void **state)
{
    uint8_t *xsave = rig.vcpu[0].state.xsave;
    static const uint8_t one[10] = {0, 0, 0, 0, 0, 0, 0, 0x80, 0xff, 0x3f};

    gdb_registers_init(&rig.session.registers, true);
    memset(xsave, 0, 512);
    xsave[512] = 1;
    xsave[3] = 7 << 3;                    /* top of stack is register 7 */
    xsave[4] = 1 << 7 | 1 << 0;           /* registers 7 and 0 are in use */
    memcpy(xsave + 32, one, sizeof(one)); /* ST0 is register 7: valid. ST1 is register 0: zero */
    rig.session.loaded = false;
    assert_string_equal(get("ftag"), "fd3f0000");
    assert_string_equal(set("ftag", "fcff0000"), "OK");
    assert_int_equal(xsave[4], 1 << 0);
}

int main(void)
{
#define SESSION_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(packets_are_taken_from_their_frames),
        cmocka_unit_test(damaged_packets_are_refused),
        cmocka_unit_test(a_packet_may_be_as_long_as_was_told),
        cmocka_unit_test(what_is_written_is_read_back),
        cmocka_unit_test(a_reply_that_is_too_long_is_noticed),
        SESSION_TEST(breakpoints_go_to_every_vcpu),
        SESSION_TEST(an_engine_without_room_is_an_error),
        SESSION_TEST(a_step_is_for_the_thread_that_was_named),
        SESSION_TEST(a_second_watchpoint_hit_is_not_lost),
        SESSION_TEST(a_breakpoint_is_passed_when_going_on),
        SESSION_TEST(an_interrupt_is_told_as_one),
        SESSION_TEST(a_crash_is_told_as_a_signal),
        SESSION_TEST(leaving_takes_the_breakpoints_away),
        SESSION_TEST(a_lost_client_is_waited_for_until_the_vm_is_held),
        SESSION_TEST(memory_is_read_and_written),
        SESSION_TEST(every_register_is_in_the_description_and_the_packet),
        SESSION_TEST(registers_are_read_and_written),
        SESSION_TEST(the_initial_state_of_a_component_is_made_explicit),
        SESSION_TEST(the_tag_word_says_what_each_register_holds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
