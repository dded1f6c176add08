"""UEFI firmware: Debian's OVMF to its shell, boot loaders from an EFI system partition, and variables
that last."""

import os
import re
import signal
import struct
import subprocess

import pytest

from conftest import SCRIPTED_APPEND, sill, spawn

OVMF_VARS = "/usr/share/OVMF/OVMF_VARS_4M.fd"
GUID = "01234567-89ab-cdef-0123-456789abcdef"


def uefi(*args, vars_file=None):
    firmware = "uefi" if vars_file is None else f"uefi,vars={vars_file}"
    return spawn("run", "--engine", "dbt", "--quiet", "--firmware", firmware, "--memory", "256M", *args)


def plain(text):
    """What a terminal shows of it, without the control sequences that OVMF sends around it."""
    return re.sub(r"\x1b\[[0-9;=]*[A-Za-z]", "", text).replace("\r", "")


def to_shell(child):
    child.expect_exact("UEFI Interactive Shell")
    child.expect_exact("startup.nsh")
    child.send(" ")
    child.expect_exact("Shell> ")


def in_shell(child, command):
    """Types a command and returns what it prints."""
    child.send(command + "\r")
    child.expect_exact("\r\n")
    child.expect_exact("Shell> ")
    return plain(child.before)


def shut_down(child):
    child.send("reset -s\r")
    child.wait()
    return child.exitstatus


def make_esp(path, files, mebibytes=8):
    """A FAT file system without a partition table, with `files`: path in it to contents."""
    path.write_bytes(bytes(mebibytes << 20))
    subprocess.run(["mformat", "-i", path, "-h", "16", "-s", "63", "-T", str(mebibytes << 11), "::"],
                   check=True)
    made = set()
    for name, contents in files.items():
        parts = name.split("/")[:-1]
        for depth in range(1, len(parts) + 1):
            folder = "/".join(parts[:depth])
            if folder not in made:
                subprocess.run(["mmd", "-i", path, f"::/{folder}"], check=True)
                made.add(folder)
        subprocess.run(["mcopy", "-i", path, "-", f"::/{name}"], input=contents, check=True)
    return path


def variables(store):
    """Names and values of the variables in a store file that are valid; fails if it is broken.

    UEFI PI specification volume 3, 3.2.1 (firmware volume header) and EDK II's VariableFormat.h.
    """
    data = store.read_bytes()
    assert len(data) == os.path.getsize(OVMF_VARS)
    assert data[0x28:0x2c] == b"_FVH"
    header_size = struct.unpack_from("<H", data, 0x30)[0]
    assert sum(struct.unpack_from(f"<{header_size // 2}H", data)) & 0xffff == 0
    size = struct.unpack_from("<I", data, header_size + 16)[0]
    found, at = {}, header_size + 28
    while struct.unpack_from("<H", data, at)[0] == 0x55aa:
        state, name_size, data_size = data[at + 2], *struct.unpack_from("<II", data, at + 36)
        if state & 0x80:  # each step clears a bit: this header, the last, is not whole
            break
        assert at + 60 + name_size + data_size <= header_size + size
        name = data[at + 60:at + 60 + name_size].decode("utf-16le").rstrip("\0")
        value = data[at + 60 + name_size:at + 60 + name_size + data_size]
        # Then 0x40: the value is whole; 1: a newer one is being written; 2: that one is whole.
        if state & 0x42 == 2:
            found.setdefault(name, {})[state & 1] = value
        at += (60 + name_size + data_size + 3) & ~3
    return {name: values.get(1, values.get(0)) for name, values in found.items()}


@pytest.mark.parametrize("cpus", [1, 2, 4])
def test_shell_and_power_off(cpus):
    child = uefi("--cpus", str(cpus))
    to_shell(child)
    assert "UEFI v2.70" in in_shell(child, "ver")
    assert shut_down(child) == 0


def test_settings_last(tmp_path):
    store = tmp_path / "vars.fd"
    child = uefi(vars_file=store)
    to_shell(child)
    in_shell(child, f'setvar Sill -guid {GUID} -bs -rt -nv =S"lasting"')
    assert shut_down(child) == 0
    assert variables(store)["Sill"] == b"lasting"

    child = uefi(vars_file=store)
    to_shell(child)
    assert "6C 61 73 74 69 6E 67" in in_shell(child, f"setvar Sill -guid {GUID}")
    assert shut_down(child) == 0


def test_variables_survive_a_kill(tmp_path):
    """What the guest saw stored is there after the process was killed amid further writes; of a
    variable that is written again and again, the last value or a later one."""
    store = tmp_path / "vars.fd"
    script = (f'for %i run (1 4000)\r\nsetvar Sill%i -guid {GUID} -bs -rt -nv =S"value %i"\r\n'
              f'setvar Last -guid {GUID} -bs -rt -nv =S"%i"\r\necho stored %i.\r\nendfor\r\n')
    esp = make_esp(tmp_path / "esp.img", {"startup.nsh": script.encode()})
    for stop in (3, 40):
        store.unlink(missing_ok=True)
        child = uefi("--disk", esp, vars_file=store)
        child.expect_exact(f"stored {stop}.")
        child.kill(signal.SIGKILL)
        child.wait()
        found = variables(store)
        for i in range(1, stop + 1):
            assert found[f"Sill{i}"] == b"value %d" % i
        assert int(found["Last"]) >= stop

    child = uefi(vars_file=store)
    to_shell(child)
    assert "76 61 6C 75 65 20 34 30" in in_shell(child, f"setvar Sill40 -guid {GUID}")
    assert shut_down(child) == 0


def test_store_is_not_shared(tmp_path):
    store = tmp_path / "vars.fd"
    child = uefi(vars_file=store)
    child.expect_exact("UEFI Interactive Shell")
    second = sill("run", "--engine", "dbt", "--firmware", f"uefi,vars={store}", "--dry-run")
    assert second.returncode == 1
    assert str(store) in second.stderr and "in use" in second.stderr
    child.close(force=True)


@pytest.mark.parametrize("contents,culprit", [
    (b"", "0 bytes"),
    (bytes(540672), "does not begin"),
    (b"x" * 99999, "99999 bytes"),
], ids=["empty", "zeroes", "short"])
def test_broken_store_is_refused(tmp_path, contents, culprit):
    store = tmp_path / "vars.fd"
    store.write_bytes(contents)
    done = sill("run", "--engine", "dbt", "--firmware", f"uefi,vars={store}", "--dry-run")
    assert done.returncode == 1
    assert str(store) in done.stderr and culprit in done.stderr
    assert store.read_bytes() == contents


def test_store_that_cannot_be_made(tmp_path):
    store = tmp_path / "missing/vars.fd"
    done = sill("run", "--engine", "dbt", "--firmware", f"uefi,vars={store}", "--dry-run")
    assert done.returncode == 1
    assert str(store) in done.stderr
    done = sill("run", "--engine", "dbt", "--firmware", f"uefi,vars={tmp_path}", "--dry-run")
    assert done.returncode == 1
    assert "no regular file" in done.stderr
    assert not list(tmp_path.iterdir())


GRUB_MODULES = "echo fat halt linux ls normal part_gpt part_msdos test".split()


@pytest.fixture(scope="session")
def grub(tmp_path_factory):
    """GRUB as an EFI program that ends in its prompt, on the firmware's console. (With a serial
    terminal of its own, GRUB and the firmware take what is typed from each other.)"""
    program = tmp_path_factory.mktemp("grub") / "grub.efi"
    subprocess.run(["grub-mkimage", "-O", "x86_64-efi", "-o", program, "-p", "/", *GRUB_MODULES],
                   check=True)
    return program.read_bytes()


def test_grub_starts_debian(tmp_path, grub, debian, scripted):
    """From a FAT file system on a virtio disk, with two vCPUs."""
    initrd = scripted("""\
        ls -d /sys/firmware/efi/efivars
        echo "cpus: $(nproc)"
        dmesg | grep "no compatible bridge window"
        """)
    esp = make_esp(tmp_path / "esp.img", {
        "EFI/BOOT/BOOTX64.EFI": grub,
        "vmlinuz": debian.kernel.read_bytes(),
        "initrd": initrd.read_bytes(),
    }, mebibytes=64)
    child = uefi("--disk", esp, "--cpus", "2")
    for command in (f"linux /vmlinuz {SCRIPTED_APPEND}", "initrd /initrd", "boot"):
        child.expect_exact("grub> ")
        child.send(command + "\r")
    child.expect_exact("guest: start")
    child.expect_exact("guest: end")
    assert plain(child.before).split("\n")[1:-1] == ["/sys/firmware/efi/efivars", "cpus: 2"]
    child.wait()
    assert child.exitstatus == 0


def mbr(partition_type):
    """A disk's first sector with one partition; its boot code says so on the serial port."""
    text = b"BOOT SECTOR\r\n"
    # cld; xor ax, ax; mov ds, ax; mov si, 0x7c20; mov cx, 13; mov dx, 0x3f8
    # 1: lodsb; out dx, al; loop 1b; 2: hlt; jmp 2b
    code = bytes.fromhex("fc 31c0 8ed8 be207c b90d00 baf803 ac ee e2fc f4 ebfd")
    sector = bytearray(512)
    sector[:len(code)] = code
    sector[0x20:0x20 + len(text)] = text
    sector[446:462] = struct.pack("<B3sB3sII", 0x80, b"\0\2\0", partition_type, b"\xff\xff\xff", 2048,
                                  2048)
    sector[510:] = b"\x55\xaa"
    return bytes(sector)


def test_disk_decides_about_the_firmware(tmp_path):
    """Without --firmware: BIOS, unless there is an EFI system partition."""
    disk = tmp_path / "disk.img"
    for partition_type, firmware, marker in ((0x83, "bios", "BOOT SECTOR"),
                                             (0xef, "uefi", "UEFI Interactive Shell")):
        disk.write_bytes(mbr(partition_type) + bytes((4 << 20) - 512))
        child = spawn("run", "--engine", "dbt", "--disk", disk)
        child.expect_exact(f"firmware {firmware}, by what is on {disk}")
        child.expect_exact(marker)
        child.close(force=True)
