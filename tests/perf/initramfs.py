"""Writes the initial RAM disk of the benchmark guest: busybox, the workloads and an init script.

The format is cpio's "newc" (Linux Documentation/driver-api/early-userspace/buffer-format.rst). It is
written here rather than by cpio because it needs /dev/console, which only root could create first.
"""

import stat

# Ends in a power-off. The line with "user space" is where the boot time is taken; what stands in
# /bench/arguments is what bench.py wants to have run.
INIT = """#!/bin/busybox sh
echo "bench: user space"
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t devtmpfs dev /dev
read -r arguments < /bench/arguments
case "$arguments" in
none) /bin/busybox sleep 1 ;;
*) /bench/workloads $arguments 2>&1 ;;
esac
echo "bench: end"
/bin/busybox poweroff -f
"""


def _entry(name, mode, data=b"", device=(0, 0)):
    encoded = name.encode() + b"\0"
    fields = [0, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(encoded), 0]
    record = b"070701" + b"".join(b"%08X" % field for field in fields) + encoded
    record += b"\0" * (-len(record) % 4)
    return record + data + b"\0" * (-len(data) % 4)


def write(path, busybox, workloads, arguments):
    """Writes the archive to `path`; `busybox` and `workloads` are files of the host."""
    with open(busybox, "rb") as file:
        busybox_data = file.read()
    with open(workloads, "rb") as file:
        workloads_data = file.read()
    program = stat.S_IFREG | 0o755
    with open(path, "wb") as archive:
        for directory in ("bin", "bench", "dev", "proc", "tmp"):
            archive.write(_entry(directory, stat.S_IFDIR | 0o755))
        archive.write(_entry("dev/console", stat.S_IFCHR | 0o600, device=(5, 1)))
        archive.write(_entry("bin/busybox", program, busybox_data))
        archive.write(_entry("bench/workloads", program, workloads_data))
        archive.write(_entry("bench/arguments", program, arguments.encode() + b"\n"))
        archive.write(_entry("init", program, INIT.encode()))
        archive.write(_entry("TRAILER!!!", 0))
