/*
 * Workloads: whole programs. Busybox's gzip over generated text, a shell loop, and a dictionary
 * compressor of our own within this process. Busybox is found through the environment variable
 * BUSYBOX, else at /bin/busybox; host and guest should have the same one.
 */
#include <errno.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "workload.h"

#define TEXT_SIZE 65536
static uint8_t text[TEXT_SIZE];
static int text_fd = -1, output_fd = -1;

/* Text of some 400 made-up words, the short ones frequent: compresses about as English does. */
static void prepare_text(void)
{
    static char words[400][12];
    uint64_t seed = 41;
    size_t at = 0;

    for (int i = 0; i < 400; i++) {
        size_t length = 2 + (size_t)i / 50 + next_random(&seed) % 3;
        for (size_t c = 0; c < length; c++)
            words[i][c] = (char)('a' + next_random(&seed) % 26);
    }
    while (at + 12 < TEXT_SIZE) {
        uint64_t r = next_random(&seed);
        const char *word = words[(r % 400) * (r >> 32 & 0xffff) >> 16];
        at += (size_t)sprintf((char *)text + at, "%s%c", word, r >> 60 ? ' ' : '\n');
    }
    memset(text + at, '.', TEXT_SIZE - at);
}

static void prepare_gzip(void)
{
    prepare_text();
    text_fd = memfd_create("text", 0);
    output_fd = memfd_create("output", 0);
    if (text_fd < 0 || output_fd < 0 || write(text_fd, text, TEXT_SIZE) != TEXT_SIZE)
        give_up("memfd: error %d", errno);
}

/* Runs a busybox applet with the memfds as standard input and output; checksum of its output. */
static uint64_t applet(char *const arguments[])
{
    static uint8_t buffer[TEXT_SIZE];
    const char *busybox = getenv("BUSYBOX");
    posix_spawn_file_actions_t files;
    pid_t child;
    int status;
    uint64_t sum = 0;

    if (!busybox)
        busybox = "/bin/busybox";
    if (lseek(text_fd, 0, SEEK_SET) || ftruncate(output_fd, 0) || lseek(output_fd, 0, SEEK_SET))
        give_up("memfd: error %d", errno);
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_adddup2(&files, text_fd, 0);
    posix_spawn_file_actions_adddup2(&files, output_fd, 1);
    if (posix_spawn(&child, busybox, &files, NULL, arguments, environ) ||
        waitpid(child, &status, 0) != child || status != 0)
        give_up("%s %s failed", busybox, arguments[0]);
    posix_spawn_file_actions_destroy(&files);
    ssize_t size = pread(output_fd, buffer, sizeof(buffer), 0);
    for (ssize_t i = 0; i < size; i++)
        sum = mix(sum, buffer[i]);
    return sum;
}

static uint64_t gzip_run(void)
{
    return applet((char *[]){"gzip", "-c", NULL});
}

static uint64_t shell_run(void)
{
    return applet((char *[]){"sh", "-c",
                             "i=0; s=x; while [ $i -lt 800 ]; do i=$((i + 1)); case $i in "
                             "*7) s=$s$i;; *9) s=${s#?};; esac; done; echo $i $s",
                             NULL});
}

static void close_files(void)
{
    close(text_fd);
    close(output_fd);
}

/* Greedy LZ77 with a hash of the last place of every four bytes; then unpacks and compares. */
static uint64_t lz_run(void)
{
    static uint8_t packed[2 * TEXT_SIZE], unpacked[TEXT_SIZE];
    static uint32_t last[4096];
    size_t in = 0, out = 0, at = 0;

    memset(last, 0, sizeof(last));
    while (in + 8 < TEXT_SIZE) {
        uint32_t four;
        memcpy(&four, text + in, 4);
        uint32_t hash = four * 2654435761u >> 20;
        size_t candidate = last[hash], length = 0;
        last[hash] = (uint32_t)in;
        if (candidate < in && in - candidate < 65536)
            while (length < 255 && in + length < TEXT_SIZE &&
                   text[candidate + length] == text[in + length])
                length++;
        if (length >= 4) {
            packed[out++] = (uint8_t)length;
            packed[out++] = (uint8_t)(in - candidate);
            packed[out++] = (uint8_t)((in - candidate) >> 8);
            in += length;
        } else {
            packed[out++] = 0;
            packed[out++] = text[in++];
        }
    }
    for (size_t i = 0; i < out;) {
        size_t length = packed[i];
        if (length == 0) {
            unpacked[at++] = packed[i + 1];
            i += 2;
            continue;
        }
        size_t distance = packed[i + 1] | (size_t)packed[i + 2] << 8;
        for (size_t c = 0; c < length; c++, at++)
            unpacked[at] = unpacked[at - distance];
        i += 3;
    }
    if (at != in || memcmp(text, unpacked, at) != 0)
        give_up("lz: unpacked data differ");
    return mix(out, at);
}

const struct workload tool_workloads[] = {
    {"lz", "tool", lz_run, prepare_text, NULL},
    {"gzip", "tool", gzip_run, prepare_gzip, close_files},
    {"shell", "tool", shell_run, prepare_gzip, close_files},
    {0},
};
