#!/usr/bin/env python3
"""Works a machine hard for a long time and compares everything it computes with the host's results.

    soak.py --build build --kernel FOLDER [--minutes N] [--cpus N] [--engine NAME]

Debian's kernel boots with a Debian root file system (mmdebstrap) on a virtio disk, and does rounds of
work.sh until the time is over: it compiles and runs programs, compresses and checksums trees, runs
scripts, pipes and many processes. The host does the same work in the same root file system, chroot'ed
into it, which asks for root. Each checksum must be the host's.

Files are kept in BUILD/soak: root.tar, made once; console.log and errors.log of the last run. The last
line starts with PASSED or FAILED, and the exit status says the same.
"""

import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
WORK = ("work.sh", "work.py", "work.pl", "program.c")
PACKAGES = "gcc,libc6-dev,make,perl,python3,xz-utils"
SEEDS = 3  # round N has seed N modulo this
DISK_SIZE = "1500M"
MEMORY = "768M"
ROUND_LIMIT = 900  # seconds that a round on an engine may take on a busy host
STEP = re.compile(r"soak: (\d+) (\S+) ([0-9a-f]{32})")

# Follows tools/debian-initrd's archive; `soak_seconds` comes from the kernel's command line.
INIT = f"""#!/bin/sh
mount -t devtmpfs dev /dev
exec <>/dev/console >&0 2>&1
mount -t proc proc /proc
modprobe -a virtio_pci virtio_blk virtio-rng
mount -t ext4 /dev/vda /mnt || exec poweroff -f
mount -t devtmpfs dev /mnt/dev
mkdir -p /mnt/dev/shm
mount -t tmpfs shm /mnt/dev/shm
mount -t proc proc /mnt/proc
round=0
while [ "$(cut -d . -f 1 /proc/uptime)" -lt "$soak_seconds" ]; do
    chroot /mnt /soak/work.sh $((round % {SEEDS}))
    round=$((round + 1))
    echo "soak: round $round ends at $(cut -d . -f 1 /proc/uptime) s"
done
umount /mnt/proc /mnt/dev/shm /mnt/dev /mnt && echo "soak: end"
poweroff -f
"""


class Failure(Exception):
    """The text says in one line what went wrong."""


def root_archive(folder):
    """Debian's root file system as an archive, made when there is none yet."""
    archive = folder / "root.tar"
    if not archive.exists():
        new = folder / "root.new.tar"
        subprocess.run(["mmdebstrap", "--quiet", "--variant=minbase", f"--include={PACKAGES}",
                        "bookworm", str(new)], check=True)
        new.rename(archive)
    return archive


def unpack(archive, folder):
    """The root file system of guest and host, with the work in it, at `folder`."""
    folder.mkdir()
    subprocess.run(["tar", "-C", str(folder), "-xf", str(archive)], check=True)
    (folder / "soak").mkdir()
    for name in WORK:
        shutil.copy(HERE / name, folder / "soak")
    # Names and addresses that were copied from the host say nothing to the guest.
    for name in ("resolv.conf", "hostname"):
        (folder / "etc" / name).unlink(missing_ok=True)


def host_results(root):
    """(seed, step) to checksum."""
    results = {}
    for seed in range(SEEDS):
        done = subprocess.run(["chroot", str(root), "/soak/work.sh", str(seed)], text=True,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=True)
        for number, step, checksum in STEP.findall(done.stdout):
            results[int(number), step] = checksum
    return results


def initrd(kernel, stage):
    """The archive of tools/debian-initrd and one with INIT behind it."""
    image = stage / "initrd.img"
    subprocess.run([str(ROOT / "tools/debian-initrd"), str(kernel), str(image)], check=True)
    (stage / "soak").mkdir()
    (stage / "soak/init").write_text(INIT)
    (stage / "soak/init").chmod(0o755)
    extra = subprocess.run(["cpio", "--quiet", "-o", "-H", "newc", "--owner=0:0"],
                           input=b"soak\nsoak/init\n", cwd=stage, stdout=subprocess.PIPE,
                           check=True).stdout
    with open(image, "ab") as archive:
        archive.write(b"\0" * (-archive.tell() % 4) + extra)
    return image


def run_guest(options, stage, disk, folder):
    """Runs the machine to its end and returns what its console said."""
    seconds = int(options.minutes * 60)
    console = folder / "console.log"
    errors = folder / "errors.log"
    command = [str(options.build / "sill"), "run", "--engine", options.engine,
               "--cpus", str(options.cpus), "--memory", MEMORY,
               "--kernel", str(options.kernel / "vmlinuz"),
               "--initrd", str(initrd(options.kernel, stage)),
               "--append", f"console=ttyS0 quiet panic=-1 rdinit=/soak/init soak_seconds={seconds}",
               "--disk", str(disk), "--device", "rng", "--console", f"file:{console}",
               "--stats", str(folder / "stats.json"), "--no-reboot"]
    with open(errors, "wb") as log:
        try:
            status = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                    timeout=seconds + ROUND_LIMIT, check=False).returncode
        except subprocess.TimeoutExpired as expired:
            raise Failure(f"the guest did not end within {expired.timeout} s") from expired
    if status:
        raise Failure(f"sill ended with status {status}; see {errors}")
    return console.read_text(errors="replace").replace("\r", "")


def compare(output, expected):
    """The number of rounds; raises a Failure at the first difference."""
    rounds = output.count("soak: round")
    if not rounds or "soak: end" not in output:
        raise Failure("the guest's work did not come to its end")
    found = STEP.findall(output)
    if len(found) * SEEDS != len(expected) * rounds:
        raise Failure(f"{len(found)} results of the guest's {rounds} rounds; "
                      f"the host has {len(expected)} of {SEEDS}")
    for seed, step, checksum in found:
        if expected.get((int(seed), step)) != checksum:
            raise Failure(f"step '{step}' with seed {seed}: {checksum} in the guest, "
                          f"{expected.get((int(seed), step))} on the host")
    return rounds


def soak(options):
    """What was done, in a sentence."""
    if os.geteuid() != 0:
        raise Failure("the host's part runs in a chroot: this must be started by root")
    folder = options.build / "soak"
    folder.mkdir(exist_ok=True)
    archive = root_archive(folder)
    with tempfile.TemporaryDirectory(dir=folder) as directory:
        stage = pathlib.Path(directory)
        root, disk = stage / "root", stage / "disk.img"
        unpack(archive, root)
        subprocess.run(["/sbin/mke2fs", "-q", "-t", "ext4", "-d", str(root), str(disk), DISK_SIZE],
                       check=True)
        start = time.monotonic()
        expected = host_results(root)
        print(f"host: {SEEDS} rounds in {time.monotonic() - start:.0f} s", flush=True)
        output = run_guest(options, stage, disk, folder)
    rounds = compare(output, expected)
    return f"{rounds} rounds on {options.cpus} CPUs, each result as on the host"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", type=pathlib.Path, required=True)
    parser.add_argument("--kernel", type=pathlib.Path, required=True,
                        help="folder that tools/debian-kernel has filled")
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--cpus", type=int, default=2)
    parser.add_argument("--engine", default="dbt")
    options = parser.parse_args()
    try:
        print(f"PASSED: {soak(options)}")
        return 0
    except Failure as failure:
        print(f"FAILED: {failure} (logs in {options.build / 'soak'})")
        return 1
    except subprocess.CalledProcessError as failure:
        print(f"FAILED: {failure}")
        return 1


if __name__ == "__main__":
    sys.exit(main())
