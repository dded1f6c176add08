"""The screen by VNC, for a small client of the tests' own and for a real one."""

import socket
import time

import pytest
from PIL import Image

import rfb
from conftest import ENGINES, PROMPT, TIMEOUT, run_in, sill, spawn

pytestmark = pytest.mark.skipif(ENGINES.get("dbt") is not None, reason=f"{ENGINES.get('dbt')}")


class Screen:
    """A machine whose firmware finds nothing to boot, so that its screen stands still."""

    def __init__(self, folder, *args, display=""):
        self.number = rfb.free_display()
        self.control = folder / "control"
        self.child = spawn("run", "--engine", "dbt", "--quiet", "--firmware", "bios", "--memory",
                           "64M", "--console", "none", "--control", f"socket:{self.control}",
                           "--display", f"vnc=127.0.0.1:{self.number}{display}", *args)
        deadline = time.monotonic() + TIMEOUT
        while "No bootable device" not in sill("ctl", self.control, "screen-text").stdout:
            assert self.child.isalive() and time.monotonic() < deadline
            time.sleep(0.2)

    def client(self):
        return rfb.Client(5900 + self.number, TIMEOUT)

    def screenshot(self, path):
        assert sill("ctl", self.control, "screenshot", path).returncode == 0
        return Image.open(path).convert("RGB")


@pytest.fixture
def screen(tmp_path):
    screens = []

    def start(*args, **kwargs):
        screens.append(Screen(tmp_path, *args, **kwargs))
        return screens[-1]

    yield start
    for one in screens:
        one.child.close(force=True)


def test_picture_is_the_screenshot_s(screen, tmp_path):
    machine = screen("--name", "shown")
    client = machine.client()
    assert client.name == "shown"
    assert client.update(incremental=False) == 720 * 400
    shown = Image.frombytes("RGB", (client.width, client.height), bytes(client.picture), "raw",
                            "BGRX")
    taken = machine.screenshot(tmp_path / "screen.png")
    assert rfb.same_but_for_the_cursor(shown, taken)
    assert len(set(shown.getdata())) > 1


def test_a_real_client_shows_the_same(screen, tmp_path):
    machine = screen()
    shown = rfb.capture(machine.number, tmp_path / "client.png", TIMEOUT)
    assert rfb.same_but_for_the_cursor(shown, machine.screenshot(tmp_path / "screen.png"))


def test_only_what_changes_is_sent(screen):
    """Of a screen on which the cursor blinks at most."""
    machine = screen()
    client = machine.client()
    client.update(incremental=False)
    for _ in range(3):
        assert client.update() < 720 * 400 / 4


def test_password_is_asked_for(screen, tmp_path):
    password = tmp_path / "password"
    password.write_text("secret\n")
    machine = screen(display=f",password={password}")
    security = machine.client().security
    assert 1 not in security and security  # 1: none


@pytest.mark.parametrize("display, complaint", [
    ("vnc=127.0.0.1", "has no display number"),
    ("vnc=127.0.0.1:x", "has no display number"),
    ("vnc=127.0.0.1:70000", "has no display number"),
    ("vnc=localhost:1", "is no numeric address"),
    ("vnc=0.0.0.0:1", "add password=FILE"),
    ("vnc=127.0.0.1:1,pass=x", "use password=FILE"),
    ("vnc=127.0.0.1:60,password=/nonexistent", "cannot read the password file '/nonexistent'"),
    ("vnc=127.0.0.1:60,password=/dev/null", "has no password"),
    ("sdl", "there is no display 'sdl'"),
])
def test_wrong_displays_are_refused(display, complaint):
    done = sill("run", "--engine", "dbt", "--firmware", "bios", "--console", "none", "--display",
                display)
    assert done.returncode == 1
    assert complaint in done.stderr


def test_occupied_port_is_named():
    number = rfb.free_display()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 5900 + number))
        taken.listen()
        done = sill("run", "--engine", "dbt", "--firmware", "bios", "--console", "none",
                    "--display", f"vnc=127.0.0.1:{number}")
    assert done.returncode == 1
    assert f"127.0.0.1 port {5900 + number}" in done.stderr


def test_keys_of_a_client_that_left_are_let_go(debian):
    """The guest's keyboard no longer repeats the one that was down when the connection ended."""
    number = rfb.free_display()
    child = spawn("run", "--engine", "dbt", "--quiet", "--memory", "256M", "--display",
                  f"vnc=127.0.0.1:{number}", "--kernel", debian.kernel, "--initrd", debian.initrd,
                  "--append", "console=ttyS0 quiet")
    child.expect(PROMPT)

    def interrupts():
        return int(run_in(child, "grep i8042 /proc/interrupts | head -n 1")[0].split()[1])

    def repeats():
        before = interrupts()
        time.sleep(1)
        return interrupts() > before

    client = rfb.Client(5900 + number, TIMEOUT)
    client.key(0xffe3, True)  # Control_L
    deadline = time.monotonic() + TIMEOUT
    while not repeats():
        assert time.monotonic() < deadline
    client.close()
    while repeats():
        assert time.monotonic() < deadline
    child.close(force=True)
