#!/usr/bin/python3
"""Disks and discs with real systems for the tests in this folder and for `make bench-guests`.

    images.py FOLDER [NAME...]      makes the named images, or all

Each is made once and kept in FOLDER; users work on copies. A complete Debian comes from mmdebstrap as
root; its boot loader is installed by grub-install inside a virtual machine of Sill's that boots the
disk's own kernel directly, so no loop device is needed.
"""

import contextlib
import functools
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
FOLDER = pathlib.Path(os.environ.get("IMAGES", ROOT / "build/images"))
SILL = os.environ.get("SILL", str(ROOT / "build/sill"))

PACKAGES = ["linux-image-amd64", "systemd-sysv", "dbus", "udev", "kmod", "iproute2", "netbase",
            "less", "grub-pc-bin", "grub-efi-amd64-bin", "grub2-common"]
PASSWORD = "sill"  # root's

MIB = 1 << 20
SECTOR = 512
BOOT_MIB = 64  # the partition before the root file system: GRUB's own, or the EFI system partition
ROOT_MIB = 2000
LIMIT = 1200  # seconds that making a boot loader may take on a slow host

# How a disk boots: the type of its first partition, and what grub-install is told.
LAYOUTS = {
    "bios": ("21686148-6449-6E6F-744E-656564454649", "--target=i386-pc /dev/vda"),
    "uefi": ("C12A7328-F81F-11D2-BA4B-00A0C93EC93B",
             "--target=x86_64-efi --efi-directory=/boot/efi --removable --no-nvram"),
}
LINUX_PARTITION = "0FC63DAF-8483-4772-8E79-3D69D8477DE4"

# Process 1 of the machine that installs the boot loader.
INSTALLER = """\
#!/bin/sh
mount -t proc proc /proc
mount -t sysfs sys /sys
mountpoint -q /dev || mount -t devtmpfs dev /dev
mount -o remount,rw /
[ ! -e /etc/fstab.efi ] || { modprobe vfat; mkdir -p /boot/efi; mount -t vfat /dev/vda1 /boot/efi; }
grub-install ARGUMENTS && update-grub && rm /sbin/install-boot-loader && echo "boot loader installed"
sync
umount /boot/efi 2>/dev/null
mount -o remount,ro /
echo o >/proc/sysrq-trigger
sleep 60
"""


def run(*command, **kwargs):
    """Runs a command to its success, and returns what it prints, as bytes. `input` is its input."""
    done = subprocess.run([str(word) for word in command], input=kwargs.pop("input", b""),
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, **kwargs)
    if done.returncode:
        raise RuntimeError(f"{command[0]} fails with status {done.returncode}:\n"
                           f"{done.stdout.decode(errors='replace')[-3000:]}")
    return done.stdout


@contextlib.contextmanager
def finished(path):
    """A place to build a file that takes its name only when it is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(path.name + ".new")
    if new.is_dir():
        shutil.rmtree(new)
    new.unlink(missing_ok=True)
    yield new
    new.rename(path)


def debian_root(folder):
    """The files of a complete Debian, without a boot loader, as an archive."""
    archive = folder / "debian.tar"
    if not archive.exists():
        with finished(archive) as new:
            run("mmdebstrap", "--quiet", "--variant=important", f"--include={','.join(PACKAGES)}",
                "--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/man/*",
                "--dpkgopt=path-exclude=/usr/share/locale/*", "--format=tar", "bookworm", new)
    return archive


def configure(root, firmware):
    """Makes the unpacked file system one that boots from the disk `debian_disk` lays out."""
    fstab = "LABEL=root / ext4 defaults 0 1\n"
    if firmware == "uefi":
        fstab += "/dev/disk/by-partlabel/boot /boot/efi vfat defaults,nofail 0 0\n"
        (root / "etc/fstab.efi").touch()
    (root / "etc/fstab").write_text(fstab)
    (root / "etc/hostname").write_text("debian\n")
    (root / "etc/hosts").write_text("127.0.0.1 localhost debian\n")
    (root / "etc/resolv.conf").unlink(missing_ok=True)
    (root / "etc/default/grub").write_text(
        'GRUB_TIMEOUT=1\nGRUB_TERMINAL="console serial"\nGRUB_DISABLE_OS_PROBER=true\n'
        'GRUB_CMDLINE_LINUX_DEFAULT=""\nGRUB_CMDLINE_LINUX="nomodeset console=tty0 console=ttyS0"\n')
    (root / "etc/systemd/network/wired.network").write_text(
        "[Match]\nName=e*\n[Network]\nDHCP=ipv4\n")
    run("systemctl", "--root", root, "enable", "systemd-networkd")
    installer = root / "sbin/install-boot-loader"
    installer.write_text(INSTALLER.replace("ARGUMENTS", LAYOUTS[firmware][1]))
    installer.chmod(0o755)
    run("chpasswd", "--root", root, input=f"root:{PASSWORD}\n".encode())


def debian_disk(folder, firmware):
    """A complete Debian 12 with systemd on a disk that boots through the given firmware."""
    disk = folder / f"debian-{firmware}.img"
    if disk.exists():
        return disk
    archive = debian_root(folder)
    with finished(disk) as new, tempfile.TemporaryDirectory(dir=folder) as stage:
        root = pathlib.Path(stage) / "root"
        root.mkdir()
        run("tar", "-C", root, "--numeric-owner", "-xpf", archive)
        configure(root, firmware)
        part = pathlib.Path(stage) / "part"
        run("mke2fs", "-q", "-t", "ext4", "-L", "root", "-d", root, part, f"{ROOT_MIB}M")
        boot = pathlib.Path(stage) / "boot"
        with boot.open("wb") as file:
            file.truncate(BOOT_MIB * MIB)
        if firmware == "uefi":
            run("mkfs.vfat", "-F", "32", boot)
        kernel, initrd = (shutil.copy(next((root / "boot").glob(name)), stage)
                          for name in ("vmlinuz-*", "initrd.img-*"))
        with new.open("wb") as file:
            file.truncate((BOOT_MIB + ROOT_MIB + 2) * MIB)
        run("sfdisk", "-q", new, input=(
            f"label: gpt\n"
            f"start=2048, size={BOOT_MIB * MIB // SECTOR}, type={LAYOUTS[firmware][0]}, name=boot\n"
            f"size={ROOT_MIB * MIB // SECTOR}, type={LINUX_PARTITION}, name=root\n").encode())
        for offset, image in ((1, boot), (1 + BOOT_MIB, part)):
            run("dd", f"if={image}", f"of={new}", "bs=1M", f"seek={offset}", "conv=notrunc,sparse")
        output = run(SILL, "run", "--engine", "dbt", "--memory", "1G", "--disk", new, "--kernel",
                     kernel, "--initrd", initrd, "--append",
                     "root=LABEL=root rw console=ttyS0 quiet init=/sbin/install-boot-loader",
                     timeout=LIMIT)
        if b"boot loader installed" not in output:
            raise RuntimeError(f"no boot loader for {firmware}:\n"
                               f"{output.decode(errors='replace')[-3000:]}")
    return disk


# UEFI firmware has the serial port among its consoles already.
GRUB_HEAD = """\
if [ $grub_platform = pc ]; then
    serial --unit=0 --speed=115200
    terminal_input serial console
    terminal_output serial console
fi
"""


def grub_disc(folder, name, commands, **files):
    """An ISO image that GRUB boots from BIOS and from UEFI, with `commands` as its configuration and
    `files` (name in the ISO's root to path) on it."""
    disc = folder / f"{name}.iso"
    if disc.exists():
        return disc
    with finished(disc) as new, tempfile.TemporaryDirectory(dir=folder) as stage:
        tree = pathlib.Path(stage)
        (tree / "boot/grub").mkdir(parents=True)
        (tree / "boot/grub/grub.cfg").write_text(GRUB_HEAD + commands)
        for file, path in files.items():
            shutil.copy(path, tree / file)
        run("grub-mkrescue", "-o", new, tree)
    return disc


def package(folder, name, *patterns):
    """The unpacked files of a Debian package that match the patterns."""
    run(ROOT / "tools/debian-package", folder / name, name, *patterns)
    return folder / name / "package"


def debian_kernel(folder, name="linux-image-amd64"):
    """A kernel of Debian's, by default the one for all kinds of hardware; its modules are beside it."""
    run(ROOT / "tools/debian-kernel", folder / name, name)
    return folder / name / "vmlinuz"


def grub(folder):
    """GRUB, which shows its prompt."""
    return grub_disc(folder, "grub", "echo GRUB is here\n")


GRUB_BOOT_SECTOR = pathlib.Path("/usr/lib/grub/i386-pc/boot.img")
GRUB_MODULES = ["biosdisk", "echo", "halt", "ls", "minicmd", "normal", "serial", "terminal"]


def grub_floppy(folder):
    """GRUB on a floppy disk of 1440 KiB without a file system: the boot sector, and what it loads."""
    floppy = folder / "grub-floppy.img"
    if floppy.exists():
        return floppy
    with finished(floppy) as new, tempfile.TemporaryDirectory(dir=folder) as stage:
        config, core = pathlib.Path(stage) / "grub.cfg", pathlib.Path(stage) / "core.img"
        config.write_text("serial --unit=0 --speed=115200\nterminal_input serial\n"
                          "terminal_output serial\nnormal\n")
        run("grub-mkimage", "-O", "i386-pc", "-c", config, "-p", "/", "-o", core, *GRUB_MODULES)
        data = GRUB_BOOT_SECTOR.read_bytes() + core.read_bytes()
        new.write_bytes(data.ljust(1440 << 10, b"\0"))
    return floppy


def memory_test(folder):
    """memtest86+ on the first 64 MiB that it finds."""
    boot = package(folder, "memtest86+", "./boot/*.bin") / "boot"
    return grub_disc(folder, "memtest", "linux /memtest console=ttyS0,115200\nboot\n",
                     memtest=boot / "memtest86+x64.bin")


INSTALLER_IMAGES = "usr/lib/debian-installer/images/12/amd64/text/debian-installer/amd64"


def installer(folder, name="installer", console="nomodeset fb=false"):
    """Debian's installer, on the VGA text screen."""
    images = package(folder, "debian-installer-12-netboot-amd64", f"./{INSTALLER_IMAGES}/linux",
                     f"./{INSTALLER_IMAGES}/initrd.gz") / INSTALLER_IMAGES
    return grub_disc(folder, name, f"linux /linux quiet {console}\ninitrd /initrd.gz\nboot\n",
                     **{"linux": images / "linux", "initrd.gz": images / "initrd.gz"})


def debian_i386(folder):
    """A 32-bit Debian kernel with a shell of busybox on its serial port."""
    kernel = folder / "linux-image-686-pae"
    run(ROOT / "tools/debian-kernel", kernel, "linux-image-686-pae:i386")
    busybox = package(folder, "busybox-static:i386", "./bin/busybox") / "bin/busybox"
    initrd = folder / "initrd-i386.img"
    run(ROOT / "tools/debian-initrd", kernel, initrd, busybox)
    return grub_disc(folder, "debian-i386", "linux /linux console=ttyS0 quiet\ninitrd /initrd\nboot\n",
                     linux=kernel / "vmlinuz", initrd=initrd)


def xen(folder):
    """The Xen hypervisor, with Debian's kernel and a shell of busybox as its first domain."""
    boot = package(folder, "xen-hypervisor-4.17-amd64", "./boot/xen-4.17-amd64.gz") / "boot"
    kernel = debian_kernel(folder)
    initrd = folder / "initrd-amd64.img"
    run(ROOT / "tools/debian-initrd", kernel.parent, initrd)
    return grub_disc(folder, "xen", "multiboot2 /xen.gz dom0_mem=512M console=com1 com1=115200\n"
                     "module2 /linux console=hvc0 quiet\nmodule2 /initrd\nboot\n",
                     **{"xen.gz": boot / "xen-4.17-amd64.gz", "linux": kernel, "initrd": initrd})


MAKERS = {
    "debian-bios": functools.partial(debian_disk, firmware="bios"),
    "debian-i386": debian_i386,
    "debian-uefi": functools.partial(debian_disk, firmware="uefi"),
    "grub": grub,
    "grub-floppy": grub_floppy,
    "installer": installer,
    "installer-serial": functools.partial(installer, name="installer-serial",
                                          console="console=ttyS0"),
    "memtest": memory_test,
    "xen": xen,
}


def make(folder, name):
    """The path of the image NAME in FOLDER, made if it is not there. RuntimeError says why not."""
    folder.mkdir(parents=True, exist_ok=True)
    return MAKERS[name](folder)


if __name__ == "__main__":
    for wanted in sys.argv[2:] or MAKERS:
        print(make(pathlib.Path(sys.argv[1]), wanted))
