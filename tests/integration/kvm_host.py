"""A computer with a real KVM, wherever the tests run: QEMU's emulated AMD processor has SVM. No
virtualization of this computer is used, so what such a test shows means the same everywhere.

    this computer: qemu -accel tcg
        host:  a kernel of Debian's with kvm-amd, busybox and Sill from a RAM disk
            guests: what the host's commands start with `sill run --engine kvm`
"""

import pathlib
import re
import shutil
import subprocess

QEMU = "qemu-system-x86_64"

# In this order, below the kernel's modules.
MODULES = ["drivers/virtio/virtio_ring.ko", "drivers/virtio/virtio.ko",
           "drivers/virtio/virtio_pci_legacy_dev.ko", "drivers/virtio/virtio_pci_modern_dev.ko",
           "drivers/virtio/virtio_pci.ko", "drivers/block/virtio_blk.ko",
           "virt/lib/irqbypass.ko", "arch/x86/kvm/kvm.ko", "arch/x86/kvm/kvm-amd.ko"]

INIT = """\
#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t devtmpfs dev /dev
exec </dev/console >/dev/console 2>&1
mount -t proc proc /proc
mount -t tmpfs tmp /tmp
for module in {modules}; do
    insmod "/modules/$module"
done
ifconfig lo up
{commands}
poweroff -f
"""


def libraries(program):
    """The shared libraries of a program and its loader."""
    listing = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    return [pathlib.Path(path) for path in re.findall(r"(/\S+) \(0x", listing)]


def ramdisk(stage, sill, modules, commands, files):
    """The host's RAM disk, uncompressed. Its process 1 runs `commands` with the command `sill` and
    busybox; `modules` is the kernel's folder of them, `files` has places in the host with their
    sources. The empty folder `stage` is filled."""
    def put(source, target):
        path = stage / str(target).lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, path)  # follows links

    for folder in ("dev", "proc", "tmp"):
        (stage / folder).mkdir(parents=True)
    put("/bin/busybox", "bin/busybox")
    put(sill, "bin/sill")
    for library in libraries(sill):
        put(library, library)
    for module in MODULES:
        put(modules / "kernel" / module, f"modules/{pathlib.Path(module).name}")
    for target, source in files.items():
        put(source, target)
    init = stage / "init"
    init.write_text(INIT.format(modules=" ".join(pathlib.Path(module).name for module in MODULES),
                                commands=commands))
    init.chmod(0o755)
    names = "\n".join(str(path.relative_to(stage)) for path in sorted(stage.rglob("*")))
    return subprocess.run(["cpio", "--quiet", "-o", "-H", "newc", "--owner=0:0"], cwd=stage,
                          input=names.encode(), stdout=subprocess.PIPE, check=True).stdout


def qemu(kernel, initrd, memory, serial, *options):
    """The command line that starts the host. Its console is the command's standard input and output;
    its second serial port is `serial`, as QEMU's option -serial has it."""
    return [QEMU, "-accel", "tcg", "-cpu", "max", "-m", memory, "-nodefaults", "-no-reboot",
            "-display", "none", "-serial", "stdio", "-serial", serial,
            "-kernel", str(kernel), "-initrd", str(initrd),
            "-append", "console=ttyS0 quiet panic=-1 mitigations=off", *options]
