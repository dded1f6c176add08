"""The command line: what is refused and how, exit statuses, consoles, signals and the terminal."""

import os
import pathlib
import signal
import socket
import subprocess
import termios
import time

import pexpect
import pytest

from conftest import ENGINES, SILL, TIMEOUT, sill, spawn

QUIET = ["--quiet", "--memory", "16M"]


def run_guest(engine, kernel, *args, **kwargs):
    return sill("run", "--engine", engine, *QUIET, "--kernel", kernel, "--device", "debug-exit",
                *args, **kwargs)


def assert_refused(done, *culprits):
    """One sentence on standard error that names the culprits, and exit status 1."""
    assert done.returncode == 1, done.stderr
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("sill: ")
    for culprit in culprits:
        assert str(culprit) in lines[0]


# ---- what is refused before any guest starts ----


@pytest.mark.parametrize("args, culprits", [
    ("--kernal k", ["--kernal", "--kernel"]),
    ("--xyzzy", ["--xyzzy", "sill help run"]),
    ("-m 512", ["-m"]),
    ("vmlinuz", ["vmlinuz", "--kernel FILE"]),
    ("--kernel", ["--kernel", "FILE"]),
    ("--quiet=yes --kernel k", ["--quiet"]),
    ("--kernel k --memory 1G --memory 2G", ["--memory", "twice"]),
    ("", ["--kernel FILE"]),
    ("--memory 64M", ["--kernel FILE"]),
    ("--initrd i", ["--initrd", "--kernel"]),
    ("--append quiet", ["--append", "--kernel"]),
    ("--kernel k --memory 8M", ["--memory", "8M", "16M"]),
    ("--kernel k --memory 0", ["--memory", "16M"]),
    ("--kernel k --memory lots", ["--memory", "lots", "512M"]),
    ("--kernel k --memory -1G", ["--memory", "-1G"]),
    ("--kernel k --memory 1.5G", ["--memory", "1.5G"]),
    ("--kernel k --memory 512MB", ["--memory", "512MB"]),
    ("--kernel k --memory 900T", ["--memory", "900T", "host"]),
    ("--kernel k --memory 99999999999G", ["--memory", "99999999999G"]),
    ("--kernel k --memory 16777217", ["--memory", "4K"]),
    ("--kernel k --name " + "x" * 65, ["--name", "64"]),
    ("--kernel k --cpus 0", ["--cpus", "'0'", "1 to 64"]),
    ("--kernel k --cpus 65", ["--cpus", "'65'", "1 to 64"]),
    ("--kernel k --cpus two", ["--cpus", "two"]),
    ("--kernel k --engine tcg", ["--engine", "tcg", "dbt"]),
    ("--kernel k --engine dbt,cash=4M", ["--engine", "cash=4M", "cache=SIZE"]),
    ("--kernel k --engine dbt,cache=much", ["--engine", "much"]),
    ("--kernel k --engine dbt,cache=3M", ["--engine", "3M", "4M"]),
    ("--kernel k --engine dbt,cache=2G", ["--engine", "2G", "1024M"]),
    ("--kernel k --engine kvm,cache=64M", ["--engine", "kvm", "cache=64M"]),
    ("--kernel k --debug blocks", ["--debug", "blocks", "dbt=WHAT"]),
    ("--kernel k --debug kvm=exits", ["--debug", "kvm=exits", "dbt=WHAT"]),
    ("--kernel k --console tty", ["--console", "tty", "stdio"]),
    ("--kernel k --console file:", ["--console", "file:"]),
    ("--kernel k --device sound", ["--device", "sound"]),
    ("--kernel k --device rng,speed=1", ["--device", "rng", "speed=1"]),
    ("--kernel k --device debug-exit,port=99999", ["--device", "99999"]),
    ("--kernel k --device testdev --device testdev", ["testdev", "only one"]),
    ("--kernel k --device console", ["console", "--console none"]),
    ("--kernel k --disk", ["--disk"]),
    ("--kernel k --disk d,colour=red", ["--disk", "colour"]),
    ("--kernel k --net wifi", ["--net", "wifi", "user"]),
    ("--kernel k --net user,speed=1", ["--net", "speed", "hostfwd"]),
    ("--kernel k --net user,hostfwd=tcp:8080", ["--net", "tcp:8080", "8080-:80"]),
    ("--kernel k --net user,hostfwd=tcp:127.0.0.1:0-:80", ["--net", "127.0.0.1:0-:80"]),
    ("--kernel k --net user,net=10.0.2.0/33", ["--net", "10.0.2.0/33", "10.0.2.0/24"]),
    ("--kernel k --net user,net=10.0.2.1/24", ["--net", "10.0.2.1/24", "prefix"]),
    ("--kernel k --net user,mac=01:00:00:00:00:01", ["--net", "01:00:00:00:00:01", "group"]),
    ("--kernel k --net user,mac=52:54", ["--net", "52:54", "52:54:00:12:34:56"]),
    ("--kernel k --net user,model=ne2000", ["--net", "ne2000", "virtio"]),
    ("--kernel k --net tap=t0,net=10.0.2.0/24", ["--net", "tap", "net"]),
    ("--kernel k --display vnc=:1", ["--display", "numeric address"]),
    ("--kernel k --gdb 1234", ["--gdb", "1234", "tcp:ADDRESS:PORT"]),
    ("--kernel k --gdb tcp:127.0.0.1", ["--gdb", "127.0.0.1", "port"]),
    ("--kernel k --gdb tcp:127.0.0.1:66000", ["--gdb", "66000"]),
    ("--kernel k --gdb tcp:somewhere:1234", ["--gdb", "somewhere", "127.0.0.1"]),
    ("--kernel k --gdb unix:", ["--gdb", "unix:"]),
    ("--kernel k --gdb tcp:127.0.0.1:1234,halt", ["--gdb", "halt", "wait"]),
    ("--firmware=", ["--firmware", "bios, uefi"]),
    ("--firmware bios --boot order=tape", ["--boot", "tape", "disk, cd, floppy or net"]),
    ("--firmware bios --boot order=cd,disk,cd", ["--boot", "cd", "twice"]),
    ("--firmware bios --boot fast", ["--boot", "fast", "order="]),
    ("--firmware bios --fw-cfg etc/e820=x", ["--fw-cfg", "etc/e820", "opt/"]),
    ("--firmware uefi,colour=red", ["--firmware", "colour", "vars=FILE"]),
    ("--kernel k --firmware uefi", ["--kernel", "--firmware"]),
    ("--quiet --floppy /nonexistent/a.img", ["/nonexistent/a.img"]),
    ("--memory 1G", ["nothing to boot", "image", "--kernel"]),
    ("/nonexistent/a,b.img", ["/nonexistent/a,b.img", "No such file"]),
])
def test_bad_option(args, culprits):
    assert_refused(sill("run", *args.split()), *culprits)


@pytest.mark.skipif(subprocess.run(["unshare", "--mount", "true"], check=False).returncode != 0,
                    reason="nobody may hide a package's files here")
@pytest.mark.parametrize("folder, args, culprits", [
    ("/usr/share/seabios", "--firmware bios", ["bios-256k.bin", "package seabios", "--firmware FILE"]),
    ("/usr/share/OVMF", "--firmware uefi", ["OVMF_CODE_4M.fd", "package ovmf"]),
    ("/usr/lib/ipxe", "--net user --boot order=net", ["efi-virtio.rom", "ipxe-qemu"]),
])
def test_missing_package_is_named(tmp_path, folder, args, culprits):
    command = f"mount --bind {tmp_path} {folder} && exec {SILL} run --quiet --engine dbt {args}"
    done = subprocess.run(["unshare", "--mount", "sh", "-c", command], capture_output=True, text=True,
                          check=False, timeout=TIMEOUT)
    assert_refused(done, *culprits)


def test_cpu_model_that_does_not_exist(engine, guest):
    assert_refused(run_guest(engine, guest("exit"), "--cpu", "z80"), "z80", "x86-64-v2")


def test_missing_kernel(engine):
    assert_refused(run_guest(engine, "/nonexistent/vmlinuz"), "/nonexistent/vmlinuz")


def test_kernel_is_a_folder(engine, tmp_path):
    assert_refused(run_guest(engine, tmp_path), tmp_path)


def test_kernel_is_empty(engine, tmp_path):
    kernel = tmp_path / "vmlinuz"
    kernel.touch()
    assert_refused(run_guest(engine, kernel), kernel)


def test_kernel_is_no_kernel(engine, tmp_path):
    kernel = tmp_path / "vmlinuz"
    kernel.write_bytes(bytes(range(256)) * 64)
    assert_refused(run_guest(engine, kernel), kernel)


def test_kernel_is_a_program(engine):
    assert_refused(run_guest(engine, "/bin/true"), "/bin/true")


def sill_as_nobody(*args):
    """As `sill`, for root with the rights of a user who has none."""
    if os.geteuid() != 0:
        return sill(*args)
    try:
        return sill(*args, user=65534, group=65534, extra_groups=[])
    except PermissionError:
        return pytest.skip(f"only root can reach {SILL}")


def test_unreadable_kernel(tmp_path):
    kernel = tmp_path / "vmlinuz"
    kernel.touch(mode=0)
    done = sill_as_nobody("run", "--engine", "dbt", *QUIET, "--kernel", kernel)
    assert_refused(done, kernel, "ermission")


def test_missing_initrd(engine, guest):
    assert_refused(run_guest(engine, guest("exit"), "--initrd", "/nonexistent/initrd"),
                   "/nonexistent/initrd")


def test_kernel_larger_than_memory(engine, tmp_path, guest):
    initrd = tmp_path / "initrd"
    with open(initrd, "wb") as file:
        file.truncate(64 << 20)
    assert_refused(run_guest(engine, guest("exit"), "--initrd", initrd), initrd)


def test_missing_disk(engine, guest):
    assert_refused(run_guest(engine, guest("exit"), "--disk", "/nonexistent/disk.img"),
                   "/nonexistent/disk.img")


def test_disk_is_a_folder(engine, guest, tmp_path):
    assert_refused(run_guest(engine, guest("exit"), "--disk", tmp_path), tmp_path)


def test_one_disk_twice(engine, guest, tmp_path):
    disk = tmp_path / "disk.img"
    disk.write_bytes(bytes(1 << 20))
    assert_refused(run_guest(engine, guest("exit"), "--disk", disk, "--disk", disk), disk)


def test_port_that_is_taken(engine, guest):
    assert_refused(sill("run", "--engine", engine, *QUIET, "--kernel", guest("exit"), "--device",
                        "debug-exit,port=0x3f8"), "debug-exit", "serial")


def test_unwritable_console_file(engine, guest):
    assert_refused(run_guest(engine, guest("exit"), "--console", "file:/nonexistent/log"),
                   "/nonexistent/log")


def test_console_socket_path_that_is_taken(engine, guest, tmp_path):
    path = tmp_path / "console"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        assert_refused(run_guest(engine, guest("exit"), "--console", f"socket:{path}"), path,
                       "in use")
    assert path.exists()


def test_console_socket_path_that_is_a_file(engine, guest, tmp_path):
    path = tmp_path / "console"
    path.write_text("precious")
    assert_refused(run_guest(engine, guest("exit"), "--console", f"socket:{path}"), path)
    assert path.read_text() == "precious"


def test_console_socket_path_that_is_too_long(engine, guest):
    assert_refused(run_guest(engine, guest("exit"), "--console", "socket:/tmp/" + "x" * 200),
                   "too long")


@pytest.mark.skipif(not ENGINES.get("kvm") or pathlib.Path("/dev/kvm").exists(),
                    reason="there is a /dev/kvm")
def test_kvm_where_there_is_none(guest):
    assert_refused(run_guest("kvm", guest("exit")), "kvm", "/dev/kvm", "dbt")


def test_kvm_without_permission():
    if not pathlib.Path("/dev/kvm").exists():
        pytest.skip("there is no /dev/kvm")
    if os.stat("/dev/kvm").st_mode & 0o006:
        pytest.skip("everybody may use /dev/kvm here")
    if os.geteuid() != 0 and os.access("/dev/kvm", os.R_OK | os.W_OK):
        pytest.skip("this user may use /dev/kvm")
    done = sill_as_nobody("run", "--engine", "kvm", *QUIET, "--kernel", "vmlinuz")
    assert_refused(done, "/dev/kvm", "permission")


# ---- commands ----


def test_unknown_command():
    assert_refused(sill("rum"), "rum", "sill run")
    assert_refused(sill("frobnicate"), "frobnicate", "sill help")


def test_version():
    done = sill("--version")
    assert done.returncode == 0
    assert done.stdout.startswith("sill ")


@pytest.mark.parametrize("args", ["help", "--help", "help run", "run --help", "help engines", "help ctl"])
def test_help(args):
    done = sill(*args.split())
    assert done.returncode == 0
    assert any(f"sill {word}" in done.stdout for word in ("run", "engines", "ctl"))
    assert all(len(line) <= 80 for line in done.stdout.splitlines())


def test_help_names_every_option_and_device():
    text = sill("help", "run").stdout
    for word in ["--name", "--engine", "--cpus", "--cpu ", "--memory", "--kernel", "--initrd",
                 "--append", "--disk", "--net", "--console", "--display", "--device", "--no-reboot",
                 "--dry-run", "--quiet", "--gdb", "--stats", "--debug", "perfmap", "cache=SIZE",
                 "format=raw", "aio=auto", "debug-exit", "testdev", "rng", "Ctrl-]"]:
        assert word in text


def test_engines_lists_both_and_the_choice():
    done = sill("engines")
    assert done.returncode == 0
    assert set(ENGINES) == {"kvm", "dbt"}
    assert "auto takes" in done.stdout


# ---- a run ----


def test_says_which_engine_and_why(engine, guest):
    done = sill("run", "--engine", engine, "--kernel", guest("exit"), "--device", "debug-exit")
    lines = done.stderr.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(f"sill: engine {engine}: ")
    assert len(lines[0]) > len(f"sill: engine {engine}: ")


def test_auto_takes_an_engine_that_works(guest):
    done = sill("run", "--kernel", guest("exit"), "--device", "debug-exit")
    assert done.returncode == 0x21
    assert done.stderr.startswith("sill: engine ")


def test_dry_run_starts_no_guest(engine, guest):
    done = run_guest(engine, guest("hello"), "--dry-run")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_dry_run_finds_what_a_run_would(engine):
    assert_refused(run_guest(engine, "/nonexistent/vmlinuz", "--dry-run"), "/nonexistent/vmlinuz")


@pytest.mark.parametrize("name, args, status", [
    ("exit", [], 0x21),
    ("exit-zero", [], 1),
    ("power-off", [], 0),
    ("triple-fault", [], 2),
    ("triple-fault", ["--no-reboot"], 2),
    ("panic", ["--device", "pvpanic"], 2),
    ("reset-cf9", ["--no-reboot"], 2),
    ("reset-8042", ["--no-reboot"], 2),
    ("reset-92", ["--no-reboot"], 2),
    ("reset-once", [], 7),
])
def test_exit_status(engine, guest, name, args, status):
    done = run_guest(engine, guest(name), *args)
    assert done.returncode == status
    assert done.stderr == ""


def test_reset_loads_the_kernel_again(engine, guest):
    assert run_guest(engine, guest("reset-once")).stdout == "start\nstart\n"


def start(engine, kernel, *args, stdin=subprocess.DEVNULL):
    return subprocess.Popen([SILL, "run", "--engine", engine, *QUIET, "--kernel", kernel, *args],
                            stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def finish(process):
    """Ends a run that is still on, and returns its exit status."""
    process.terminate()
    return process.wait(timeout=TIMEOUT)


def test_devices_not_asked_for_are_not_there(engine, guest):
    with start(engine, guest("hello")) as process:
        assert process.stdout.readline() == b"hello from the guest\n"
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=0.3)
        assert finish(process) == 0


def test_command_line_reaches_the_guest(engine, guest):
    done = run_guest(engine, guest("command-line"), "--append", "one 'two' three")
    assert "one 'two' three" in done.stdout


def test_debug_exit_at_another_port(engine, guest):
    with start(engine, guest("exit"), "--device", "debug-exit,port=0xf0", "--device",
               "debug-exit,port=0xf4") as process:
        assert process.wait(timeout=TIMEOUT) == 1
        assert b"debug-exit" in process.stderr.read()


@pytest.mark.parametrize("cpus", [1, 2, 4, 64])
def test_many_vcpus(engine, guest, cpus):
    assert run_guest(engine, guest("exit"), "--cpus", cpus).returncode == 0x21


# ---- consoles ----


def test_output_to_a_pipe_is_complete(engine, guest):
    done = run_guest(engine, guest("flood"))
    assert done.stdout == "." * 65536


def test_slow_reader_loses_nothing(engine, guest):
    with start(engine, guest("flood"), "--device", "debug-exit") as process:
        time.sleep(0.3)  # the pipe fills up
        assert process.stdout.read() == b"." * 65536
        assert process.wait(timeout=TIMEOUT) == 3


def test_reader_that_goes_away_does_not_end_the_run(engine, guest):
    with start(engine, guest("echo"), "--device", "debug-exit", stdin=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"ready\n"
        process.stdout.close()
        process.stdin.write(b"abc!")
        process.stdin.flush()
        assert process.wait(timeout=TIMEOUT) == 5


def test_input_from_a_pipe(engine, guest):
    done = run_guest(engine, guest("echo"), input="one\ntwo\x1d\x1dq!")
    assert done.stdout == "ready\none\ntwo\x1d\x1dq!"
    assert done.returncode == 5


@pytest.mark.parametrize("closed", ["<&-", ">&-", "<&- >&- 2>&-"])
def test_closed_standard_descriptors(engine, guest, closed):
    command = f'exec "$0" run --engine {engine} --quiet --device debug-exit --kernel "$1" {closed}'
    done = subprocess.run(["/bin/sh", "-c", command, SILL, guest("hello")], capture_output=True,
                          timeout=TIMEOUT, check=False)
    assert done.returncode == 3
    assert done.stderr == b""


def test_end_of_input_does_not_end_the_run(engine, guest):
    with start(engine, guest("spin"), stdin=subprocess.DEVNULL) as process:
        assert process.stdout.readline() == b"spinning\n"
        time.sleep(0.2)
        assert process.poll() is None
        assert finish(process) == 0


def test_console_file(engine, guest, tmp_path):
    log = tmp_path / "log"
    log.write_text("what was there before, and is longer than what comes")
    done = run_guest(engine, guest("hello"), "--console", f"file:{log}")
    assert (done.returncode, done.stdout) == (3, "")
    assert log.read_text() == "hello from the guest\n"


def test_console_none(engine, guest):
    done = run_guest(engine, guest("hello"), "--console", "none")
    assert (done.returncode, done.stdout) == (3, "")


def test_debug_console(engine, guest, tmp_path):
    log = tmp_path / "log"
    assert run_guest(engine, guest("debugcon"), "--device", f"debugcon,to=file:{log}",
                     ).returncode == 3
    assert log.read_text() == "D"


def connect(path):
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(TIMEOUT)
    for _ in range(TIMEOUT * 100):
        try:
            client.connect(str(path))
            return client
        except (FileNotFoundError, ConnectionRefusedError):
            time.sleep(0.01)
    raise TimeoutError(path)


def test_console_socket(engine, guest, tmp_path):
    path = tmp_path / "console"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    with start(engine, guest("echo"), "--device", "debug-exit", "--console",
               f"socket:{path}") as process, connect(path) as client:
        client.sendall(b"over the wire!")
        got = b""
        while not got.endswith(b"!"):
            got += client.recv(100)
        assert got.removeprefix(b"ready\n") == b"over the wire!"
        assert process.wait(timeout=TIMEOUT) == 5
    assert not path.exists()


# ---- signals and the terminal ----


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("name", ["halt", "spin"])
def test_signals_end_a_run(engine, guest, name, number):
    with start(engine, guest(name), "--cpus", "2") as process:
        process.stdout.readline()
        process.send_signal(number)
        assert process.wait(timeout=TIMEOUT) == 0
        assert process.stderr.read() == b""


def modes(child):
    """The terminal's modes but for PENDIN, which the kernel sets when it leaves raw mode."""
    flags = termios.tcgetattr(child.child_fd)
    flags[3] &= ~termios.PENDIN
    return flags


def is_raw(child):
    return not modes(child)[3] & (termios.ICANON | termios.ECHO | termios.ISIG)


def wait_until(condition):
    for _ in range(TIMEOUT * 100):
        if condition():
            return
        time.sleep(0.01)
    raise TimeoutError


def spawn_on_terminal(engine, kernel, expect):
    """A run on a terminal, and the terminal's modes from before."""
    # The shell's `read` holds the run back until the modes are known.
    command = ["run", "--engine", engine, *QUIET, "--kernel", str(kernel), "--device", "debug-exit"]
    child = pexpect.spawn("/bin/sh", ["-c", 'read go && exec "$0" "$@"', SILL, *command],
                          timeout=TIMEOUT, encoding="utf-8", codec_errors="replace")
    before = modes(child)
    child.sendline("go")
    child.expect(expect)
    return child, before


def wait_status(child):
    child.expect(pexpect.EOF)
    child.wait()
    return child.exitstatus


def test_terminal_is_raw_during_a_run(engine, guest):
    child, before = spawn_on_terminal(engine, guest("echo"), "ready")
    assert is_raw(child)
    child.send("\x03\x1a!")  # Ctrl-C and Ctrl-Z are the guest's
    child.expect_exact("\x03\x1a!")
    child.expect(pexpect.EOF)
    after = modes(child)
    child.wait()
    assert child.exitstatus == 5
    assert after == before


def test_escape_key_leaves(engine, guest):
    child, before = spawn_on_terminal(engine, guest("halt"), "halted")
    child.send("\x1dq")
    child.expect(pexpect.EOF)
    assert modes(child) == before
    child.wait()
    assert child.exitstatus == 0


def test_escape_key_works_when_the_guest_reads_nothing(engine, guest):
    child, _ = spawn_on_terminal(engine, guest("spin"), "spinning")
    child.send("x" * 2000)
    child.send("\x1dq")
    assert wait_status(child) == 0


def test_escape_key_twice_is_sent(engine, guest):
    child, _ = spawn_on_terminal(engine, guest("echo"), "ready")
    child.send("\x1d\x1d!")
    child.expect_exact("\x1d!")
    assert wait_status(child) == 5


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGABRT,
                                    signal.SIGSEGV])
def test_terminal_is_restored_when_a_signal_ends_the_run(engine, guest, number):
    child, before = spawn_on_terminal(engine, guest("spin"), "spinning")
    wait_until(lambda: is_raw(child))
    child.kill(number)
    child.expect(pexpect.EOF)
    assert modes(child) == before
    child.wait()
    crash = number in (signal.SIGABRT, signal.SIGSEGV)
    assert (child.exitstatus, child.signalstatus) == ((None, number) if crash else (0, None))


def test_stop_gives_the_terminal_back_and_continue_takes_it(engine, guest):
    child, before = spawn_on_terminal(engine, guest("echo"), "ready")
    wait_until(lambda: is_raw(child))
    child.kill(signal.SIGTSTP)
    wait_until(lambda: modes(child) == before)
    child.kill(signal.SIGCONT)
    wait_until(lambda: is_raw(child))
    child.send("still there!")
    child.expect_exact("still there!")
    assert wait_status(child) == 5


def test_terminal_is_restored_after_a_start_up_error(engine):
    child = spawn("run", "--engine", engine, "--kernel", "/nonexistent/vmlinuz")
    child.expect("/nonexistent/vmlinuz")
    child.expect(pexpect.EOF)
    assert not is_raw(child)
    assert wait_status(child) == 1
