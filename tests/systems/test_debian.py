"""A complete Debian 12 with systemd on a disk, through GRUB, from BIOS and from UEFI."""

import pytest

from images import PASSWORD

PROMPT = "root@debian:~# "


def log_in(machine):
    machine.expect_exact("debian login: ")
    machine.sendline("root")
    machine.expect_exact("Password: ")
    machine.sendline(PASSWORD)
    machine.expect_exact(PROMPT)
    # No escape sequences around what is typed.
    run_in(machine, "bind 'set enable-bracketed-paste off'")


def run_in(machine, command):
    """Types a command and returns the lines that it prints."""
    machine.sendline(command)
    machine.expect_exact(PROMPT)
    return [line for line in machine.before.splitlines()[1:] if "\x1b" not in line and line]


DISKS = {
    "bios-virtio": ("debian-bios", "if=virtio", "virtio"),
    "uefi-virtio": ("debian-uefi", "if=virtio", "virtio"),
    "bios-ahci-e1000e": ("debian-bios", "if=ahci", "e1000e"),
}


@pytest.mark.parametrize("name", DISKS)
def test_debian_keeps_what_is_written_over_a_power_down(start, copy, name):
    kind, interface, card = DISKS[name]
    arguments = ("--disk", f"{copy(kind)},{interface}", "--net", f"user,model={card}", "--cpus", "2")

    machine = start(*arguments)
    log_in(machine)
    assert run_in(machine, "echo kept >~/kept; systemctl is-system-running --wait") == ["running"]
    assert run_in(machine, "test -d /sys/firmware/efi; echo $?") == ["01"["bios" in kind]]
    assert run_in(machine, "/lib/systemd/systemd-networkd-wait-online; echo $?") == ["0"]
    assert run_in(machine, "ip -4 route show default | cut -d ' ' -f 3") == ["10.0.2.2"]
    # UEFI leaves a picture, on which the kernel writes.
    assert kind == "debian-uefi" or "debian login:" in machine.ctl("screen-text")
    machine.ctl("powerdown")
    assert machine.ends() == 0

    machine = start(*arguments)
    log_in(machine)
    assert run_in(machine, "cat ~/kept") == ["kept"]
    machine.sendline("poweroff")
    assert machine.ends() == 0
