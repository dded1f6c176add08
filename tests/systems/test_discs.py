"""What boots from a disc or a floppy disk: GRUB, a memory test, Debian's installer, a 32-bit Debian."""

import re
import time

import pytest
from PIL import Image

import rfb
from conftest import TIMEOUT

FIRMWARE = ["bios", "uefi"]
MEMORY = {"bios": "64M", "uefi": "128M"}  # UEFI needs more for itself


def boot(start, image, name, firmware, *args, **kwargs):
    return start("--firmware", firmware, "--cdrom", image(name), *args, **kwargs)


def wait_for_screen(machine, text):
    """Waits until the VGA screen shows a text, and returns the screen."""
    deadline = time.monotonic() + TIMEOUT
    screen = ""
    while machine.isalive() and time.monotonic() < deadline:
        screen = machine.ctl("screen-text")
        if text in screen:
            return screen
        time.sleep(0.5)
    raise AssertionError(f"no {text!r} on the screen:\n{screen}")


@pytest.mark.parametrize("firmware", FIRMWARE)
def test_grub_reaches_its_prompt(start, image, firmware):
    machine = boot(start, image, "grub", firmware)
    machine.expect_exact("GRUB is here")
    machine.expect_exact("grub> ")
    machine.sendline("echo $grub_platform")
    machine.expect_exact({"bios": "pc", "uefi": "efi"}[firmware] + "\r\n")
    machine.sendline("halt")
    assert machine.ends() == 0


def test_grub_reaches_its_prompt_from_a_floppy_disk(start, image):
    machine = start(image("grub-floppy"))
    machine.expect_exact("grub> ")
    machine.sendline("ls")
    machine.expect_exact("(fd0)")
    machine.sendline("halt")
    assert machine.ends() == 0


def test_uefi_follows_the_boot_order(start, image):
    """Usually a disk comes first."""
    machine = start("--firmware", "uefi", "--disk", f"{image('debian-uefi')},readonly=on", "--cdrom",
                    image("grub"), "--boot", "order=cd,disk")
    machine.expect_exact("GRUB is here")


@pytest.mark.parametrize("firmware", FIRMWARE)
def test_memory_test_passes_over_64_mib(start, image, firmware):
    """It prints one more pass when a pass is over."""
    machine = boot(start, image, "memtest", firmware, memory=MEMORY[firmware])
    machine.expect(r"Pass(es)?: +1")
    assert re.findall(r"Errors: +(\d+)", machine.before)[-1] == "0"


def test_32_bit_debian_through_bios(start, image):
    machine = boot(start, image, "debian-i386", "bios")
    machine.expect(r"root@sill:\S+# ")
    machine.sendline("uname -m; poweroff")
    machine.expect_exact("i686")
    assert machine.ends() == 0


@pytest.mark.parametrize("cpus", [1, 2])
def test_xen_starts_its_first_domain(start, image, cpus):
    machine = boot(start, image, "xen", "bios", "--cpus", cpus)
    machine.expect(r"root@sill:\S+# ")
    machine.sendline("cat /sys/hypervisor/type; nproc; poweroff")
    machine.expect(rf"xen\s+{cpus}\s")
    assert machine.ends() == 0


def test_installer_is_driven_by_typed_keys(start, image, tmp_path):
    number = rfb.free_display()
    machine = boot(start, image, "installer", "bios", "--display", f"vnc=127.0.0.1:{number}")
    assert "English" in wait_for_screen(machine, "Select a language")
    shown = rfb.capture(number, tmp_path / "client.png", TIMEOUT)
    machine.ctl("screenshot", tmp_path / "screen.png")
    taken = Image.open(tmp_path / "screen.png").convert("RGB")
    assert rfb.same_but_for_the_cursor(shown, taken)
    machine.ctl("key", "enter")
    wait_for_screen(machine, "Select your location")
    machine.ctl("key", "enter")
    wait_for_screen(machine, "Configure the keyboard")
