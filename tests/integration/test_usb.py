"""The USB tablet and keyboard, as Linux's drivers, SeaBIOS and UEFI know them."""

import struct
import subprocess
import time

import pytest
from PIL import Image

import rfb
from conftest import ENGINES, PROMPT, TIMEOUT, ctl, power_off, run_in, sill

pytestmark = pytest.mark.skipif(ENGINES.get("dbt") is not None, reason=f"{ENGINES.get('dbt')}")

POSITION_MAX = 0x7fff
# Linux, include/uapi/linux/input-event-codes.h
EV_SYN, EV_KEY, EV_REL, EV_ABS, EV_MSC = range(5)
BTN_LEFT, KEY_A, REL_WHEEL, MSC_SCAN = 0x110, 30, 8, 4


def load_drivers(child):
    child.expect(PROMPT)
    run_in(child, "modprobe -a xhci_pci usbhid hid_generic evdev")
    run_in(child, "D=/proc/bus/input/devices")


def open_event_device(child, name, descriptor):
    """Opens the event device of that name in the guest's shell, once the driver has found it."""
    run_in(child, f"until grep -q '{name}' $D; do sleep 0.1; done")
    event = run_in(child, f"grep -A4 '{name}' $D | grep -o 'event[0-9]*'")[-1]
    run_in(child, f"exec {descriptor}</dev/input/{event}")


def events(child, descriptor, count):
    """The next events of the device, without their times."""
    lines = run_in(child, f"dd bs=24 count={count} <&{descriptor} 2>/dev/null | xxd -p")
    return list(struct.iter_unpack("<16xHHi", bytes.fromhex("".join(lines))))


def check_suspended_link(child, path):
    """The driver suspends a tablet that nobody has open, and wakes it for who opens it."""
    run_in(child, "exec 3<&-")
    run_in(child, "P=/sys/bus/usb/devices/1-1/power")
    run_in(child, "echo 0 >$P/autosuspend; echo auto >$P/control")
    run_in(child, "until grep suspended $P/runtime_status; do sleep 0.1; done")
    open_event_device(child, "Sill USB tablet", 3)
    ctl(path, "point", "5,6")
    assert [event[0] for event in events(child, 3, 3)] == [EV_ABS, EV_ABS, EV_SYN]


def test_tablet_and_keyboard_under_linux(start, kernel, tmp_path):
    vmlinuz, initrd = kernel
    number = rfb.free_display()
    child, path = start("--kernel", vmlinuz, "--initrd", initrd, "--append",
                        "console=ttyS0 quiet", "--device", "usb-tablet", "--device",
                        "usb-keyboard", "--display", f"vnc=127.0.0.1:{number}")
    load_drivers(child)
    open_event_device(child, "Sill USB tablet", 3)
    open_event_device(child, "Sill USB keyboard", 4)

    ctl(path, "screenshot", tmp_path / "screen.png")
    width, height = Image.open(tmp_path / "screen.png").size

    def position(x, y):
        return [(EV_ABS, 0, x * POSITION_MAX // (width - 1)),
                (EV_ABS, 1, y * POSITION_MAX // (height - 1)), (EV_SYN, 0, 0)]

    ctl(path, "point", "300,200")
    assert events(child, 3, 3) == position(300, 200)
    ctl(path, "point", f"{width - 1},{height - 1}")
    assert events(child, 3, 3) == position(width - 1, height - 1)
    ctl(path, "point", f"{width - 1},{height - 1},left")
    assert events(child, 3, 3)[1:] == [(EV_KEY, BTN_LEFT, 1), (EV_SYN, 0, 0)]
    ctl(path, "point", f"{width - 1},{height - 1}")
    assert events(child, 3, 3)[1:] == [(EV_KEY, BTN_LEFT, 0), (EV_SYN, 0, 0)]
    ctl(path, "point", f"{width - 1},{height - 1},wheel-down")
    assert events(child, 3, 3)[0] == (EV_REL, REL_WHEEL, -1)
    assert "no place on a screen" in sill("ctl", path, "point", f"{width},0").stderr
    assert "no button" in sill("ctl", path, "point", "0,0,top").stderr

    client = rfb.Client(5900 + number, TIMEOUT)
    client.pointer(17, 42)
    assert events(child, 3, 3) == position(17, 42)
    client.pointer(17, 42, 1)
    assert events(child, 3, 3)[1:] == [(EV_KEY, BTN_LEFT, 1), (EV_SYN, 0, 0)]
    client.close()
    assert events(child, 3, 3)[1:] == [(EV_KEY, BTN_LEFT, 0), (EV_SYN, 0, 0)]

    ctl(path, "key", "a")
    assert events(child, 4, 3)[1:] == [(EV_KEY, KEY_A, 1), (EV_SYN, 0, 0)]
    assert events(child, 4, 3)[1:] == [(EV_KEY, KEY_A, 0), (EV_SYN, 0, 0)]
    check_suspended_link(child, path)
    assert power_off(child) == 0


@pytest.fixture(scope="module")
def grub(tmp_path_factory):
    """A disc with GRUB, which has nothing to start and asks."""
    folder = tmp_path_factory.mktemp("grub")
    (folder / "tree").mkdir()
    subprocess.run(["grub-mkrescue", "-o", folder / "grub.iso", folder / "tree"], check=True,
                   capture_output=True)
    return folder / "grub.iso"


def wait_for(path, text):
    deadline = time.monotonic() + TIMEOUT
    while time.monotonic() < deadline:
        screen = sill("ctl", path, "screen-text").stdout
        if text in screen:
            return
        time.sleep(0.2)
    raise AssertionError(f"no {text!r} on the screen:\n{screen}")


def test_bios_and_boot_loader_with_both_keyboards(start, grub, tmp_path):
    log = tmp_path / "seabios.log"
    _, path = start("--firmware", "bios", "--cdrom", grub, "--device", "usb-tablet", "--device",
                    "usb-keyboard", "--device", f"debugcon,port=0x402,to=file:{log}")
    wait_for(path, "grub>")
    assert "USB keyboard initialized" in log.read_text(errors="replace")
    ctl(path, "type", "echo Hello (World)!\n")
    wait_for(path, "\nHello (World)!")


def test_uefi_and_boot_loader_with_both_keyboards(start, grub):
    child, path = start("--firmware", "uefi", "--cdrom", grub, "--console", "none", "--device",
                        "usb-tablet", "--device", "usb-keyboard")
    deadline = time.monotonic() + TIMEOUT
    # GRUB's text is a picture here: what shows that it was understood is the end of the run.
    while child.isalive() and time.monotonic() < deadline:
        sill("ctl", path, "type", "halt\n")
        time.sleep(0.5)
    assert not child.isalive()
    assert child.exitstatus == 0


@pytest.mark.parametrize("viewer, there", [(True, True), (False, False)])
def test_tablet_is_there_by_default_for_a_viewer(start, tmp_path, viewer, there):
    log = tmp_path / "seabios.log"
    display = f"vnc=127.0.0.1:{rfb.free_display()}" if viewer else "none"
    _, path = start("--firmware", "bios", "--display", display, "--device",
                    f"debugcon,port=0x402,to=file:{log}")
    wait_for(path, "No bootable device")
    assert ("XHCI init" in log.read_text(errors="replace")) == there
