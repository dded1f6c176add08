"""The KVM engine on a real KVM (kvm_host.py): `sill run --engine kvm` boots the kernel that its host runs,
and this computer's gdb debugs a tiny guest through the host's second serial port."""

import re
import shutil
import signal
import subprocess
import time

import pytest

import kvm_host
from conftest import SCRIPTED_APPEND, SILL

LIMIT = 300  # seconds for all; it takes a tenth of it

# What the host does. The guest's console is the host's. The second guest's interrupts come through
# the IOAPIC, each of which takes an exit when it ends.
HOST_COMMANDS = f"""\
sill engines
for option in "" pci=nomsi; do
    rm -f /tmp/disk
    truncate -s 1M /tmp/disk
    sill run --engine kvm --cpus 2 --memory 256M --kernel /guest/vmlinuz \\
        --initrd /guest/initrd --append "{SCRIPTED_APPEND} $option" --disk /tmp/disk </dev/null
    echo "host: sill ended with status $?, disk has $(head -c 5 /tmp/disk)"
done
stty -F /dev/ttyS1 raw -echo
sill run --engine kvm --memory 16M --kernel /guest/count --device debug-exit \\
    --gdb tcp:127.0.0.1:1234,wait </dev/null &
until grep -q :04D2 /proc/net/tcp || ! kill -0 $!; do
    usleep 10000
done
echo "host: waits for gdb"
nc 127.0.0.1 1234 </dev/ttyS1 >/dev/ttyS1 &
wait %1
echo "host: debugged guest ended with status $?"
"""


def sysenter(folder):
    """A program of one instruction: invalid in 64-bit mode on AMD's processors, and KVM has no emulation."""
    program = folder / "sysenter"
    subprocess.run(["gcc", "-nostdlib", "-static", "-x", "assembler", "-o", program, "-"],
                   input=b".globl _start\n_start: sysenter\n", check=True)
    return program.read_bytes()


def debug(serial, kernel):
    """Steps through the tiny guest and makes it count to four, not six. QEMU's SVM does without the
    guest's debug registers, so breakpoints are not part of it."""
    words = ["gdb", "-nx", "-batch", "-ex", "set confirm off", "-ex", f"target remote {serial}"]
    for command in ["stepi", "stepi", "stepi", "print $pc == again", "print $ecx", "stepi",
                    "print $eax", "x/i $pc", "set var $ecx = 2", "detach"]:
        words += ["-ex", command]
    done = subprocess.run([*words, kernel], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=LIMIT, check=False)
    return done.stdout


def test_sill_runs_on_real_kvm(debian, scripted, guest, tmp_path):
    if not shutil.which(kvm_host.QEMU):
        pytest.skip(f"{kvm_host.QEMU} is not installed")
    guest_initrd = scripted("""
        clock=$(cat /sys/devices/system/clocksource/clocksource0/current_clocksource)
        echo "guest: $(nproc) processors, clock $clock"
        printf hello | dd of=/dev/vda conv=fsync 2>/dev/null
        grep -q 'MSI.*virtio' /proc/interrupts && echo "guest: interrupts by message"
        grep -q 'IO-APIC.*fasteoi.*virtio' /proc/interrupts && echo "guest: interrupts by wire"
        chmod +x /test/sysenter
        /test/sysenter
        echo "guest: status $? of what KVM does not emulate"
    """, files={"sysenter": sysenter(tmp_path)})
    host_initrd = tmp_path / "host.img"
    host_initrd.write_bytes(kvm_host.ramdisk(tmp_path / "host", SILL, debian.modules, HOST_COMMANDS, {
        "guest/vmlinuz": debian.kernel, "guest/initrd": guest_initrd, "guest/count": guest("count")}))
    output, serial = tmp_path / "output", tmp_path / "serial"
    with output.open("wb") as file:
        qemu = subprocess.Popen(kvm_host.qemu(debian.kernel, host_initrd, "1G",
                                              f"unix:{serial},server=on,wait=off"),
                                stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT)
    debugged = ""
    try:
        deadline = time.monotonic() + LIMIT
        while b"host: waits for gdb" not in output.read_bytes():
            assert qemu.poll() is None and time.monotonic() < deadline, output.read_text()
            time.sleep(0.1)
        debugged = debug(serial, guest("count"))
        qemu.wait(LIMIT)
    finally:
        qemu.kill()
        qemu.wait()
    said = output.read_text(errors="replace")
    assert re.search(r"kvm +yes .* supervisor code runs at hardware speed", said), said
    assert said.count("guest: 2 processors, clock kvm-clock") == 2, said
    assert said.count("guest: interrupts by message") == 1, said
    assert said.count("guest: interrupts by wire") == 1, said
    assert said.count(f"guest: status {128 + signal.SIGILL} of") == 2, said
    assert said.count("guest: end") == 2, said
    assert said.count("host: sill ended with status 0, disk has hello") == 2, said
    assert re.findall(r"^\$\d = (.*)$", debugged, re.MULTILINE) == ["1", "3", "2"], debugged
    assert re.search(r"=> 0x\w+ <again\+3>:\s*mov +%eax,", debugged), debugged
    assert "host: debugged guest ended with status 9" in said, said + debugged
