"""What the integration tests share: the command under test, engines, guests, Debian's kernel.

SILL names the command (default: build/sill). A test that takes the fixture `engine` runs on every
engine that works on this host.
"""

import dataclasses
import os
import pathlib
import re
import shutil
import subprocess
import textwrap

import pytest

import guests
from terminal import Terminal

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
SILL = os.environ.get("SILL", str(ROOT / "build/sill"))
TIMEOUT = 120  # seconds; on an idle host no run of these tests takes a tenth of it


def sill(*args, timeout=TIMEOUT, **kwargs):
    """Runs the command to its end. Standard input is empty unless given."""
    if "input" not in kwargs:
        kwargs.setdefault("stdin", subprocess.DEVNULL)
    return subprocess.run([SILL, *map(str, args)], capture_output=True, text=True, errors="replace",
                          timeout=timeout, check=False, **kwargs)


class Run(Terminal):
    """A run on a terminal of its own. When a wait for its output fails, pexpect shows it as below."""

    def __str__(self):
        threads = []
        for task in sorted(pathlib.Path(f"/proc/{self.pid}/task").glob("*")):
            name, _, rest = (task / "stat").read_text().partition(" (")[2].rpartition(") ")
            state, ticks = rest.split()[0], sum(map(int, rest.split()[11:13]))
            threads.append(f"{name} {state} {ticks / os.sysconf('SC_CLK_TCK'):.1f} s")
        return (f"threads, their state and CPU time: {', '.join(threads) or 'ended'}\n"
                f"its last output: {(self.before or '')[-600:]!r}")


def spawn(*args, timeout=TIMEOUT):
    """Starts the command on a terminal of its own. Kill it with `close(force=True)`."""
    return Run(SILL, [str(arg) for arg in args], timeout=timeout, encoding="utf-8",
               codec_errors="replace", dimensions=(24, 80))


def ctl(path, *command):
    """What `sill ctl` prints for a command that must succeed."""
    done = sill("ctl", path, *command)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _engine_reasons():
    """Engine name to None where it works, else to the reason why not."""
    reasons = {}
    for line in sill("engines").stdout.splitlines():
        match = re.match(r"(kvm|dbt)\s+(yes|no)\s+(\S+)\s+(.*)", line)
        if match:
            name, usable, _, reason = match.groups()
            reasons[name] = None if usable == "yes" else reason
    return reasons


ENGINES = _engine_reasons()


@pytest.fixture(params=["dbt", "kvm"])
def engine(request):
    reason = ENGINES.get(request.param, "'sill engines' does not list it")
    if reason:
        pytest.skip(f"engine {request.param}: {reason}")
    return request.param


@pytest.fixture
def start(tmp_path):
    """A function that starts a VM of 256 MiB on the software engine, and returns it and the path of
    its control socket."""
    children = []

    def run(*args):
        path = tmp_path / "control"
        child = spawn("run", "--engine", "dbt", "--quiet", "--memory", "256M", "--control",
                      f"socket:{path}", *args)
        children.append(child)
        return child, path

    yield run
    for child in children:
        child.close(force=True)


@pytest.fixture(scope="session")
def guest(tmp_path_factory):
    """A function from the name of a tiny guest to the path of its kernel."""
    folder = tmp_path_factory.mktemp("guests")
    return lambda name: guests.build(folder, name)


# ---- Linux ----


PROMPT = r"root@sill:\S+# "  # of the shell in the demonstration guest


def run_in(child, command):
    """Types a command and returns what it prints."""
    child.sendline(command)
    child.expect_exact(command)
    child.expect(PROMPT)
    return child.before.strip().splitlines()


def power_off(child):
    child.sendline("poweroff")
    child.expect_exact("Power down")
    child.wait()
    return child.exitstatus


@dataclasses.dataclass
class Debian:
    """A kernel of Debian's, by default its cloud kernel, and the initial RAM disk of `make run`."""

    kernel: pathlib.Path
    modules: pathlib.Path
    initrd: pathlib.Path


def fetch(tool, folder, *args):
    """Has one of the tools that know Debian's archive fill a folder; the test is skipped where it
    cannot."""
    done = subprocess.run([ROOT / "tools" / tool, folder, *args], capture_output=True, text=True,
                          check=False)
    if done.returncode:
        pytest.skip(f"{tool} {folder.name}: {(done.stderr or done.stdout).strip()}")
    return folder


@pytest.fixture(scope="session")
def debian(tmp_path_factory):
    folder = fetch("debian-kernel", ROOT / "build/guest")
    initrd = tmp_path_factory.mktemp("debian") / "initrd.img"
    subprocess.run([ROOT / "tools/debian-initrd", folder, initrd], check=True)
    return Debian(folder / "vmlinuz", folder / "modules", initrd)


@pytest.fixture(scope="session")
def kernel(tmp_path_factory):
    """The kernel that Debian's installer installs on a PC, which has the drivers, and its RAM disk."""
    folder = fetch("debian-kernel", ROOT / "build/guests/linux-image-amd64", "linux-image-amd64")
    initrd = tmp_path_factory.mktemp("kernel") / "initrd.img"
    subprocess.run([ROOT / "tools/debian-initrd", folder, initrd], check=True)
    return folder / "vmlinuz", initrd


INIT = """\
#!/bin/sh
mount -t devtmpfs dev /dev
exec <>/dev/console >&0 2>&1
mount -t proc proc /proc
mount -t sysfs sys /sys
modprobe -a virtio_pci virtio_blk virtio_console virtio-rng button
echo "guest: start"
. /test/commands
echo "guest: end"
poweroff -f
"""


@pytest.fixture
def scripted(debian, tmp_path):
    """A function that makes a RAM disk whose guest runs `commands` in a shell as process 1, says
    "guest: start" before and "guest: end" after them and powers off. Boot with SCRIPTED_APPEND.
    Further `modules` of the kernel, and `files` with their contents, are put into /test."""

    def make(commands, modules=(), files=None):
        stage = tmp_path / "stage/test"
        stage.mkdir(parents=True, exist_ok=True)
        (stage / "commands").write_text(textwrap.dedent(commands))
        (stage / "init").write_text(INIT)
        (stage / "init").chmod(0o755)
        for module in modules:
            shutil.copy(debian.modules / "kernel" / module, stage)
        for name, content in (files or {}).items():
            (stage / name).write_bytes(content)
        names = ["test"] + [f"test/{path.name}" for path in stage.iterdir()]
        extra = subprocess.run(["cpio", "--quiet", "-o", "-H", "newc", "--owner=0:0"],
                               input="\n".join(names).encode(), cwd=stage.parent,
                               stdout=subprocess.PIPE, check=True).stdout
        # The kernel unpacks one archive after the other, each on a multiple of four bytes.
        image = debian.initrd.read_bytes()
        result = tmp_path / "scripted.img"
        result.write_bytes(image + b"\0" * (-len(image) % 4) + extra)
        return result

    return make


SCRIPTED_APPEND = "console=ttyS0 quiet rdinit=/test/init"
