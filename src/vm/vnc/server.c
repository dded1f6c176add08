/* Pictures and keys between neatvnc and the VM; see server.h. All of it on the server's thread, but
 * for construction and its end. */
#include "vm/vnc/server.h"

#include <aml.h>
#include <drm_fourcc.h>
#include <errno.h>
#include <neatvnc.h>
#include <pixman.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "vm/vnc/certificate.h"
#include "vm/vnc/keysyms.h"

/* Milliseconds between two looks at the screen; the pause doubles while nothing changes. */
#define FASTEST_MS 20
#define SLOWEST_MS 320

#define NS_PER_MS 1000000ull
#define LEFT_SHIFT 0x2a
#define RIGHT_SHIFT 0x36

struct vnc_server {
    struct display_viewer viewer;
    struct display *display;
    struct input *input;
    struct aml *loop;
    struct nvnc *vnc;
    struct nvnc_display *screen;
    struct nvnc_fb_pool *pool;
    pthread_t thread;
    bool has_thread;
    atomic_bool quit;
    char password[VNC_PASSWORD_MAX + 1]; /* empty: none is asked for */

    unsigned clients;
    unsigned pause_ms;  /* until the next look */
    uint64_t next_look; /* ms of the monotonic clock */
    unsigned width, height;
    bool shift[2];              /* the left and the right one are down */
    bool held[INPUT_KEY_PAUSE]; /* the keys that clients hold down, by code */
    unsigned x, y, buttons;     /* of the pointer, as a client had them last */
};

/* The event loop is the process's; see server.h. */
static atomic_flag in_use = ATOMIC_FLAG_INIT;

static uint64_t now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / NS_PER_MS;
}

/* ---- pictures ---- */

/* neatvnc reads the buffer on threads of its own until it releases it, so each picture gets one. */
static void send_picture(struct vnc_server *server, const struct display_frame *frame)
{
    struct pixman_region16 damage;
    struct nvnc_fb *fb;

    if (frame->width != server->width || frame->height != server->height) {
        nvnc_fb_pool_resize(server->pool, (uint16_t)frame->width, (uint16_t)frame->height,
                            DRM_FORMAT_XRGB8888, (uint16_t)frame->width);
        server->width = frame->width;
        server->height = frame->height;
    }
    fb = nvnc_fb_pool_acquire(server->pool);
    if (!fb)
        return;
    uint32_t *to = nvnc_fb_get_addr(fb);
    size_t stride = (size_t)nvnc_fb_get_stride(fb);
    for (unsigned y = 0; y < frame->height; y++)
        memcpy(to + y * stride, frame->pixels + (size_t)y * frame->stride,
               frame->width * sizeof(*to));
    pixman_region_init(&damage);
    for (unsigned i = 0; i < frame->rect_count; i++) {
        const struct display_rect *rect = &frame->rect[i];
        pixman_region_union_rect(&damage, &damage, (int)rect->x, (int)rect->y, rect->width,
                                 rect->height);
    }
    nvnc_display_feed_buffer(server->screen, fb, &damage);
    pixman_region_fini(&damage);
    nvnc_fb_unref(fb);
}

static void look(struct vnc_server *server)
{
    struct display_frame frame;

    display_refresh(&server->viewer, &frame);
    bool changed = frame.rect_count > 0;
    if (changed)
        send_picture(server, &frame);
    display_release(&server->viewer);
    if (changed)
        server->pause_ms = FASTEST_MS;
    else if (server->pause_ms < SLOWEST_MS)
        server->pause_ms *= 2;
    server->next_look = now_ms() + server->pause_ms;
}

/* Somebody came or did something: the picture may well change soon. */
static void look_soon(struct vnc_server *server)
{
    server->pause_ms = FASTEST_MS;
    uint64_t soon = now_ms() + FASTEST_MS;
    if (server->next_look > soon)
        server->next_look = soon;
}

/* ---- keys and pointer ---- */

static void client_key(struct vnc_server *server, unsigned code, bool down)
{
    if (code == LEFT_SHIFT || code == RIGHT_SHIFT)
        server->shift[code == RIGHT_SHIFT] = down;
    if (code < ARRAY_SIZE(server->held))
        server->held[code] = down;
    input_key(server->input, code, down);
    look_soon(server);
}

static void key_code_event(struct nvnc_client *client, uint32_t keycode, bool down)
{
    struct vnc_server *server = nvnc_get_userdata(nvnc_client_get_server(client));
    unsigned code;

    if (keycode_to_key(keycode, &code))
        client_key(server, code, down);
}

/* What Shift must be for the key to mean the symbol, on layouts where the client's is another. */
static void set_shift(struct vnc_server *server, bool down)
{
    if (down) {
        input_key(server->input, LEFT_SHIFT, true);
        return;
    }
    if (server->shift[0])
        input_key(server->input, LEFT_SHIFT, false);
    if (server->shift[1])
        input_key(server->input, RIGHT_SHIFT, false);
}

static void restore_shift(struct vnc_server *server, bool was_set)
{
    if (was_set) {
        input_key(server->input, LEFT_SHIFT, false);
        return;
    }
    if (server->shift[0])
        input_key(server->input, LEFT_SHIFT, true);
    if (server->shift[1])
        input_key(server->input, RIGHT_SHIFT, true);
}

static void key_symbol_event(struct nvnc_client *client, uint32_t keysym, bool down)
{
    struct vnc_server *server = nvnc_get_userdata(nvnc_client_get_server(client));
    enum keysym_shift shift;
    unsigned code;

    if (!keysym_to_key(keysym, &code, &shift))
        return;
    bool is_down = server->shift[0] || server->shift[1];
    bool other = down && shift != KEYSYM_SHIFT_ANY && is_down != (shift == KEYSYM_SHIFT_DOWN);
    if (other)
        set_shift(server, shift == KEYSYM_SHIFT_DOWN);
    client_key(server, code, down);
    if (other)
        restore_shift(server, shift == KEYSYM_SHIFT_DOWN);
}

static void pointer_event(struct nvnc_client *client, uint16_t x, uint16_t y,
                          enum nvnc_button_mask mask)
{
    struct vnc_server *server = nvnc_get_userdata(nvnc_client_get_server(client));
    int wheel = mask & NVNC_SCROLL_UP ? -1 : mask & NVNC_SCROLL_DOWN ? 1 : 0;

    server->x = input_position(x, server->width);
    server->y = input_position(y, server->height);
    server->buttons = (mask & NVNC_BUTTON_LEFT ? INPUT_LEFT : 0) |
                      (mask & NVNC_BUTTON_MIDDLE ? INPUT_MIDDLE : 0) |
                      (mask & NVNC_BUTTON_RIGHT ? INPUT_RIGHT : 0);
    input_place(server->input, server->x, server->y, wheel, server->buttons);
    look_soon(server);
}

/* ---- clients ---- */

/* What nobody is left to let go: the guest would repeat a key, or go on dragging, for ever. */
static void release_all(struct vnc_server *server)
{
    if (server->buttons) {
        server->buttons = 0;
        input_place(server->input, server->x, server->y, 0, 0);
    }
    for (unsigned code = 0; code < ARRAY_SIZE(server->held); code++) {
        if (server->held[code])
            client_key(server, code, false);
    }
}

static void client_left(struct nvnc_client *client)
{
    struct vnc_server *server = nvnc_get_userdata(nvnc_client_get_server(client));

    if (--server->clients == 0)
        release_all(server);
}

static void client_came(struct nvnc_client *client)
{
    struct vnc_server *server = nvnc_get_userdata(nvnc_client_get_server(client));

    nvnc_set_client_cleanup_fn(client, client_left);
    server->clients++;
    look_soon(server);
}

/* Takes as long for a wrong password as for the right one. */
static bool password_fits(const char *user, const char *password, void *opaque)
{
    const struct vnc_server *server = opaque;
    char given[sizeof(server->password)] = {0};
    unsigned difference = strlen(password) >= sizeof(given);

    strncpy(given, password, sizeof(given) - 1);
    for (size_t i = 0; i < sizeof(given); i++)
        difference |= (uint8_t)given[i] ^ (uint8_t)server->password[i];
    return !difference;
}

/* ---- the thread ---- */

static void *serve(void *opaque)
{
    struct vnc_server *server = opaque;

    pthread_setname_np(pthread_self(), "vnc");
    while (!atomic_load(&server->quit)) {
        int timeout = -1;
        if (server->clients) {
            uint64_t now = now_ms();
            timeout = server->next_look > now ? (int)(server->next_look - now) : 0;
        }
        aml_poll(server->loop, timeout);
        aml_dispatch(server->loop);
        if (server->clients && now_ms() >= server->next_look)
            look(server);
    }
    return NULL;
}

/* ---- construction ---- */

static void library_complains(const struct nvnc_log_data *data, const char *message)
{
    if (data->level <= NVNC_LOG_ERROR)
        log_warn("VNC: %s", message);
}

static int read_password(struct vnc_server *server, const char *path, struct error *err)
{
    FILE *file = fopen(path, "re");
    size_t length = 0;

    if (!file)
        return error_set(err, -errno, "cannot read the password file '%s': %s", path,
                         strerror(errno));
    length = fread(server->password, 1, sizeof(server->password), file);
    fclose(file);
    if (length == sizeof(server->password))
        return error_set(err, -EINVAL, "the password in '%s' is longer than %d characters", path,
                         VNC_PASSWORD_MAX);
    server->password[length] = '\0';
    server->password[strcspn(server->password, "\r\n")] = '\0';
    memset(server->password + strlen(server->password), 0,
           sizeof(server->password) - strlen(server->password));
    if (!server->password[0])
        return error_set(err, -EINVAL, "the password file '%s' has no password on its first line",
                         path);
    return 0;
}

static int ask_for_password(struct vnc_server *server, struct error *err)
{
    struct certificate certificate;
    int result;

    if (!nvnc_has_auth())
        return error_set(err, -ENOTSUP, "this neatvnc was built without passwords");
    result = certificate_make(&certificate, err);
    if (result)
        return result;
    if (nvnc_enable_auth(server->vnc, certificate.key, certificate.certificate, password_fits,
                         server))
        result = error_set(err, -EIO, "VNC does not take the password");
    certificate_remove(&certificate);
    return result;
}

static int listen_for_clients(struct vnc_server *server, const struct vnc_options *options,
                              struct error *err)
{
    errno = 0;
    server->vnc = options->kind == VNC_UNIX ? nvnc_open_unix(options->address)
                                            : nvnc_open(options->address, options->port);
    if (server->vnc)
        return 0;
    int reason = errno ? errno : EADDRINUSE;
    if (options->kind == VNC_UNIX)
        return error_set(err, -reason, "VNC cannot listen at '%s': %s", options->address,
                         strerror(reason));
    return error_set(err, -reason, "VNC cannot listen at %s port %u: %s", options->address,
                     options->port, strerror(reason));
}

static int start_thread(struct vnc_server *server, struct error *err)
{
    sigset_t all, before;

    /* Signals are for the thread that the command waits on. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int result = pthread_create(&server->thread, NULL, serve, server);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (result)
        return error_set(err, -result, "no thread for VNC: %s", strerror(result));
    server->has_thread = true;
    return 0;
}

int vnc_server_new(struct vnc_server **out, const struct vnc_options *options, const char *name,
                   struct display *display, struct input *input, struct error *err)
{
    if (atomic_flag_test_and_set(&in_use))
        return error_set(err, -EBUSY, "a process can show one VM by VNC");
    struct vnc_server *server = calloc(1, sizeof(*server));
    if (!server) {
        atomic_flag_clear(&in_use);
        return error_set(err, -ENOMEM, "no memory for VNC");
    }
    server->display = display;
    server->input = input;
    server->pause_ms = FASTEST_MS;
    display_add_viewer(display, &server->viewer);

    int result = 0;
    nvnc_set_log_fn(library_complains);
    if (options->password_file)
        result = read_password(server, options->password_file, err);
    if (!result) {
        server->loop = aml_new();
        server->screen = nvnc_display_new(0, 0);
        server->pool = nvnc_fb_pool_new(1, 1, DRM_FORMAT_XRGB8888, 1);
        if (!server->loop || !server->screen || !server->pool)
            result = error_set(err, -ENOMEM, "no memory for VNC");
    }
    if (!result) {
        aml_set_default(server->loop);
        result = listen_for_clients(server, options, err);
    }
    if (!result && options->password_file)
        result = ask_for_password(server, err);
    if (!result) {
        nvnc_set_userdata(server->vnc, server, NULL);
        nvnc_set_name(server->vnc, name);
        nvnc_add_display(server->vnc, server->screen);
        nvnc_set_key_fn(server->vnc, key_symbol_event);
        nvnc_set_key_code_fn(server->vnc, key_code_event);
        nvnc_set_pointer_fn(server->vnc, pointer_event);
        nvnc_set_new_client_fn(server->vnc, client_came);
        look(server);
        result = start_thread(server, err);
    }
    if (result) {
        vnc_server_free(server);
        return result;
    }
    *out = server;
    return 0;
}

void vnc_server_free(struct vnc_server *server)
{
    if (!server)
        return;
    if (server->has_thread) {
        atomic_store(&server->quit, true);
        aml_interrupt(server->loop);
        pthread_join(server->thread, NULL);
    }
    if (server->vnc)
        nvnc_close(server->vnc);
    if (server->pool)
        nvnc_fb_pool_unref(server->pool);
    if (server->screen)
        nvnc_display_unref(server->screen);
    if (server->loop)
        aml_unref(server->loop);
    display_remove_viewer(&server->viewer);
    memset(server->password, 0, sizeof(server->password));
    free(server);
    atomic_flag_clear(&in_use);
}
