#!/usr/bin/python3
"""How long real systems take from the start of the process to a text on the serial port, beside QEMU's
TCG with the same firmware and the same disks, in one run.

    bench.py [--runs N] [NAME...]

Each system boots N times (3) on both in turn; the shortest time of each counts.
"""

import argparse
import pathlib
import subprocess
import sys
import tempfile
import time

import pexpect

import images

LIMIT = 900  # seconds

OVMF = pathlib.Path("/usr/share/OVMF")

# What it is, its image, its firmware, its memory, and the text that counts.
SYSTEMS = {
    "GRUB from a disc, BIOS": ("grub", "bios", "1024M", "GRUB is here"),
    "GRUB from a disc, UEFI": ("grub", "uefi", "1024M", "GRUB is here"),
    # All that it tests without waiting.
    "memtest86+ to its last test, BIOS": ("memtest", "bios", "64M", "[Bit fade test"),
    "memtest86+ to its last test, UEFI": ("memtest", "uefi", "128M", "[Bit fade test"),
    "Debian's installer, BIOS": ("installer-serial", "bios", "1024M", "Select a language"),
    "i386 Debian from a disc, BIOS": ("debian-i386", "bios", "1024M", "This is a virtual machine"),
    "Debian to the login prompt, BIOS": ("debian-bios", "bios", "1024M", "debian login:"),
    "Debian to the login prompt, UEFI": ("debian-uefi", "uefi", "1024M", "debian login:"),
}


def sill_command(image, firmware, memory):
    medium = ["--cdrom", image] if image.suffix == ".iso" else ["--disk", f"{image},cache=unsafe"]
    return [images.SILL, "run", "--engine", "dbt", "--quiet", "--memory", memory, "--firmware",
            firmware, *medium]


def qemu_command(image, firmware, memory, stage):
    command = ["qemu-system-x86_64", "-accel", "tcg", "-machine", "q35", "-cpu", "max", "-m", memory,
               "-nodefaults", "-vga", "std", "-display", "none", "-serial", "stdio"]
    if firmware == "uefi":
        variables = stage / "vars.fd"
        variables.write_bytes((OVMF / "OVMF_VARS_4M.fd").read_bytes())
        for path, readonly in ((OVMF / "OVMF_CODE_4M.fd", "on"), (variables, "off")):
            command += ["-drive", f"if=pflash,format=raw,readonly={readonly},file={path}"]
    if image.suffix == ".iso":
        return [*command, "-cdrom", str(image)]
    return [*command, "-drive", f"if=virtio,format=raw,cache=unsafe,file={image}"]


def seconds_to(text, command):
    """From the start of a process to a text that it prints."""
    start = time.monotonic()
    child = pexpect.spawn(str(command[0]), [str(word) for word in command[1:]], timeout=LIMIT,
                          encoding="utf-8", codec_errors="replace")
    try:
        child.expect_exact(text)
        return time.monotonic() - start
    except (pexpect.EOF, pexpect.TIMEOUT):
        sys.exit(f"{command[0]} does not get to {text!r}:\n{(child.before or '')[-2000:]}")
    finally:
        child.close(force=True)


def measure(name, runs):
    """(Sill's, QEMU's) shortest time."""
    image, firmware, memory, text = SYSTEMS[name]
    path = images.make(images.FOLDER, image)
    best = [LIMIT, LIMIT]
    with tempfile.TemporaryDirectory(dir=images.FOLDER) as folder:
        stage = pathlib.Path(folder)
        for _ in range(runs):
            for which in range(2):
                medium = path
                if path.suffix != ".iso":
                    medium = stage / path.name
                    subprocess.run(["cp", "--sparse=always", path, medium], check=True)
                command = (qemu_command(medium, firmware, memory, stage) if which else
                           sill_command(medium, firmware, memory))
                best[which] = min(best[which], seconds_to(text, command))
    return best


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("names", nargs="*", help=", ".join(SYSTEMS))
    options = parser.parse_args()
    print(f"{'':36} {'Sill':>8} {'TCG':>8}   Sill/TCG")
    for name in options.names or SYSTEMS:
        sill, qemu = measure(name, options.runs)
        print(f"{name:36} {sill:7.2f}s {qemu:7.2f}s   {sill / qemu:.2f}", flush=True)


if __name__ == "__main__":
    main()
