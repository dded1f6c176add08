"""What the tests of real systems share: images, machines with a serial terminal and a control socket.

SILL names the command (default: build/sill), IMAGES the folder that keeps what images.py makes.
"""

import subprocess
import sys

import pexpect
import pytest

import images

sys.path.append(str(images.ROOT / "tests/integration"))  # kvm_host, rfb, sectors, terminal

from terminal import Terminal

TIMEOUT = 600  # seconds; on an idle host nothing here waits a tenth of it


class Machine(Terminal):
    """A run of Sill: its serial port is this terminal, its screen and keys are on the control socket."""

    def __init__(self, control, *args):
        self.control = control
        super().__init__(images.SILL, ["run", "--engine", "dbt", "--quiet", "--control",
                                       f"socket:{control}", *map(str, args)],
                         timeout=TIMEOUT, encoding="utf-8", codec_errors="replace",
                         dimensions=(24, 80))

    def __str__(self):
        """What pexpect shows of it when a wait fails."""
        return f"its last output: {(self.before or '')[-1500:]!r}"

    def ctl(self, *command):
        """What `sill ctl` prints for a command, of its complaint too."""
        return subprocess.run([images.SILL, "ctl", str(self.control), *map(str, command)], text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
                              timeout=TIMEOUT).stdout

    def ends(self):
        """The exit status, once the machine has ended."""
        self.expect(pexpect.EOF)
        self.wait()
        return self.exitstatus


PROMPT = "root@debian:~# "  # of the complete Debian disks


def log_in(machine):
    """Waits for the prompt of a complete Debian and logs in as root."""
    machine.expect_exact("debian login: ")
    machine.sendline("root")
    machine.expect_exact("Password: ")
    machine.sendline(images.PASSWORD)
    machine.expect_exact(PROMPT)
    # No escape sequences around what is typed.
    run_in(machine, "bind 'set enable-bracketed-paste off'")


def run_in(machine, command):
    """Types a command and returns the lines that it prints."""
    machine.sendline(command)
    machine.expect_exact(PROMPT)
    return [line for line in machine.before.splitlines()[1:] if "\x1b" not in line and line]


@pytest.fixture
def image():
    """A function from an image's name to its path; the test is skipped where it cannot be made."""

    def find(name):
        try:
            return images.make(images.FOLDER, name)
        except RuntimeError as why:
            return pytest.skip(str(why))

    return find


@pytest.fixture
def copy(image, tmp_path):
    """A function from an image's name to a copy of it that the test may change."""

    def make(name):
        path = tmp_path / image(name).name
        subprocess.run(["cp", "--sparse=always", image(name), path], check=True)
        return path

    return make


@pytest.fixture
def start(tmp_path):
    """A function that starts a machine with 1 GiB; it ends with the test."""
    machines = []

    def run(*args, memory="1G"):
        machine = Machine(tmp_path / f"control{len(machines)}", "--memory", memory, *args)
        machines.append(machine)
        return machine

    yield run
    for machine in machines:
        machine.close(force=True)
