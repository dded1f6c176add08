"""Real systems on the KVM engine, with a real KVM inside QEMU (kvm_host.py): from firmware to their
prompts. Everything is some twenty times slower there than on hardware."""

import shutil
import socket

import pexpect
import pytest

import images
import kvm_host
import sectors
from conftest import TIMEOUT, Machine, log_in, run_in

FIRMWARE = ["/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd",
            "/usr/share/seabios/bios-256k.bin", "/usr/share/seabios/vgabios-stdvga.bin"]

# The guest has the host's console; commands from the host's second serial port run beside it.
COMMANDS = """\
stty -F /dev/ttyS1 raw -echo
while read -r line; do eval "$line"; done </dev/ttyS1 >/dev/ttyS1 2>&1 &
sill run --engine kvm --memory 1G --control socket:/tmp/control {arguments}
echo "host: sill ended with status $?"
"""


class NestedMachine(Machine):
    """A machine inside the host that QEMU is; its only drive is the image given, which stays as it is."""

    def __init__(self, folder, image, *args):
        kernel = images.debian_kernel(images.FOLDER, "linux-image-cloud-amd64")
        initrd = folder / "host.img"
        initrd.write_bytes(kvm_host.ramdisk(
            folder / "host", images.SILL, kernel.parent / "modules",
            COMMANDS.format(arguments=" ".join(args)), {path: path for path in FIRMWARE}))
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(folder / "shell"))
            listener.listen()
            listener.settimeout(TIMEOUT)
            command = kvm_host.qemu(kernel, initrd, "2G", f"unix:{folder / 'shell'}", "-smp", "2", "-drive",
                                    f"if=virtio,format=raw,snapshot=on,file={image}")
            pexpect.spawn.__init__(self, command[0], command[1:], timeout=TIMEOUT, encoding="utf-8",
                                   codec_errors="replace", dimensions=(24, 80))
            self.shell = listener.accept()[0]
        self.shell.settimeout(TIMEOUT)

    def ctl(self, *command):
        end = "end of answer"
        self.shell.sendall(f"sill ctl /tmp/control {' '.join(command)} 2>&1; echo {end}\n".encode())
        answer = ""
        while end not in answer:
            said = self.shell.recv(4096)
            assert said, self
            answer += said.decode(errors="replace")
        return answer.partition(end)[0]

    def ends(self):
        self.expect(r"host: sill ended with status (\d+)")
        return int(self.match[1])


@pytest.fixture
def nest(tmp_path):
    """A function that starts a machine with an image in the host's /dev/vda; it ends with the test."""
    if not shutil.which(kvm_host.QEMU):
        pytest.skip(f"{kvm_host.QEMU} is not installed")
    machines = []

    def run(image, *args):
        machines.append(NestedMachine(tmp_path, image, *args))
        return machines[-1]

    yield run
    for machine in machines:
        machine.close(force=True)
        machine.shell.close()


@pytest.mark.parametrize("name, value", [("resets", 5), ("rom", 1), ("shadow", 1)])
def test_boot_sector(nest, tmp_path, name, value):
    """Resets of each kind, a triple fault in real mode among them; ROM; memory slots that come and go."""
    machine = nest(sectors.build(tmp_path, name), "--disk /dev/vda", "--device debug-exit")
    assert machine.ends() == value << 1 | 1


def test_grub_reaches_its_prompt(nest, image):
    machine = nest(image("grub"), "--firmware bios", "--cdrom /dev/vda")
    machine.expect_exact("GRUB is here")
    machine.expect_exact("grub> ")
    machine.sendline("echo $grub_platform")
    machine.expect_exact("pc\r")
    machine.sendline("halt")
    assert machine.ends() == 0


def test_complete_debian(nest, image):
    machine = nest(image("debian-bios"), "--disk /dev/vda", "--net user", "--cpus 2")
    log_in(machine)
    assert run_in(machine, "systemctl is-system-running --wait") == ["running"]
    assert run_in(machine, "systemd-detect-virt; nproc") == ["kvm", "2"]
    assert run_in(machine, "ip -4 route show default | cut -d ' ' -f 3") == ["10.0.2.2"]
    assert "debian login:" in machine.ctl("screen-text")
    machine.ctl("powerdown")
    assert machine.ends() == 0
