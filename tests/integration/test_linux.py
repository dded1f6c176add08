"""Debian's cloud kernel on the software engine: to a shell, with disks, to each way to end."""

import hashlib
import random
import re
import subprocess
import time

import pytest

from conftest import ENGINES, PROMPT, SCRIPTED_APPEND, SILL, power_off, run_in, sill, spawn

pytestmark = pytest.mark.skipif(ENGINES.get("dbt") is not None, reason=f"{ENGINES.get('dbt')}")

BOOT_TIMEOUT = 60  # seconds; a boot takes some 2 to 4
BOOTS_IN_A_ROW = 20
DISK_SIZE = 16 << 20


def boot(debian, initrd, *args, append=""):
    """Runs a scripted guest to its end."""
    return sill("run", "--engine", "dbt", "--quiet", "--kernel", debian.kernel, "--initrd", initrd,
                "--append", f"{SCRIPTED_APPEND} {append}", *args, timeout=BOOT_TIMEOUT)


def guest_lines(done):
    """What the commands of a scripted guest printed; the guest must have come to their end."""
    text = done.stdout.replace("\r", "")
    match = re.search(r"^guest: start$(.*)^guest: end$", text, re.MULTILINE | re.DOTALL)
    assert match, text + done.stderr
    return match.group(1).strip().splitlines()


# ---- to a shell ----


@pytest.fixture
def shell(debian):
    """A function that boots to the shell of `make run` on a terminal."""
    children = []

    def start(*args, append=""):
        child = spawn("run", "--engine", "dbt", "--quiet", "--kernel", debian.kernel, "--initrd",
                      debian.initrd, "--append", f"console=ttyS0 quiet {append}", *args,
                      timeout=BOOT_TIMEOUT)
        children.append(child)
        child.expect(PROMPT)
        return child

    yield start
    for child in children:
        child.close(force=True)


@pytest.mark.parametrize("cpus", [1, 2, 4])
def test_shell(shell, cpus):
    child = shell("--cpus", cpus)
    assert run_in(child, "nproc") == [str(cpus)]
    assert run_in(child, "echo $((6 * 7))") == ["42"]
    assert power_off(child) == 0


def test_shell_has_job_control_and_line_editing(shell):
    child = shell("--device", "rng")
    child.sendline("sleep 1000")
    child.expect_exact("sleep 1000")
    child.send("\x1a")  # Ctrl-Z
    child.expect("Stopped")
    child.expect(PROMPT)
    child.sendline("fg")
    child.expect_exact("sleep 1000")
    child.send("\x03")  # Ctrl-C
    child.expect(PROMPT)
    child.send("echo edxt\x1b[D\x1b[D\x7fi\r")  # cursor left twice, delete the d, ...
    child.expect("\neixt")
    child.expect(PROMPT)
    assert power_off(child) == 0


# ---- scripted guests ----


@pytest.mark.parametrize("memory, least", [("128M", 90), ("512M", 440), ("3G", 2900),
                                           ("8G", 7800)])
def test_memory(debian, scripted, memory, least):
    """The guest has its memory: Linux keeps its own structures at the end of it."""
    initrd = scripted("free -m | awk '/^Mem/ {print $2}'")
    assert int(guest_lines(boot(debian, initrd, "--memory", memory))[0]) >= least


@pytest.mark.parametrize("append", ["kaslr", "nokaslr"])
def test_kaslr(debian, scripted, append):
    initrd = scripted("grep -w _text /proc/kallsyms")
    lines = guest_lines(boot(debian, initrd, append=append))
    # CONFIG_PHYSICAL_START plus the kernel's base.
    assert (lines[0].split()[0] == "ffffffff81000000") == (append == "nokaslr")


def test_disk_is_written_and_read_back(debian, scripted, tmp_path):
    before = random.Random(1).randbytes(DISK_SIZE)
    disk = tmp_path / "disk.img"
    disk.write_bytes(before)
    initrd = scripted("""
        sha256sum /dev/vda
        tr '\\0-\\377' '\\1-\\377\\0' < /dev/vda > /tmp/changed
        cat /tmp/changed > /dev/vda
        sync
        echo 3 > /proc/sys/vm/drop_caches
        sha256sum /dev/vda
    """)
    lines = guest_lines(boot(debian, initrd, "--disk", disk, "--cpus", "2"))
    after = bytes((byte + 1) & 0xff for byte in before)
    assert lines[0].split()[0] == hashlib.sha256(before).hexdigest()
    assert lines[1].split()[0] == hashlib.sha256(after).hexdigest()
    assert hashlib.sha256(disk.read_bytes()).hexdigest() == lines[1].split()[0]


def test_read_only_disk_stays_as_it_is(debian, scripted, tmp_path):
    disk = tmp_path / "disk.img"
    disk.write_bytes(b"keep" * (1 << 18))
    initrd = scripted("cat /sys/block/vda/ro; dd if=/dev/zero of=/dev/vda bs=4k count=1 2>/dev/null"
                      "|| echo refused")
    assert guest_lines(boot(debian, initrd, "--disk", f"{disk},readonly=on")) == ["1", "refused"]
    assert disk.read_bytes() == b"keep" * (1 << 18)


def test_disks_in_order_with_serial_numbers(debian, scripted, tmp_path):
    args = []
    for index in range(3):
        disk = tmp_path / f"{index}.img"
        disk.write_bytes(bytes((index + 1) << 20))
        args += ["--disk", f"{disk},serial=number-{index}"]
    initrd = scripted("for d in vda vdb vdc; do cat /sys/block/$d/size /sys/block/$d/serial; echo;"
                      "done")
    lines = [line for line in guest_lines(boot(debian, initrd, *args)) if line]
    assert lines == ["2048", "number-0", "4096", "number-1", "6144", "number-2"]


def test_virtio_console_and_rng(debian, scripted, tmp_path):
    log = tmp_path / "log"
    initrd = scripted("""
        cat /sys/class/misc/hw_random/rng_current
        head -c 1000 /dev/hwrng | wc -c
        echo through hvc0 > /dev/hvc0
    """)
    lines = guest_lines(boot(debian, initrd, "--device", "rng", "--device",
                             f"console,to=file:{log}"))
    assert lines[0].startswith("virtio_rng")
    assert lines[1] == "1000"
    assert log.read_text().strip() == "through hvc0"


def test_devices_that_linux_finds(debian, scripted):
    initrd = scripted("""
        cat /sys/devices/system/clocksource/clocksource0/available_clocksource
        grep -c '' /proc/interrupts >/dev/null && grep -E 'ttyS0|acpi' /proc/interrupts
        date +%s
    """)
    lines = guest_lines(boot(debian, initrd))
    assert "kvm-clock" in lines[0]
    assert "hpet" in lines[0]
    assert "acpi_pm" in lines[0]
    assert any("ttyS0" in line for line in lines)
    assert any("acpi" in line for line in lines)
    host = int(subprocess.run(["date", "+%s"], capture_output=True, text=True, check=True).stdout)
    assert abs(int(lines[-1]) - host) < BOOT_TIMEOUT


@pytest.mark.parametrize("append, wire", [("", "acpi"), ("hpet=disable", "rtc0")])
def test_real_time_clock(debian, scripted, append, wire):
    """It can be set, and its alarm rings: as Linux likes it, an ACPI event, or without an HPET the
    clock's own interrupt."""
    initrd = scripted("""
        date -u -s "2031-05-06 07:08:09" >/dev/null
        hwclock -u -w
        hwclock -u -r
        cd /sys/class/rtc/rtc0
        echo +2 > wakealarm
        until [ -z "$(cat wakealarm)" ]; do sleep 0.1; done
        echo $(($(cat since_epoch) - $(date -u -d "2031-05-06 07:08:09" +%s)))
        awk '$2 > 0 {print $NF}' /proc/interrupts
    """)
    lines = guest_lines(boot(debian, initrd, append=append))
    assert lines[0].startswith("Tue May  6 07:08:")
    assert 2 <= int(lines[1]) < BOOT_TIMEOUT
    assert wire in lines[2:]


@pytest.mark.parametrize("cpus", [1, 4])
def test_linux_finds_nothing_wrong(debian, scripted, cpus):
    """No time that runs differently on two vCPUs, no unknown MSR, no firmware bug."""
    initrd = scripted("dmesg | grep -i -E 'warp|unstable|unchecked|firmware bug|lockup|call trace'")
    assert guest_lines(boot(debian, initrd, "--cpus", cpus)) == []


# ---- ways to end ----


def test_power_off(debian, scripted):
    done = boot(debian, scripted("true"))
    guest_lines(done)
    assert done.returncode == 0


def test_reboot_starts_again(debian, scripted, tmp_path):
    """The first boot leaves a mark on the disk, the second sees it and powers off."""
    disk = tmp_path / "disk.img"
    disk.write_bytes(bytes(1 << 20))
    initrd = scripted("""
        mark=$(head -c 4 /dev/vda)
        echo "mark '$mark' after $(cut -d. -f1 /proc/uptime) s"
        if [ -z "$mark" ]; then
            echo boot > /dev/vda
            sync
            reboot -f
        fi
    """)
    done = boot(debian, initrd, "--disk", disk)
    assert done.returncode == 0
    text = done.stdout.replace("\r", "")
    marks = re.findall(r"^mark '(.*)' after (\d+) s$", text, re.MULTILINE)
    assert [mark for mark, _ in marks] == ["", "boot"]
    assert all(int(uptime) < BOOT_TIMEOUT for _, uptime in marks)


def test_reboot_ends_the_run_when_told(debian, scripted):
    assert boot(debian, scripted("reboot -f"), "--no-reboot").returncode == 2


def test_panic_is_reported(debian, scripted):
    """Without panic=, a kernel that has panicked does nothing more; the device ends the run."""
    modules = ["drivers/misc/pvpanic/pvpanic.ko", "drivers/misc/pvpanic/pvpanic-mmio.ko"]
    commands = "insmod /test/pvpanic.ko; insmod /test/pvpanic-mmio.ko; echo c > /proc/sysrq-trigger"
    done = boot(debian, scripted(commands, modules), "--device", "pvpanic")
    assert "Kernel panic" in done.stdout
    assert done.returncode == 2


def test_reset_after_a_panic_ends_the_run_when_told(debian, scripted):
    done = boot(debian, scripted("echo c > /proc/sysrq-trigger"), "--no-reboot", append="panic=-1")
    assert "Kernel panic" in done.stdout
    assert done.returncode == 2


# ---- again and again ----


def test_boots_in_a_row(debian, scripted):
    initrd = scripted("nproc")
    for number in range(BOOTS_IN_A_ROW):
        done = boot(debian, initrd, "--cpus", 2)
        assert done.returncode == 0, f"boot {number}: {done.stdout}"
        assert guest_lines(done) == ["2"], f"boot {number}"


@pytest.mark.parametrize("append", ["", "hpet=disable"])
def test_alarm_of_the_clock_rings(shell, append):
    """Through the power management block, as Linux has it on newer machines with an HPET, or by the
    clock's own interrupt. Linux forgets an alarm that has rung."""
    child = shell(append=append)
    run_in(child, "cd /sys/class/rtc/rtc0; echo +2 >wakealarm")
    deadline = time.monotonic() + BOOT_TIMEOUT
    while run_in(child, "cat wakealarm"):
        assert time.monotonic() < deadline
    run_in(child, "cd")
    assert run_in(child, "grep -c 'alarm_IRQ.*no' /proc/driver/rtc") == ["1"]
