"""Networks: both cards under Linux's own drivers, against servers on this host's loopback; and
booting from the network, by iPXE in the cards' option ROMs."""

import dataclasses
import hashlib
import http.server
import os
import pathlib
import random
import socket
import subprocess
import threading

import pytest

from conftest import ROOT, SCRIPTED_APPEND, TIMEOUT, fetch, sill, spawn

GUESTS = ROOT / "build/guests"
INSTALLER = "usr/lib/debian-installer/images/12/amd64/text/debian-installer/amd64"
SIZE = 64 << 20  # of a download and an upload
IPXE = pathlib.Path("/usr/lib/ipxe/qemu")


class Server(http.server.BaseHTTPRequestHandler):
    """Gives the same bytes to everybody, and says the SHA-256 of what it is given."""

    data = random.Random(1).randbytes(SIZE)

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", str(SIZE))
        self.end_headers()
        self.wfile.write(self.data)

    def do_POST(self):
        digest = hashlib.sha256()
        left = int(self.headers["Content-Length"])
        while left and (piece := self.rfile.read(min(left, 1 << 20))):
            digest.update(piece)
            left -= len(piece)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(f"uploaded: {digest.hexdigest()}\n".encode())

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    """The port of a server on this host's loopback."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield running.server_port
        running.shutdown()
        thread.join()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@dataclasses.dataclass
class Card:
    """A model, a kernel with its driver, and how the guest loads that."""

    model: str
    kernel: pathlib.Path
    load: str
    module: bytes = b""  # the driver where the RAM disk does not have it: /tmp/driver.ko


@pytest.fixture
def virtio(debian):
    return Card("virtio", debian.kernel, "modprobe virtio_net")


@pytest.fixture
def e1000e():
    """The cloud kernel has no driver for hardware; the installer's RAM disk has, for its kernel."""
    folder = fetch("debian-package", GUESTS / "debian-installer",
                   "debian-installer-12-netboot-amd64", f"./{INSTALLER}/linux",
                   f"./{INSTALLER}/initrd.gz")
    images = folder / "package" / INSTALLER
    unpacked = subprocess.run(["gzip", "-dc", images / "initrd.gz"], stdout=subprocess.PIPE,
                              check=True).stdout
    module = subprocess.run(["cpio", "-i", "--quiet", "--to-stdout", "*/e1000e.ko"],
                            input=unpacked, stdout=subprocess.PIPE, check=True).stdout
    return Card("e1000e", images / "linux", "insmod /test/driver.ko", module)


COMMANDS = """\
{load}
ip link set eth0 up
udhcpc -q -i eth0 2>&1 | grep obtained
ping -c 1 -W 30 10.0.2.2 >/dev/null && echo "ping: answered"
tftp -g -r note -l /tmp/note 10.0.2.2 && cat /tmp/note
wget -q -O /tmp/data http://10.0.2.2:{port}/
echo "downloaded: $(sha256sum </tmp/data)"
(printf 'POST / HTTP/1.0\\r\\nContent-Length: {size}\\r\\n\\r\\n'; cat /tmp/data) |
    nc 10.0.2.2 {port} | grep uploaded
echo "hostfwd: ready"
echo "hello from the guest" | nc -l -p 7
"""


def ask_guest(port):
    """What the guest says to who connects; again until it listens."""
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT) as connection:
                if said := connection.recv(100):
                    return said.decode()
        except ConnectionResetError:
            pass


@pytest.mark.parametrize("model", ["virtio", "e1000e"])
def test_guest_and_host_reach_each_other(model, request, scripted, server, tmp_path):
    card = request.getfixturevalue(model)
    forwarded = free_port()
    (tmp_path / "tftp").mkdir()
    (tmp_path / "tftp/note").write_text("tftp: works\n")
    initrd = scripted(COMMANDS.format(load=card.load, port=server, size=SIZE),
                      files={"driver.ko": card.module})
    child = spawn("run", "--engine", "dbt", "--quiet", "--kernel", card.kernel, "--initrd", initrd,
                  "--append", SCRIPTED_APPEND, "--net",
                  f"user,model={card.model},hostfwd=tcp:127.0.0.1:{forwarded}-:7,"
                  f"tftp={tmp_path / 'tftp'}")
    try:
        digest = hashlib.sha256(Server.data).hexdigest()
        child.expect_exact("lease of 10.0.2.15 obtained from 10.0.2.2")
        child.expect_exact("ping: answered")
        child.expect_exact("tftp: works")
        child.expect_exact(f"downloaded: {digest}")
        child.expect_exact(f"uploaded: {digest}")
        child.expect_exact("hostfwd: ready")
        assert ask_guest(forwarded) == "hello from the guest\n"
        child.expect_exact("guest: end")
        child.wait()
        assert child.exitstatus == 0
    finally:
        child.close(force=True)


@pytest.mark.parametrize("firmware, model", [("bios", "virtio"), ("bios", "e1000e"),
                                             ("uefi", "virtio")])
def test_boot_from_the_network(firmware, model, debian, scripted, tmp_path):
    """iPXE gets an address, a script by TFTP, and by the script a kernel, which runs."""
    if not (IPXE / f"efi-{model}.rom").exists():
        pytest.skip("the package ipxe-qemu is not installed")
    folder = tmp_path / "tftp"
    folder.mkdir()
    os.symlink(debian.kernel.resolve(), folder / "vmlinuz")
    scripted("echo 'booted from the network'").rename(folder / "initrd")
    (folder / "boot.ipxe").write_text("#!ipxe\n"
                                      f"kernel vmlinuz initrd=initrd {SCRIPTED_APPEND}\n"
                                      "initrd initrd\n"
                                      "boot\n")
    done = sill("run", "--engine", "dbt", "--quiet", "--firmware", firmware, "--boot", "order=net",
                "--net", f"user,model={model},tftp={folder},bootfile=boot.ipxe")
    assert "booted from the network" in done.stdout
    assert done.returncode == 0


def test_port_in_use_is_said_before_the_guest_starts(debian):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = sill("run", "--engine", "dbt", "--quiet", "--kernel", debian.kernel, "--net",
                    f"user,hostfwd=tcp:127.0.0.1:{port}-:80")
    assert done.returncode == 1
    assert f"TCP port {port} of 127.0.0.1" in done.stderr
    assert not done.stdout
