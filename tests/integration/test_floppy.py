"""Floppy drives under Linux's driver, which is loaded because the ACPI namespace names the controller."""

import hashlib
import random

import pytest

from conftest import ENGINES, PROMPT, power_off, run_in, spawn

pytestmark = pytest.mark.skipif(ENGINES.get("dbt") is not None, reason=f"{ENGINES.get('dbt')}")

SIZES = [1440 << 10, 720 << 10]
FILE = 40000  # bytes: from within one cylinder to within another


def test_linux_reads_and_writes_both_drives(kernel, tmp_path):
    images, contents, args = [], [], []
    for number, size in enumerate(SIZES):
        images.append(tmp_path / f"{number}.img")
        contents.append(bytearray(random.Random(number).randbytes(size)))
        images[-1].write_bytes(contents[-1])
        args += ["--floppy", images[-1]]
    vmlinuz, initrd = kernel
    child = spawn("run", "--engine", "dbt", "--quiet", "--no-reboot", "--memory", "256M", "--kernel",
                  vmlinuz, "--initrd", initrd, "--append", "console=ttyS0 quiet", *args)
    child.expect(PROMPT)
    run_in(child, "modprobe $(cat /sys/bus/acpi/devices/PNP0700:00/modalias)")
    for number, size in enumerate(SIZES):
        run_in(child, f"until [ -b /dev/fd{number} ]; do sleep 0.1; done")
        assert run_in(child, f"cat /dev/fd{number} | sha256sum | cut -c-8") == [
            hashlib.sha256(contents[number]).hexdigest()[:8]]
        run_in(child, f"seq 100000 | head -c {FILE} > /tmp/file")
        run_in(child, f"dd if=/tmp/file of=/dev/fd{number} bs=512 seek=7 conv=fsync")
    assert run_in(child, "dmesg | grep -i -c -E 'floppy.*(error|timeout|reset)|I/O error'") == ["0"]
    assert power_off(child) == 0

    written = "".join(f"{i}\n" for i in range(1, 100001)).encode()[:FILE]
    for image, content in zip(images, contents):
        content[7 * 512:7 * 512 + FILE] = written
        assert image.read_bytes() == content
