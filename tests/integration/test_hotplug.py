"""PCI Express hot-plug: devices come and go while Linux runs, with its own driver for slots (pciehp)."""

import json
import socket

import pytest

from conftest import ENGINES, PROMPT, TIMEOUT, run_in, sill, spawn

pytestmark = pytest.mark.skipif(ENGINES.get("dbt") is not None, reason=f"{ENGINES.get('dbt')}")

MARKER = b"found on the disk"
DISK_SIZE = 8 << 20


class Control:
    """A client of a run's control socket; it sees the events between answers."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(TIMEOUT)
        self.socket.connect(str(path))
        self.lines = self.socket.makefile()
        self.events = []

    def __call__(self, command, **arguments):
        self.socket.sendall(json.dumps({"command": command, **arguments}).encode() + b"\n")
        while "ok" not in (line := json.loads(self.lines.readline())):
            self.events.append(line)
        return line

    def add(self, kind, options=None, **arguments):
        if options:
            arguments["options"] = str(options)
        answer = self("device_add", kind=kind, **arguments)
        assert answer["ok"], answer
        return answer["device"]

    def wait_removed(self, device):
        event = {"event": "device_removed", "device": device}
        while event not in self.events:
            self.events.append(json.loads(self.lines.readline()))
        self.events.remove(event)

    def devices(self):
        return [slot["device"] for slot in self("slots")["slots"]]


@pytest.fixture
def disk(tmp_path):
    path = tmp_path / "hot.img"
    path.write_bytes(MARKER.ljust(DISK_SIZE, b"\0"))
    return path


@pytest.fixture
def linux(debian, tmp_path):
    """Linux with two vCPUs at its shell, and a client of its control socket."""
    path = tmp_path / "control"
    child = spawn("run", "--engine", "dbt", "--quiet", "--cpus", "2", "--memory", "256M",
                  "--pci-slots", "2", "--control", f"socket:{path}", "--kernel", debian.kernel,
                  "--initrd", debian.initrd, "--append", "console=ttyS0 quiet")
    child.expect(PROMPT)
    run_in(child, "dmesg -n 1")
    yield child, Control(path)
    child.close(force=True)


def wait_in(child, condition):
    run_in(child, f"until {condition}; do sleep 0.2; done")


def test_a_disk_and_a_card_come_and_go(linux, disk):
    child, control = linux
    assert control.devices() == [None, None]
    assert control.add("disk", disk) == "disk0"
    wait_in(child, "[ -b /dev/vda ]")
    assert run_in(child, f"head -c {len(MARKER)} /dev/vda; echo") == [MARKER.decode()]
    run_in(child, "echo kept | dd of=/dev/vda seek=9 conv=fsync 2>/dev/null")

    # While the VM stands still, too.
    assert control("pause")["ok"]
    assert control.add("net", "user", name="nic") == "nic"
    assert control("resume")["ok"]
    wait_in(child, "ip link set eth0 up 2>/dev/null")
    assert "lease of 10.0.2.15 obtained" in "".join(run_in(child, "udhcpc -q -n -i eth0 2>&1"))
    assert control.devices() == ["disk0", "nic"]

    for device in ("disk0", "nic"):
        assert control("device_del", device=device)["ok"]
    control.wait_removed("disk0")
    assert run_in(child, "ls /dev/vda 2>/dev/null") == []
    assert disk.read_bytes()[9 * 512:][:5] == b"kept\n"
    control.wait_removed("nic")
    assert run_in(child, "ip link show eth0 2>/dev/null") == []
    assert control.devices() == [None, None]


def test_what_is_in_a_slot_is_there_after_a_reset(linux, disk):
    child, control = linux
    control.add("rng")
    control.add("disk", disk)
    assert control("device_del", device="rng0", force=True)["ok"]
    control.wait_removed("rng0")
    assert control("reset")["ok"]
    child.expect(PROMPT)
    assert run_in(child, f"head -c {len(MARKER)} /dev/vda; echo") == [MARKER.decode()]
    assert control.devices() == [None, "disk0"]


def test_a_guest_switches_and_resets_what_is_in_a_slot(linux, disk):
    child, control = linux
    control.add("disk", disk)
    run_in(child, "slot=/sys/bus/pci/slots/1 pci=/sys/bus/pci/drivers/virtio-pci")
    wait_in(child, "[ -b /dev/vda ]")
    # Nobody has asked for the device, so without power it stays where it is.
    for power, there in ((0, []), (1, ["/dev/vda"]), (0, [])):
        run_in(child, f"echo {power} >$slot/power")
        assert run_in(child, "ls /dev/vda 2>/dev/null") == there
        assert control.devices() == ["disk0", None]
    # Asked for now, it need not be given back any more.
    assert control("device_del", device="disk0")["ok"]
    assert control.devices() == [None, None]

    control.add("rng", slot=2)
    run_in(child, "rng=0000:02:00.0")
    wait_in(child, "[ -e $pci/$rng ]")
    run_in(child, "echo 1 >$pci/$rng/reset")  # behind its driver's back
    run_in(child, "echo $rng >$pci/unbind; echo $rng >$pci/bind")
    assert run_in(child, "head -c 4 /dev/hwrng | wc -c") == ["4"]


def test_a_disk_goes_with_requests_in_flight(linux, disk):
    child, control = linux
    run_in(child, "r() { dd if=/dev/vda of=/dev/null bs=64k iflag=direct; }")
    reader = "while r; do :; done 2>/dev/null &"
    for force in (False, True):
        control.add("disk", disk)
        wait_in(child, "[ -b /dev/vda ]")
        run_in(child, reader)
        run_in(child, reader)
        assert control("device_del", device="disk0", force=force)["ok"]
        control.wait_removed("disk0")
        wait_in(child, "[ ! -e /dev/vda ]")
        assert run_in(child, "echo x$((41+1))") == ["x42"]


def test_nonsense_is_refused_with_a_sentence(guest, disk, tmp_path):
    path, empty = tmp_path / "control", tmp_path / "no slots"
    runs = [spawn("run", "--engine", "dbt", "--quiet", "--control", f"socket:{where}", "--kernel",
                  guest("halt"), *slots)
            for where, slots in ((path, ("--pci-slots", "2")), (empty, ()))]
    for run in runs:
        run.expect_exact("halted")
    control = Control(path)
    control.add("disk", disk, name="data")
    disk2 = tmp_path / "other.img"
    disk2.write_bytes(bytes(DISK_SIZE))
    for arguments, complaint in (
            ({"kind": "disk", "options": tmp_path / "none.img"}, "none.img"),
            ({"kind": "disk", "options": disk}, "in use"),
            ({"kind": "disk", "options": disk2, "name": "data"}, "there is a device data already"),
            ({"kind": "disk", "options": disk2, "name": "a b"}, "'a b' is no name"),
            ({"kind": "disk", "options": f"{disk2},if=ahci"}, "only virtio disks"),
            ({"kind": "disk"}, "disk needs 'options'"),
            ({"kind": "net", "options": "nowhere"}, "nowhere"),
            ({"kind": "rng", "options": "x"}, "rng takes no options"),
            ({"kind": "sound"}, "there is no kind 'sound'"),
            ({"kind": "rng", "slot": 1}, "PCI slot 1 is taken by data"),
            ({"kind": "rng", "slot": 3}, "there is no PCI slot 3: the VM has 2"),
            ({"kind": "rng", "slot": "x"}, "a slot is a number"),
            ({}, "needs the string 'kind'")):
        if "options" in arguments:
            arguments["options"] = str(arguments["options"])
        answer = control("device_add", **arguments)
        assert not answer["ok"] and complaint in answer["error"], answer
    control.add("rng")
    assert "all 2 PCI slots are taken" in control("device_add", kind="rng")["error"]
    assert "the option --pci-slots N" in Control(empty)("device_add", kind="rng")["error"]
    for device, complaint in (("nobody", "there are: data, rng0"), ("serial0", "is in no slot"),
                              (None, "needs the string 'device'")):
        assert complaint in control("device_del", device=device)["error"]

    # The same by the command line, where a path is relative to its own folder.
    assert sill("ctl", path, "device_del", "data", "force").returncode == 0
    done = sill("ctl", path, "device_add", "disk", disk.name, "again", cwd=tmp_path)
    assert done.stdout == "device: again\n"
    assert sill("ctl", path, "slots").stdout == "1: again\n2: rng0\n"
    done = sill("ctl", path, "device_del", "again", "gently")
    assert done.returncode == 1 and "it may be force" in done.stderr
    for run in runs:
        run.close(force=True)
