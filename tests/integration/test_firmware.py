"""BIOS firmware: Debian's SeaBIOS, from the reset vector to boot sectors and boot loaders on disks."""

import os
import shutil
import subprocess
import time

import pytest

import sectors
from conftest import SCRIPTED_APPEND, TIMEOUT, sill, spawn


@pytest.fixture
def sector(tmp_path):
    return lambda name: sectors.build(tmp_path, name)


def bios(*args, engine="dbt"):
    """A run to its end, on a machine with COM1 on standard output and debug-exit."""
    return sill("run", "--engine", engine, "--quiet", "--memory", "64M", "--device", "debug-exit", *args)


def test_boot_sector(sector, tmp_path):
    """BIOS is what boots a disk when nothing else is said. Its own words come by the debug port."""
    log = tmp_path / "debug"
    done = bios("--disk", sector("hello"), "--device", f"debugcon,port=0x402,to=file:{log}")
    assert done.stdout.endswith("the boot sector runs\n")
    assert done.returncode == 3 << 1 | 1
    said = log.read_text()
    assert "SeaBIOS (version" in said
    assert "found virtio-blk" in said


def test_image_without_an_option_becomes_what_it_is(sector, tmp_path, debian):
    log = tmp_path / "debug"
    disc = sectors.disc(tmp_path, sector("hello")).rename(tmp_path / "a,disc.img")
    floppy = tmp_path / "floppy.img"
    shutil.copy(sector("hello"), floppy)
    os.truncate(floppy, 1440 << 10)
    for image, drive in ((sector("hello"), "Hard Disk"), (disc, "DVD/CD"), (floppy, "Floppy")):
        done = bios(image, "--device", f"debugcon,port=0x402,to=file:{log}")
        assert done.stdout.endswith("the boot sector runs\n")
        assert done.returncode == 3 << 1 | 1
        assert f"Booting from {drive}" in log.read_text()
    done = bios(debian.kernel)
    assert done.returncode == 1
    assert f"{debian.kernel} is a kernel: add --kernel" in done.stderr


def test_every_reset_starts_the_firmware_again(sector):
    done = bios("--disk", sector("resets"))
    assert done.stdout.count("start\n") == 5
    assert done.returncode == 5 << 1 | 1


def test_no_reboot_ends_at_the_first_reset(sector):
    done = bios("--disk", sector("resets"), "--no-reboot")
    assert done.stdout.count("start\n") == 1
    assert done.returncode == 2


def test_rom_takes_no_writes(sector):
    assert bios("--disk", sector("rom")).returncode == 1 << 1 | 1


def test_code_in_shadow_memory(engine, sector):
    """Translations and look-up tables follow when the chipset shows other memory. On each engine
    that this host has, which also shows that the firmware boots there."""
    assert bios("--disk", sector("shadow"), engine=engine).returncode == 1 << 1 | 1


def test_file_for_the_guest(sector, tmp_path):
    (tmp_path / "note").write_text("from the host\n")
    done = bios("--disk", sector("fw-cfg"), "--fw-cfg", f"opt/sill={tmp_path / 'note'}")
    assert done.stdout.endswith("from the host\n")
    done = bios("--disk", sector("fw-cfg"), "--fw-cfg", f"opt/sill={tmp_path / 'none'}")
    assert done.returncode == 1
    assert str(tmp_path / "none") in done.stderr


def wait_for(log, text):
    """Until the file has the text; the run that writes it goes on."""
    deadline = time.monotonic() + TIMEOUT
    while not (log.exists() and text in log.read_text(errors="replace")):
        assert time.monotonic() < deadline, log.read_text(errors="replace")[-2000:]
        time.sleep(0.05)


@pytest.mark.parametrize("args, said", [
    ([], "No bootable device."),
    (["--boot", "order=cd,net"], "No bootable device."),
    (["--boot", "menu"], "Press ESC for boot menu."),
])
def test_without_a_system_the_firmware_says_so_and_waits(tmp_path, args, said):
    (tmp_path / "empty").write_bytes(bytes(1 << 20))
    log = tmp_path / "debug"
    child = spawn("run", "--engine", "dbt", "--quiet", "--memory", "64M", "--disk", tmp_path / "empty",
                  "--device", f"debugcon,port=0x402,to=file:{log}", *args)
    wait_for(log, said)
    assert child.isalive()
    child.close(force=True)


def test_order_leaves_out_what_it_does_not_name(sector, tmp_path):
    log = tmp_path / "debug"
    child = spawn("run", "--engine", "dbt", "--quiet", "--memory", "64M", "--disk", sector("hello"),
                  "--boot", "order=cd", "--device", f"debugcon,port=0x402,to=file:{log}")
    wait_for(log, "No bootable device.")
    child.close(force=True)


@pytest.mark.parametrize("size", [0, 1000, 17 << 20])
def test_image_that_is_no_firmware(tmp_path, size):
    (tmp_path / "bios.bin").write_bytes(bytes(size))
    done = bios("--firmware", tmp_path / "bios.bin")
    assert done.returncode == 1
    assert "bios.bin: no firmware" in done.stderr


GRUB_MODULES = "biosdisk fat linux minicmd normal part_msdos serial terminal".split()
GRUB_CONFIG = "serial --unit=0\nterminal_input serial\nterminal_output serial\n"
PARTITION = 1 << 20


@pytest.fixture(scope="session")
def grub_core(tmp_path_factory):
    """GRUB's boot sector, and its core, which ends in a prompt on the serial port."""
    folder = tmp_path_factory.mktemp("grub")
    (folder / "grub.cfg").write_text(GRUB_CONFIG)
    subprocess.run(["grub-mkimage", "-O", "i386-pc", "-o", folder / "core.img", "-p", "/",
                    "-c", folder / "grub.cfg", *GRUB_MODULES], check=True)
    with open("/usr/lib/grub/i386-pc/boot.img", "rb") as boot:
        return boot.read(440), (folder / "core.img").read_bytes()


def grub_disk(path, grub, files, mebibytes=64):
    """A disk with one FAT partition, and GRUB in its first sectors as grub-install puts it."""
    boot, core = grub
    path.write_bytes(bytes(PARTITION + (mebibytes << 20)))
    subprocess.run(["/usr/sbin/sfdisk", "-q", path], input=b"2048,,0x0e,*\n", check=True)
    subprocess.run(["mformat", "-i", f"{path}@@{PARTITION}", "-h", "16", "-s", "63", "-H", "2048",
                    "-T", str(mebibytes << 11), "::"], check=True)
    for name, source in files.items():
        subprocess.run(["mcopy", "-i", f"{path}@@{PARTITION}", source, f"::/{name}"], check=True)
    assert 512 + len(core) <= PARTITION
    with open(path, "r+b") as disk:
        disk.write(boot)
        disk.seek(512)
        disk.write(core)
    return path


@pytest.mark.parametrize("cpus", [1, 3])
def test_grub_starts_debian(tmp_path, grub_core, debian, scripted, cpus):
    """GRUB's prompt, then a kernel that finds tables and processors as firmware left them."""
    initrd = scripted("""\
        cat /sys/class/dmi/id/product_name
        echo "cpus: $(nproc)"
        dmesg | grep -i -E 'firmware bug|acpi.*(error|warning)|checksum.*(bad|incorrect)|mtrr.*wrong'
        """)
    disk = grub_disk(tmp_path / "disk.img", grub_core, {"vmlinuz": debian.kernel, "initrd": initrd})
    child = spawn("run", "--engine", "dbt", "--quiet", "--firmware", "bios", "--memory", "256M",
                  "--cpus", cpus, "--disk", disk)
    for command in (f"linux (hd0,msdos1)/vmlinuz {SCRIPTED_APPEND}", "initrd (hd0,msdos1)/initrd", "boot"):
        child.expect_exact("grub> ")
        child.send(command + "\r")
    child.expect_exact("guest: start")
    child.expect_exact("guest: end")
    said = child.before.replace("\r", "").strip().split("\n")
    assert said == ["Virtual Machine", f"cpus: {cpus}"]
    child.wait()
    assert child.exitstatus == 0


def wait_for_screen(child, control, text):
    deadline = time.monotonic() + TIMEOUT
    while text not in sill("ctl", control, "screen-text").stdout:
        assert child.isalive() and time.monotonic() < deadline
        time.sleep(0.05)


def test_menu_by_typed_keys(sector, tmp_path):
    """The second disk, which nothing else would boot."""
    control = tmp_path / "control"
    child = spawn("run", "--engine", "dbt", "--quiet", "--memory", "64M", "--device", "debug-exit",
                  "--control", f"socket:{control}", "--boot", "menu", "--disk", sector("hello"),
                  "--disk", sector("rom"))
    wait_for_screen(child, control, "Press ESC for boot menu")
    assert sill("ctl", control, "key", "esc").returncode == 0
    wait_for_screen(child, control, "2. Virtio disk")
    sill("ctl", control, "type", "2")  # the run may end before the answer
    child.wait()
    assert child.exitstatus == 1 << 1 | 1


BLOCK = {"disk": 512, "floppy": 512, "cdrom": 2048}  # bytes


def medium(kind, image, tmp_path):
    """One that begins with the sector in the image, and where its block 1 is."""
    if kind == "floppy":
        os.truncate(image, 1440 << 10)
    return sectors.disc(tmp_path, image) if kind == "cdrom" else image


@pytest.mark.parametrize("kind", BLOCK)
def test_services_of_the_bios(sector, tmp_path, kind):
    """A program in real mode reads its medium, shows it, takes keys and writes."""
    path = medium(kind, sector("services"), tmp_path)
    with open(path, "r+b") as file:
        file.seek(BLOCK[kind])
        file.write(b"this is block 1: ")
    control = tmp_path / "control"
    child = spawn("run", "--engine", "dbt", "--quiet", "--memory", "64M", "--device", "debug-exit",
                  "--control", f"socket:{control}", f"--{kind}", path)
    wait_for_screen(child, control, "this is block 1:")
    assert sill("ctl", control, "type", "Typed?").returncode == 0
    wait_for_screen(child, control, "this is block 1: Typed?")
    sill("ctl", control, "key", "enter")  # the run may end before the answer
    child.wait()
    assert child.exitstatus == (2 if kind == "cdrom" else 1) << 1 | 1
    there = b"this is block 1: " if kind == "cdrom" else b"Typed?\r block 1: "
    assert path.read_bytes()[BLOCK[kind]:].startswith(there)


def test_interrupts_of_the_real_time_clock(sector):
    assert bios("--disk", sector("clock")).returncode == 7 << 1 | 1
