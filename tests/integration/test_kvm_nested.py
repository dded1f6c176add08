"""The KVM engine on a real KVM, wherever the tests run: inside QEMU's emulated AMD processor with its
SVM, Debian's kernel with its kvm-amd module is the host, and `sill run --engine kvm` boots the same
kernel in it. No virtualization of this computer is used, so the test means the same everywhere.

    this computer: qemu -accel tcg
        host:  Debian's kernel, kvm-amd, busybox, sill
            guest: Debian's kernel, its script prints on the serial port
            guest: a tiny one, debugged by this computer's gdb through the host's second serial port
"""

import pathlib
import re
import shutil
import subprocess
import time

import pytest

from conftest import ROOT, SCRIPTED_APPEND, SILL

QEMU = "qemu-system-x86_64"
LIMIT = 300  # seconds for all; it takes a tenth of it
MODULES = ["virt/lib/irqbypass.ko", "arch/x86/kvm/kvm.ko", "arch/x86/kvm/kvm-amd.ko"]

# What the host does. The guest's console is the host's. The second guest's interrupts come through
# the IOAPIC, each of which takes an exit when it ends.
HOST_INIT = """\
#!/bin/busybox sh
/bin/busybox mount -t devtmpfs dev /dev
exec </dev/console >/dev/console 2>&1
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t tmpfs tmp /tmp
for module in {modules}; do
    /bin/busybox insmod "/modules/$module"
done
/bin/sill engines
for option in "" pci=nomsi; do
    /bin/busybox rm -f /tmp/disk
    /bin/busybox truncate -s 1M /tmp/disk
    /bin/sill run --engine kvm --cpus 2 --memory 256M --kernel /guest/vmlinuz \\
        --initrd /guest/initrd --append "{append} $option" --disk /tmp/disk </dev/null
    echo "host: sill ended with status $?, disk has $(/bin/busybox head -c 5 /tmp/disk)"
done
/bin/busybox ifconfig lo up
/bin/busybox stty -F /dev/ttyS1 raw -echo
/bin/sill run --engine kvm --memory 16M --kernel /guest/count --device debug-exit \\
    --gdb tcp:127.0.0.1:1234,wait </dev/null &
until /bin/busybox grep -q :04D2 /proc/net/tcp || ! kill -0 $!; do
    /bin/busybox usleep 10000
done
echo "host: waits for gdb"
/bin/busybox nc 127.0.0.1 1234 </dev/ttyS1 >/dev/ttyS1 &
wait %1
echo "host: debugged guest ended with status $?"
/bin/busybox poweroff -f
"""


def libraries(program):
    """The shared libraries of a program and its loader."""
    listing = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    return [pathlib.Path(path) for path in re.findall(r"(/\S+) \(0x", listing)]


def make_host(stage, kernel_folder, guest_kernel, guest_initrd, tiny_kernel):
    """The host's RAM disk, uncompressed."""
    def put(source, target):
        path = stage / target
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, path)  # follows links

    for folder in ("dev", "proc", "tmp"):
        (stage / folder).mkdir(parents=True)
    put("/bin/busybox", "bin/busybox")
    put(SILL, "bin/sill")
    for library in libraries(SILL):
        put(library, str(library).lstrip("/"))
    for module in MODULES:
        put(kernel_folder / "modules/kernel" / module, f"modules/{pathlib.Path(module).name}")
    put(guest_kernel, "guest/vmlinuz")
    put(guest_initrd, "guest/initrd")
    put(tiny_kernel, "guest/count")
    init = stage / "init"
    init.write_text(HOST_INIT.format(modules=" ".join(pathlib.Path(m).name for m in MODULES),
                                     append=SCRIPTED_APPEND))
    init.chmod(0o755)
    names = "\n".join(str(path.relative_to(stage)) for path in sorted(stage.rglob("*")))
    return subprocess.run(["cpio", "--quiet", "-o", "-H", "newc", "--owner=0:0"], cwd=stage,
                          input=names.encode(), stdout=subprocess.PIPE, check=True).stdout


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
    if not shutil.which(QEMU):
        pytest.skip(f"{QEMU} is not installed")
    guest_initrd = scripted("""
        clock=$(cat /sys/devices/system/clocksource/clocksource0/current_clocksource)
        echo "guest: $(nproc) processors, clock $clock"
        printf hello | dd of=/dev/vda conv=fsync 2>/dev/null
        grep -q 'MSI.*virtio' /proc/interrupts && echo "guest: interrupts by message"
        grep -q 'IO-APIC.*fasteoi.*virtio' /proc/interrupts && echo "guest: interrupts by wire"
    """)
    host_initrd = tmp_path / "host.img"
    host_initrd.write_bytes(make_host(tmp_path / "host", ROOT / "build/guest", debian.kernel,
                                      guest_initrd, guest("count")))
    output, serial = tmp_path / "output", tmp_path / "serial"
    with output.open("wb") as file:
        qemu = subprocess.Popen(
            [QEMU, "-accel", "tcg", "-cpu", "max", "-m", "1G", "-nodefaults", "-no-reboot",
             "-display", "none", "-serial", "stdio", "-serial", f"unix:{serial},server=on,wait=off",
             "-kernel", debian.kernel, "-initrd", host_initrd,
             "-append", "console=ttyS0 quiet panic=-1 mitigations=off"],
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
    assert said.count("guest: end") == 2, said
    assert said.count("host: sill ended with status 0, disk has hello") == 2, said
    assert re.findall(r"^\$\d = (.*)$", debugged, re.MULTILINE) == ["1", "3", "2"], debugged
    assert re.search(r"=> 0x\w+ <again\+3>:\s*mov +%eax,", debugged), debugged
    assert "host: debugged guest ended with status 9" in said, said + debugged
