"""A complete Debian 12 with systemd on a disk, through GRUB, from BIOS and from UEFI."""

import pytest

from conftest import log_in, run_in

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


@pytest.mark.parametrize("kind", ["debian-bios", "debian-uefi"])
def test_devices_are_plugged_in_and_pulled_out(start, copy, tmp_path, kind):
    """In slots that the firmware has found and kept room for."""
    disk = tmp_path / "hot.img"
    disk.write_bytes(b"found".ljust(8 << 20, b"\0"))
    machine = start("--disk", copy(kind), "--pci-slots", "3", "--cpus", "2")
    log_in(machine)
    run_in(machine, "dmesg -n 1")
    wait = "until {}; do sleep 0.5; done".format

    assert machine.ctl("device_add", "disk", disk) == "device: disk1\n"
    run_in(machine, wait("[ -b /dev/vdb ]"))
    assert run_in(machine, "head -c 5 /dev/vdb; echo") == ["found"]
    for _ in range(2):
        assert machine.ctl("device_add", "net", "user,model=e1000e", "nic") == "device: nic\n"
        run_in(machine, wait("ip -4 route show default | grep -q 10.0.2.2"))
        # Pulled out without a word, and put in again.
        assert machine.ctl("device_del", "nic", "force") == ""
        run_in(machine, wait("[ ! -d /sys/bus/pci/drivers/e1000e/0000* ]"))
    assert machine.ctl("device_del", "disk1") == ""
    run_in(machine, wait("[ ! -b /dev/vdb ]"))
    machine.sendline("poweroff")
    assert machine.ends() == 0
