"""Disks and CD-ROM drives as stock systems know them: Linux's ahci and ata_piix drivers, SeaBIOS and
GRUB, and the control socket that changes discs."""

import hashlib
import random
import subprocess

import pytest

from conftest import ENGINES, PROMPT, ROOT, fetch, power_off, run_in, sill, spawn

pytestmark = pytest.mark.skipif(ENGINES.get("dbt") is not None, reason=f"{ENGINES.get('dbt')}")

SIZE = 4 << 20
CONTROLLERS = pytest.mark.parametrize("controller", ["ahci", "ide"])


@pytest.fixture
def start():
    children = []

    def run(*args):
        child = spawn("run", "--engine", "dbt", "--quiet", "--no-reboot", "--memory", "256M", *args)
        children.append(child)
        return child

    yield run
    for child in children:
        child.close(force=True)


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def make_iso(folder, name, text):
    tree = folder / f"{name}.tree"
    tree.mkdir()
    (tree / "readme").write_text(text)
    (tree / "blob").write_bytes(random.Random(name).randbytes(300000))
    iso = folder / f"{name}.iso"
    subprocess.run(["xorriso", "-as", "mkisofs", "-quiet", "-R", "-o", iso, tree], check=True,
                   capture_output=True)
    return iso, sha256((tree / "blob").read_bytes())


def load_drivers(child):
    run_in(child, "modprobe -a ahci ata_piix sd_mod sr_mod isofs")
    # The drives are found on the kernel's own time.
    run_in(child, "until [ -b /dev/sda ] && [ -b /dev/sr0 ]; do sleep 0.1; done")


@CONTROLLERS
def test_linux_uses_disk_and_disc(kernel, start, tmp_path, controller):
    image, first = tmp_path / "disk.img", random.Random(1).randbytes(SIZE)
    image.write_bytes(first)
    iso, blob = make_iso(tmp_path, "first", "hello\n")
    second, _ = make_iso(tmp_path, "second", "another\n")
    control = tmp_path / "control"
    vmlinuz, initrd = kernel
    child = start("--kernel", vmlinuz, "--initrd", initrd, "--append", "console=ttyS0 quiet",
                  "--disk", f"{image},if={controller},serial=ATA-TEST", "--cdrom",
                  f"{iso},if={controller}", "--control", f"socket:{control}")
    child.expect(PROMPT)
    load_drivers(child)
    assert run_in(child, "sha256sum /dev/sda") == [f"{sha256(first)}  /dev/sda"]
    run_in(child, "seq 1000000 | head -c 1000000 > /tmp/written")
    run_in(child, "dd if=/tmp/written of=/dev/sda bs=4k seek=5 conv=fsync")

    run_in(child, "mount -t iso9660 -o ro /dev/sr0 /mnt")
    assert run_in(child, "cat /mnt/readme") == ["hello"]
    assert run_in(child, "sha256sum < /mnt/blob") == [f"{blob}  -"]

    # The mounted disc is locked; when it is not, another takes its place.
    refused = sill("ctl", control, "change", "cd0", second)
    assert refused.returncode == 1 and "locked" in refused.stderr
    run_in(child, "umount /mnt")
    changed = sill("ctl", control, "change", "cd0", second)
    assert changed.returncode == 0, changed.stderr
    run_in(child, "mount -t iso9660 -o ro /dev/sr0 /mnt")
    assert run_in(child, "cat /mnt/readme; umount /mnt") == ["another"]
    assert sill("ctl", control, "eject", "cd0").returncode == 0
    run_in(child, "mount -t iso9660 -o ro /dev/sr0 /mnt")
    assert "failed" in child.before
    assert run_in(child, "dmesg | grep -c -E 'ata[0-9].*(exception|failed|timeout)'") == ["0"]
    assert power_off(child) == 0

    after = image.read_bytes()
    written = "".join(f"{i}\n" for i in range(1, 1000001)).encode()[:1000000]
    assert after[5 * 4096:5 * 4096 + len(written)] == written
    assert after[:5 * 4096] == first[:5 * 4096]
    assert after[5 * 4096 + len(written):] == first[5 * 4096 + len(written):]


@CONTROLLERS
def test_grub_starts_from_a_disc(start, tmp_path, controller):
    tree = tmp_path / "tree/boot/grub"
    tree.mkdir(parents=True)
    (tree / "grub.cfg").write_text("serial --unit=0 --speed=115200\nterminal_input serial\n"
                                   "terminal_output serial\n")
    iso = tmp_path / "grub.iso"
    subprocess.run(["grub-mkrescue", "-o", iso, tmp_path / "tree"], check=True, capture_output=True)
    empty = tmp_path / "empty.img"
    empty.write_bytes(bytes(SIZE))
    child = start("--firmware", "bios", "--disk", f"{empty},if={controller}", "--cdrom",
                  f"{iso},if={controller}", "--boot", "order=cd,disk")
    child.expect_exact("grub>")
    child.send("ls\r")
    child.expect_exact("(cd")


def refuses(*args):
    done = sill("run", "--firmware", "bios", "--dry-run", *args)
    assert done.returncode == 1
    return done.stderr


def test_unusable_discs_are_refused_with_a_sentence(tmp_path):
    short = tmp_path / "short.iso"
    short.write_bytes(bytes(1024))
    assert "shorter than one block" in refuses("--cdrom", short)
    assert "does not exist" in refuses("--cdrom", tmp_path / "missing.iso")
    assert "virtio" in refuses("--cdrom", f"{short},if=virtio")
    assert "scsi" in refuses("--disk", f"{short},if=scsi")


def test_too_many_drives_are_refused(tmp_path):
    image = tmp_path / "a.iso"
    image.write_bytes(bytes(SIZE))
    assert "6 ports" in refuses(*["--cdrom", image] * 7)
    assert "4 places" in refuses(*["--cdrom", f"{image},if=ide"] * 5)
