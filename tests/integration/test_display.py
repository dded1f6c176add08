"""What the screen shows, from the BIOS's first line to Linux in text and in graphics, on both display
adapters."""

import gzip
import struct
import subprocess
import time
import zlib

import pytest

from conftest import ENGINES, TIMEOUT, ctl, sill

pytestmark = pytest.mark.skipif(ENGINES.get("dbt") is not None, reason=f"{ENGINES.get('dbt')}")

ADAPTERS = ["std", "virtio"]

GREET = """echo "Hello, screen"
sleep 1000
"""
# The pixels are written where no line of the console reaches while it is young.
PAINT = r"""mount -t devtmpfs dev /dev
printf '\377\0\0\0\0\376\0\0\0\0\375\0' | dd of=/dev/fb0 bs=4 seek=$((700 * 1024 + 1000)) 2>/dev/null
echo painted >/dev/ttyS0
sleep 1000
"""

MENU = """set timeout=-1
if [ $grub_platform = efi ]; then
    set timeout=0
    set default=1
fi
menuentry "Linux in text" {
    linux /vmlinuz console=ttyS0 console=tty0 quiet rdinit=/bin/sh -- /greet
    initrd /initrd
}
menuentry "Linux in graphics" --hotkey=g {
    insmod all_video
    set gfxpayload=1024x768x32
    linux /vmlinuz console=tty0 quiet rdinit=/bin/sh -- /paint
    initrd /initrd
}
"""


@pytest.fixture(scope="module")
def disc(debian, tmp_path_factory):
    """GRUB with a menu of two ways to start Linux."""
    folder = tmp_path_factory.mktemp("disc")
    tree = folder / "tree"
    (tree / "boot/grub").mkdir(parents=True)
    (tree / "boot/grub/grub.cfg").write_text(MENU)
    (tree / "vmlinuz").write_bytes(debian.kernel.read_bytes())
    (folder / "greet").write_text(GREET)
    (folder / "paint").write_text(PAINT)
    scripts = subprocess.run(["cpio", "-o", "-H", "newc"], cwd=folder, input=b"greet\npaint\n",
                             capture_output=True, check=True).stdout
    (tree / "initrd").write_bytes(debian.initrd.read_bytes() + gzip.compress(scripts))
    image = folder / "disc.iso"
    subprocess.run(["grub-mkrescue", "-o", image, tree], check=True, capture_output=True)
    return image


def wait_for_text(path, text):
    """The screen as soon as it shows that text."""
    screen = None
    deadline = time.monotonic() + TIMEOUT
    while time.monotonic() < deadline:
        done = sill("ctl", path, "screen-text")
        screen = done.stdout or done.stderr
        if text in screen:
            return screen
        time.sleep(0.1)
    raise AssertionError(f"no {text!r} on the screen:\n{screen}")


def read_png(path):
    """Width, and lines of bytes, of a PNG with 8 bits of red, green and blue (W3C PNG, 9.2)."""
    data, at, packed = path.read_bytes(), 8, b""
    while at < len(data):
        length, kind = struct.unpack(">I4s", data[at:at + 8])
        chunk = data[at + 8:at + 8 + length]
        at += 12 + length
        if kind == b"IHDR":
            width, height, depth, colour = struct.unpack(">IIBB", chunk[:10])
            assert (depth, colour) == (8, 2)
        elif kind == b"IDAT":
            packed += chunk
    raw, lines, before = zlib.decompress(packed), [], bytes(3 * width)
    for y in range(height):
        start = y * (3 * width + 1)
        line = bytearray(raw[start + 1:start + 1 + 3 * width])
        for i in range(len(line)):
            left, up = (line[i - 3] if i >= 3 else 0), before[i]
            corner = before[i - 3] if i >= 3 else 0
            nearest = min((abs(up - corner), 0, left), (abs(left - corner), 1, up),
                          (abs(left + up - 2 * corner), 2, corner))[2]
            line[i] = line[i] + [0, left, up, (left + up) // 2, nearest][raw[start]] & 0xff
        lines.append(bytes(line))
        before = line
    return width, lines


@pytest.mark.parametrize("vga", ADAPTERS)
def test_firmware_and_boot_loader_and_linux_in_text(start, disc, vga):
    _, path = start("--firmware", "bios", "--vga", vga, "--cdrom", disc)
    screen = wait_for_text(path, "*Linux in text")
    assert "GNU GRUB" in screen
    assert "\u2514" in screen  # of the menu's frame
    ctl(path, "key", "enter")
    wait_for_text(path, "Hello, screen")


def test_bios_without_anything_to_boot_says_so(start):
    _, path = start("--firmware", "bios")
    screen = wait_for_text(path, "No bootable device")
    assert screen.startswith("SeaBIOS")


# Linux's cloud kernel draws on what GRUB's own driver or UEFI sets up, not on a VESA mode.
@pytest.mark.parametrize("vga,firmware", [("std", "bios"), ("virtio", "uefi")])
def test_pixels_that_linux_writes_are_seen(start, disc, tmp_path, vga, firmware):
    child, path = start("--firmware", firmware, "--vga", vga, "--cdrom", disc)
    if firmware == "bios":
        wait_for_text(path, "Linux in graphics")
        ctl(path, "key", "g")
    child.expect_exact("painted")
    picture = tmp_path / "screen.png"
    ctl(path, "screenshot", picture)
    width, lines = read_png(picture)
    assert (width, len(lines)) == (1024, 768)
    painted = bytes([0, 0, 0, 0, 0, 255, 0, 254, 0, 253, 0, 0, 0, 0, 0])
    assert lines[700][3 * 999:3 * 1004] == painted
    assert sill("ctl", path, "screen-text").returncode == 1
