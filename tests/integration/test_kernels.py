"""Kernels besides Debian's cloud kernel on the software engine: Debian's 32-bit ones, the memory test
memtest86+, Debian's installer."""

import re
import subprocess

import pytest

from conftest import ENGINES, PROMPT, ROOT, Debian, fetch, power_off, run_in, spawn

pytestmark = pytest.mark.skipif(ENGINES.get("dbt") is not None, reason=f"{ENGINES.get('dbt')}")

GUESTS = ROOT / "build/guests"
INSTALLER = "usr/lib/debian-installer/images/12/amd64/text/debian-installer/amd64"


@pytest.fixture
def start():
    """A function that starts a kernel with its console on a terminal."""
    children = []

    def run(kernel, *args):
        child = spawn("run", "--engine", "dbt", "--quiet", "--no-reboot", "--kernel", kernel, *args)
        children.append(child)
        return child

    yield run
    for child in children:
        child.close(force=True)


@pytest.fixture(params=["linux-image-686", "linux-image-686-pae"])
def debian32(request, tmp_path):
    """Debian's 32-bit kernels, with 2-level paging and with PAE."""
    folder = fetch("debian-kernel", GUESTS / request.param, f"{request.param}:i386")
    busybox = fetch("debian-package", GUESTS / "busybox-static", "busybox-static:i386",
                    "./bin/busybox") / "package/bin/busybox"
    initrd = tmp_path / "initrd.img"
    subprocess.run([ROOT / "tools/debian-initrd", folder, initrd, busybox], check=True)
    return Debian(folder / "vmlinuz", folder / "modules", initrd)


def test_32_bit_debian_boots_to_a_shell(start, debian32):
    child = start(debian32.kernel, "--initrd", debian32.initrd, "--append", "console=ttyS0 quiet",
                  "--cpus", 2, "--device", "rng")
    child.expect(PROMPT)
    assert run_in(child, "uname -m") == ["i686"]
    assert run_in(child, "nproc") == ["2"]
    assert run_in(child, "grep -c -w pae /proc/cpuinfo") == ["2"]
    assert run_in(child, "seq 1000 | sha256sum") == [
        "67d4ff71d43921d5739f387da09746f405e425b07d727e4c69d029461d1f051f  -"]
    assert run_in(child, "head -c 8 /dev/hwrng | wc -c") == ["8"]
    assert run_in(child, "dmesg | grep -c -i -E 'unchecked|call trace|warning:'") == ["0"]
    assert power_off(child) == 0


@pytest.mark.parametrize("debian32", ["linux-image-686-pae"], indirect=True)
def test_mp_table_serves_where_acpi_does_not(start, debian32, tmp_path):
    """Debian's 64-bit kernels cannot read one."""
    disk = tmp_path / "disk"
    disk.write_bytes(b"read by interrupts\n" + bytes(1 << 20))
    child = start(debian32.kernel, "--initrd", debian32.initrd, "--append",
                  "console=ttyS0 quiet acpi=off pci=nomsi", "--cpus", 2, "--disk", disk)
    child.expect(PROMPT)
    assert run_in(child, "nproc") == ["2"]
    assert run_in(child, "head -n 1 /dev/vda") == ["read by interrupts"]
    assert run_in(child, "grep -c 'IO-APIC.*fasteoi.*virtio0' /proc/interrupts") == ["1"]
    assert run_in(child, "dmesg | grep -c 'MPTABLE: OEM ID: SILL'") == ["1"]
    child.sendline("reboot -f")
    child.wait()
    assert child.exitstatus == 2


@pytest.mark.parametrize("image, cpus", [("memtest86+x64.bin", 1), ("memtest86+ia32.bin", 2)])
def test_memory_test_finds_no_error(start, image, cpus):
    """It has no screen and no keyboard but the serial port. Its last test takes minutes; that it has
    begun says that all others are done. ESC then resets the machine."""
    folder = fetch("debian-package", GUESTS / "memtest86+", "memtest86+", "./boot/*.bin")
    child = start(folder / "package/boot" / image, "--append", "console=ttyS0,115200", "--cpus",
                  cpus, "--memory", "16M")
    child.expect_exact("Bit fade test")
    assert re.findall(r"Errors: +(\d+)", child.before)[-1] == "0"
    child.send("\x1b")
    child.wait()
    assert child.exitstatus == 2


def test_installer_shows_its_first_dialog(start):
    folder = fetch("debian-package", GUESTS / "debian-installer",
                   "debian-installer-12-netboot-amd64", f"./{INSTALLER}/linux",
                   f"./{INSTALLER}/initrd.gz")
    images = folder / "package" / INSTALLER
    child = start(images / "linux", "--initrd", images / "initrd.gz", "--append",
                  "console=ttyS0 quiet", "--memory", "1G")
    child.expect_exact("Select a language")
    child.expect_exact("English")
