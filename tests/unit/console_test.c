/* The console's back ends against real files and sockets, with a front end that has little room. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "vm/console.h"

#define PATIENCE_SECONDS 10

/* A device that takes up to `room` bytes until somebody makes more. */
struct fixture {
    char directory[32];
    char path[64];
    struct console *console;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    uint8_t received[256];
    size_t received_length;
    size_t room;
    bool writable;
};

static size_t can_receive(void *opaque)
{
    struct fixture *f = opaque;
    pthread_mutex_lock(&f->lock);
    size_t room = f->room;
    pthread_mutex_unlock(&f->lock);
    return room;
}

static void receive(void *opaque, const uint8_t *data, size_t length)
{
    struct fixture *f = opaque;
    pthread_mutex_lock(&f->lock);
    assert_true(length <= f->room);
    memcpy(f->received + f->received_length, data, length);
    f->received_length += length;
    f->room -= length;
    pthread_cond_broadcast(&f->changed);
    pthread_mutex_unlock(&f->lock);
}

static void writable(void *opaque)
{
    struct fixture *f = opaque;
    pthread_mutex_lock(&f->lock);
    f->writable = true;
    pthread_cond_broadcast(&f->changed);
    pthread_mutex_unlock(&f->lock);
}

static const struct char_frontend device = {
    .can_receive = can_receive,
    .receive = receive,
    .writable = writable,
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    strcpy(f->directory, "/tmp/sill-console-XXXXXX");
    assert_non_null(mkdtemp(f->directory));
    snprintf(f->path, sizeof(f->path), "%s/x", f->directory);
    pthread_mutex_init(&f->lock, NULL);
    pthread_cond_init(&f->changed, NULL);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    if (f->console)
        console_stop(f->console);
    console_free(f->console);
    unlink(f->path);
    rmdir(f->directory);
    pthread_cond_destroy(&f->changed);
    pthread_mutex_destroy(&f->lock);
    free(f);
    return 0;
}

static int open_console(struct fixture *f, enum console_kind kind, struct error *err)
{
    const struct console_target target = {.kind = kind, .path = f->path};
    const struct console_events events = {0};
    int result = console_new(&f->console, &target, &events, err);
    if (!result)
        char_attach(console_backend(f->console), &device, f);
    return result;
}

static void start(struct fixture *f, enum console_kind kind)
{
    assert_int_equal(open_console(f, kind, NULL), 0);
    assert_int_equal(console_start(f->console, NULL), 0);
}

static int connect_client(const struct fixture *f)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    strcpy(address.sun_path, f->path);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    return fd;
}

static struct timespec deadline(void)
{
    struct timespec when;
    clock_gettime(CLOCK_REALTIME, &when);
    when.tv_sec += PATIENCE_SECONDS;
    return when;
}

static void wait_for_input(struct fixture *f, const char *text)
{
    struct timespec when = deadline();
    pthread_mutex_lock(&f->lock);
    while (f->received_length < strlen(text)) {
        if (pthread_cond_timedwait(&f->changed, &f->lock, &when))
            fail_msg("only %zu bytes came", f->received_length);
    }
    assert_memory_equal(f->received, text, strlen(text));
    pthread_mutex_unlock(&f->lock);
}

/* Writes until the text comes out at the client: before the console has noticed it, output is lost.
 */
static void wait_for_output(struct fixture *f, int client)
{
    char byte;
    struct pollfd readable = {.fd = client, .events = POLLIN};
    for (int i = 0; i < PATIENCE_SECONDS * 100; i++) {
        assert_int_equal(char_write(console_backend(f->console), (const uint8_t *)"!", 1), 1);
        if (poll(&readable, 1, 10) == 1) {
            assert_int_equal(read(client, &byte, 1), 1);
            assert_int_equal(byte, '!');
            return;
        }
    }
    fail_msg("no output came");
}

static void test_file_takes_output(void **state)
{
    struct fixture *f = *state;
    char text[16] = {0};

    start(f, CONSOLE_FILE);
    assert_int_equal(char_write(console_backend(f->console), (const uint8_t *)"hello", 5), 5);
    int fd = open(f->path, O_RDONLY);
    assert_int_equal(read(fd, text, sizeof(text)), 5);
    close(fd);
    assert_string_equal(text, "hello");
}

static void test_unwritable_file_is_named(void **state)
{
    struct fixture *f = *state;
    struct error err;

    strcpy(f->path, "/nonexistent/x");
    assert_true(open_console(f, CONSOLE_FILE, &err) < 0);
    assert_non_null(strstr(err.text, "/nonexistent/x"));
}

static void test_socket_serves_one_client_after_the_other(void **state)
{
    struct fixture *f = *state;

    f->room = 100;
    start(f, CONSOLE_SOCKET);
    for (int i = 0; i < 3; i++) {
        int client = connect_client(f);
        wait_for_output(f, client);
        close(client);
    }
}

static void test_input_waits_for_room(void **state)
{
    struct fixture *f = *state;

    f->room = 3;
    start(f, CONSOLE_SOCKET);
    int client = connect_client(f);
    assert_int_equal(write(client, "abcdefgh", 8), 8);
    wait_for_input(f, "abc");

    pthread_mutex_lock(&f->lock);
    f->room = 100;
    pthread_mutex_unlock(&f->lock);
    char_input_ready(console_backend(f->console));
    wait_for_input(f, "abcdefgh");
    close(client);
}

/* A client that sends and shuts its side still sees what the guest answers. */
static void test_half_closed_client_still_listens(void **state)
{
    struct fixture *f = *state;

    f->room = 100;
    start(f, CONSOLE_SOCKET);
    int client = connect_client(f);
    assert_int_equal(write(client, "x", 1), 1);
    shutdown(client, SHUT_WR);
    wait_for_input(f, "x");
    wait_for_output(f, client);
    close(client);
}

static void test_full_socket_cuts_writes_short(void **state)
{
    struct fixture *f = *state;
    static uint8_t much[1 << 20];
    struct timespec when = deadline();

    f->room = 100;
    start(f, CONSOLE_SOCKET);
    int client = connect_client(f);
    wait_for_output(f, client);
    size_t taken = char_write(console_backend(f->console), much, sizeof(much));
    assert_true(taken < sizeof(much));

    for (size_t left = taken; left;) {
        ssize_t count = read(client, much, left);
        assert_true(count > 0);
        left -= (size_t)count;
    }
    pthread_mutex_lock(&f->lock);
    while (!f->writable) {
        if (pthread_cond_timedwait(&f->changed, &f->lock, &when))
            fail_msg("writable() was not called");
    }
    pthread_mutex_unlock(&f->lock);
    close(client);
}

static void test_socket_in_use_is_refused(void **state)
{
    struct fixture *f = *state;
    struct error err;
    struct console *first;

    start(f, CONSOLE_SOCKET);
    first = f->console;
    assert_int_equal(open_console(f, CONSOLE_SOCKET, &err), -EADDRINUSE);
    assert_non_null(strstr(err.text, f->path));
    f->console = first;
}

static void test_stale_socket_is_replaced(void **state)
{
    struct fixture *f = *state;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    strcpy(address.sun_path, f->path);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    close(fd);
    assert_int_equal(open_console(f, CONSOLE_SOCKET, NULL), 0);
}

static void test_other_file_is_not_replaced(void **state)
{
    struct fixture *f = *state;
    struct error err;
    int fd = open(f->path, O_WRONLY | O_CREAT, 0600);

    close(fd);
    assert_int_equal(open_console(f, CONSOLE_SOCKET, &err), -EADDRINUSE);
    assert_int_equal(access(f->path, F_OK), 0);
}

static void test_socket_file_goes_with_the_console(void **state)
{
    struct fixture *f = *state;

    start(f, CONSOLE_SOCKET);
    console_stop(f->console);
    console_free(f->console);
    f->console = NULL;
    assert_int_equal(access(f->path, F_OK), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_file_takes_output, setup, teardown),
        cmocka_unit_test_setup_teardown(test_unwritable_file_is_named, setup, teardown),
        cmocka_unit_test_setup_teardown(test_socket_serves_one_client_after_the_other, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_input_waits_for_room, setup, teardown),
        cmocka_unit_test_setup_teardown(test_half_closed_client_still_listens, setup, teardown),
        cmocka_unit_test_setup_teardown(test_full_socket_cuts_writes_short, setup, teardown),
        cmocka_unit_test_setup_teardown(test_socket_in_use_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_stale_socket_is_replaced, setup, teardown),
        cmocka_unit_test_setup_teardown(test_other_file_is_not_replaced, setup, teardown),
        cmocka_unit_test_setup_teardown(test_socket_file_goes_with_the_console, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
