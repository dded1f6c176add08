"""The control socket and its client, `sill ctl`."""

import json
import socket
import subprocess
import time

import pytest

from conftest import ENGINES, PROMPT, SILL, TIMEOUT, ctl, run_in, sill

pytestmark = pytest.mark.skipif(ENGINES.get("dbt") is not None, reason=f"{ENGINES.get('dbt')}")


@pytest.fixture
def linux(debian, start):
    """Linux at its shell, and the path of its control socket."""
    child, path = start("--name", "steered", "--kernel", debian.kernel, "--initrd", debian.initrd,
                        "--append", "console=ttyS0 quiet", "--vga", "std")
    child.expect(PROMPT)
    return child, path


def test_status_pause_and_resume(linux):
    child, path = linux
    assert ctl(path, "status").splitlines() == [
        "name: steered", "state: running", "engine: dbt", "cpus: 1", f"memory: {256 << 20}"]
    assert ctl(path, "pause") == "state: paused\n"
    child.sendline("echo x$((41+1))")
    assert ctl(path, "status").splitlines()[1] == "state: paused"
    assert sill("ctl", path, "type", "x").returncode == 1
    assert ctl(path, "resume") == "state: running\n"
    child.expect_exact("x42")


def test_guest_time_stands_still_while_paused(linux):
    """By its TSC and paravirtual clock too, from which Linux takes its uptime."""
    child, path = linux

    def uptime():
        return float(run_in(child, "cat /proc/uptime")[0].split()[0])

    start = time.monotonic()
    before = uptime()
    ctl(path, "pause")
    time.sleep(3)
    ctl(path, "resume")
    assert uptime() - before < time.monotonic() - start - 2.5
    assert run_in(child, "dmesg | grep -ci unstable") == ["0"]


def test_power_button_interrupts_the_guest(linux):
    child, path = linux
    count = "grep acpi /proc/interrupts"
    before = run_in(child, count)
    assert len(before) == 1
    ctl(path, "powerdown")
    deadline = time.monotonic() + TIMEOUT
    while run_in(child, count) == before:
        assert time.monotonic() < deadline


def test_screenshot_is_a_png_file(linux, tmp_path):
    _, path = linux
    picture = tmp_path / "screen.png"
    ctl(path, "screenshot", picture)
    assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    done = sill("ctl", path, "screenshot", tmp_path / "nowhere/screen.png")
    assert done.returncode == 1 and "nowhere/screen.png" in done.stderr


def test_quit_ends_the_run_and_tells_every_client(linux):
    child, path = linux
    with socket.socket(socket.AF_UNIX) as watcher:
        watcher.settimeout(TIMEOUT)
        watcher.connect(str(path))
        watcher.sendall(b'{"command": "status", "id": {"my": 1}}\n')
        lines = watcher.makefile()
        assert json.loads(lines.readline())["id"] == {"my": 1}
        assert ctl(path, "quit") == "state: ended\n"
        assert json.loads(lines.readline()) == {"event": "ended", "status": 0}
        assert lines.readline() == ""
    child.wait()
    assert child.exitstatus == 0
    assert not path.exists()


def test_nonsense_gets_an_error_and_harms_nobody(linux):
    _, path = linux
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(TIMEOUT)
        client.connect(str(path))
        lines = client.makefile()
        for request in (b"nonsense", b"[]", b"5", b"{}", b'{"command": 5}', b'{"command": "no"}',
                        b'{"command": "type"}', b'{"command": "type", "text": "\\u00e4"}',
                        b'{"command": "key", "key": "nokey"}', b'\xff\xfe', b"[" * 5000):
            client.sendall(request + b"\n")
            answer = json.loads(lines.readline())
            assert answer["ok"] is False and answer["error"], request
        client.sendall(b" " * 20000)
        assert json.loads(lines.readline())["ok"] is False
    assert "running" in ctl(path, "status")


def test_client_complains_clearly(tmp_path):
    for arguments, complaint in (
            (("ctl", tmp_path / "none", "status"), "no VM answers at"),
            (("ctl", tmp_path / "none", "stats"), "did you mean 'status'?"),
            (("ctl", tmp_path / "none", "type"), "type takes TEXT"),
            (("ctl", tmp_path / "none", "pause", "x"), "pause takes no argument")):
        done = sill(*arguments)
        assert done.returncode == 1 and complaint in done.stderr


def test_socket_is_for_the_owner_and_for_one_vm(linux):
    _, path = linux
    assert path.stat().st_mode & 0o777 == 0o600
    done = subprocess.run([SILL, "run", "--engine", "dbt", "--quiet", "--console", "none",
                           "--control", f"socket:{path}", "--kernel", "/dev/null"],
                          capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert done.returncode == 1


def test_a_client_that_only_listens_any_more_gets_its_answers(linux):
    """As of `printf ... | nc -N -U PATH`: the end of its input is not the end of its requests."""
    _, path = linux
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(TIMEOUT)
        client.connect(str(path))
        client.sendall(b'{"command": "pause"}\n{"command": "type"}\n{"command": "resume"}\n'
                       b'{"command": "key", "key": "a"}\n{"command": "sta')
        client.shutdown(socket.SHUT_WR)
        answers = [json.loads(line) for line in client.makefile()]
    assert [answer["ok"] for answer in answers] == [True, False, True, True]
