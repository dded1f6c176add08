/* Workloads: the operating system. System calls, signals, context switches, processes, memory. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "workload.h"

static uint64_t syscall_run(void)
{
    for (int i = 0; i < 10000; i++)
        syscall(SYS_getppid);
    return 1;
}

static uint64_t stat_run(void)
{
    struct stat st;
    uint64_t sum = 0;

    for (int i = 0; i < 1500; i++)
        sum += (uint64_t)stat("/proc/self/nothing-here", &st) + (uint64_t)stat("/", &st);
    return sum;
}

static volatile sig_atomic_t signals;

static void count_signal(int number)
{
    signals++;
}

static uint64_t signal_run(void)
{
    signal(SIGUSR1, count_signal);
    signals = 0;
    for (int i = 0; i < 1500; i++)
        raise(SIGUSR1);
    return (uint64_t)signals;
}

/* A second process sends every byte back. */
static int to_echo[2], from_echo[2];
static pid_t echo;

static void prepare_echo(void)
{
    if (pipe(to_echo) || pipe(from_echo))
        give_up("pipe: error %d", errno);
    echo = fork();
    if (echo < 0)
        give_up("fork: error %d", errno);
    if (echo == 0) {
        uint8_t byte;
        close(to_echo[1]);
        while (read(to_echo[0], &byte, 1) == 1 && write(from_echo[1], &byte, 1) == 1)
            ;
        _exit(0);
    }
    close(to_echo[0]);
    close(from_echo[1]);
}

static uint64_t pipe_run(void)
{
    uint64_t sum = 0;

    for (int i = 0; i < 200; i++) {
        uint8_t byte = (uint8_t)i;
        if (write(to_echo[1], &byte, 1) != 1 || read(from_echo[0], &byte, 1) != 1)
            give_up("pipe: the other side is gone");
        sum = mix(sum, byte);
    }
    return sum;
}

static void finish_echo(void)
{
    close(to_echo[1]);
    close(from_echo[0]);
    waitpid(echo, NULL, 0);
}

/* Waits for a child; its exit status. */
static uint64_t reap(pid_t child)
{
    int status;

    if (child < 0 || waitpid(child, &status, 0) != child || !WIFEXITED(status))
        give_up("a child process failed");
    return (uint64_t)WEXITSTATUS(status);
}

static uint64_t fork_run(void)
{
    uint64_t sum = 0;

    for (int i = 0; i < 8; i++) {
        pid_t child = fork();
        if (child == 0)
            _exit(i);
        sum = mix(sum, reap(child));
    }
    return sum;
}

static uint64_t fork_exec_run(void)
{
    uint64_t sum = 0;

    for (int i = 0; i < 4; i++) {
        pid_t child = fork();
        if (child == 0) {
            execl(self_path, self_path, "nothing", NULL);
            _exit(127);
        }
        sum = mix(sum, reap(child));
    }
    return sum;
}

static uint64_t page_fault_run(void)
{
    uint64_t sum = 0;
    size_t size = 1024 * 1024;

    for (int round = 0; round < 4; round++) {
        uint8_t *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (p == MAP_FAILED)
            give_up("mmap: error %d", errno);
        madvise(p, size, MADV_NOHUGEPAGE);
        for (size_t i = 0; i < size; i += 4096)
            p[i] = (uint8_t)(i >> 12);
        for (size_t i = 0; i < size; i += 4096)
            sum = mix(sum, p[i]);
        munmap(p, size);
    }
    return sum;
}

/* Write-protects and reopens pages: TLB flushes of single pages. */
static uint64_t mprotect_run(void)
{
    static uint8_t area[16 * 4096] __attribute__((aligned(4096)));
    uint64_t sum = 0;

    for (int i = 0; i < 600; i++) {
        uint8_t *page = area + (i & 15) * 4096;
        page[0] = (uint8_t)i;
        if (mprotect(page, 4096, PROT_READ) || mprotect(page, 4096, PROT_READ | PROT_WRITE))
            give_up("mprotect: error %d", errno);
        sum = mix(sum, page[0]);
    }
    return sum;
}

/* Reads a file of the page cache: copies in the kernel. */
static uint64_t file_read_run(void)
{
    static uint8_t buffer[65536];
    int fd = open(self_path, O_RDONLY);
    uint64_t total = 0;

    if (fd < 0)
        give_up("%s: error %d", self_path, errno);
    for (int round = 0; round < 256; round++) {
        ssize_t n = pread(fd, buffer, sizeof(buffer), (round & 3) * (off_t)sizeof(buffer));
        total = mix(total, (uint64_t)n + buffer[round * 64]);
    }
    close(fd);
    return total;
}

const struct workload system_workloads[] = {
    {"syscall", "system", syscall_run, NULL, NULL},
    {"stat", "system", stat_run, NULL, NULL},
    {"signal", "system", signal_run, NULL, NULL},
    {"pipe", "system", pipe_run, prepare_echo, finish_echo},
    {"fork", "system", fork_run, NULL, NULL},
    {"fork-exec", "system", fork_exec_run, NULL, NULL},
    {"page-fault", "system", page_fault_run, NULL, NULL},
    {"mprotect", "system", mprotect_run, NULL, NULL},
    {"file-read", "system", file_read_run, NULL, NULL},
    {0},
};
