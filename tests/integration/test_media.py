"""Media that nothing can boot: the firmware says so in its own words and goes on."""

import os
import struct
import subprocess
import time

import pytest

import sectors
from conftest import TIMEOUT, sill, spawn

BLOCK = 2048
BOOT_RECORD = 17 * BLOCK  # El Torito 2.0: the block that names the catalogue's, at 0x47
ENTRY = 0x20  # the catalogue's first, which names the image's block at 8
FAR = 0x7fffffff  # a block that no disc has


def empty(folder):
    """Zeroes, the last of them not a whole sector."""
    path = folder / "empty.img"
    path.write_bytes(bytes((1 << 20) + 1))
    return "--disk", path


def short(folder):
    """One sector and a half."""
    path = folder / "short.img"
    path.write_bytes(bytes(700))
    return "--disk", path


def truncated(folder):
    """A disk that ends within the EFI system partition that its partition table names."""
    path = folder / "truncated.img"
    path.write_bytes(bytes(64 << 20))
    subprocess.run(["/usr/sbin/sfdisk", "-q", path], input=b"label: gpt\nstart=2048, type=uefi\n",
                   check=True)
    os.truncate(path, (1 << 20) + 5000)
    return "--disk", path


def cut(folder):
    """A disc that ends behind its boot record."""
    disc = sectors.disc(folder, sectors.build(folder, "hello"))
    os.truncate(disc, BOOT_RECORD + BLOCK)
    return "--cdrom", disc.rename(folder / "cut.iso")


def broken(folder):
    """A disc whose catalogue says that what boots is far behind the end."""
    disc = sectors.disc(folder, sectors.build(folder, "hello"))
    contents = bytearray(disc.read_bytes())
    catalogue, = struct.unpack_from("<I", contents, BOOT_RECORD + 0x47)
    struct.pack_into("<I", contents, catalogue * BLOCK + ENTRY + 8, FAR)
    disc.write_bytes(contents)
    return "--cdrom", disc


@pytest.mark.parametrize("make", [empty, short, cut, broken])
def test_bios_finds_nothing_to_boot(tmp_path, make):
    control = tmp_path / "control"
    child = spawn("run", "--engine", "dbt", "--quiet", "--firmware", "bios", "--memory", "64M",
                  "--control", f"socket:{control}", *make(tmp_path))
    deadline = time.monotonic() + TIMEOUT
    screen = ""
    while "No bootable device." not in screen:
        assert child.isalive() and time.monotonic() < deadline, screen
        time.sleep(0.05)
        screen = sill("ctl", control, "screen-text").stdout
    assert "Boot failed: " in screen
    child.close(force=True)


def test_uefi_finds_nothing_to_boot(tmp_path):
    """It tries them all, and ends in its shell."""
    media = [empty, short, truncated, cut, broken]
    args = []
    for make in media:
        folder = tmp_path / make.__name__
        folder.mkdir()
        args += make(folder)
    child = spawn("run", "--engine", "dbt", "--quiet", "--firmware", "uefi", "--memory", "128M",
                  *args)
    for _ in media:
        child.expect("failed to load Boot000[0-9][^\r]* Not Found")
    child.expect_exact("UEFI Interactive Shell")
    child.close(force=True)
