"""The GDB stub, with the real gdb: breakpoints, steps, watchpoints, registers, memory, threads."""

import os
import pathlib
import re
import shutil
import socket
import subprocess
import time

import pytest

from conftest import SCRIPTED_APPEND, SILL, TIMEOUT, sill
from test_cli import assert_refused

pytestmark = pytest.mark.skipif(not shutil.which("gdb"), reason="gdb is not installed")


def is_served(path):
    """Whether somebody listens at a Unix socket: its file comes a little earlier."""
    listening = "00010000"
    lines = pathlib.Path("/proc/net/unix").read_text(encoding="utf-8").splitlines()
    return any(line.split()[3] == listening and line.endswith(f" {path}") for line in lines)


@pytest.fixture
def start(tmp_path):
    """A function that starts `sill run --gdb` and returns the process and the stub's socket."""
    processes = []

    def run(engine, kernel, *args, keys=",wait", memory="16M"):
        place = tmp_path / f"gdb{len(processes)}"
        process = subprocess.Popen(
            [SILL, "run", "--engine", engine, "--quiet", "--memory", memory, "--kernel", kernel,
             "--device", "debug-exit", "--gdb", f"unix:{place}{keys}", *args],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        processes.append(process)
        deadline = time.monotonic() + TIMEOUT
        while not is_served(place) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        return process, place

    yield run
    for process in processes:
        process.kill()
        process.communicate()


def gdb(place, *commands, kernel=None):
    """What gdb prints for these commands, once it is connected."""
    words = ["gdb", "-nx", "-batch", "-ex", "set confirm off", "-ex", f"target remote {place}"]
    for command in commands:
        words += ["-ex", command]
    if kernel:
        words.append(str(kernel))
    done = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=TIMEOUT, check=False,
                          env={**os.environ, "LC_ALL": "C"})
    return done.stdout


def values(text):
    """What `print` showed, in order."""
    return re.findall(r"^\$\d+ = (.*)$", text, re.MULTILINE)


def skip_where_emulated(engine, what):
    """Some hosts offer a KVM that runs supervisor code in an emulator of their own."""
    if engine == "kvm" and "emulates supervisor code" in sill("engines").stdout:
        pytest.skip(f"this KVM emulates supervisor code, but not {what}")


# ---- tiny guests ----


@pytest.mark.parametrize("kind", ["break", "hbreak"])
def test_breakpoints_stop_before_the_instruction_every_time(engine, guest, start, kind):
    kernel = guest("count")
    process, place = start(engine, kernel)
    said = gdb(place, f"{kind} again", "continue", "print $eax", "print/x *(char *)again",
               "continue", "print $eax", "continue", "print $eax", "print $ecx", "continue",
               kernel=kernel)
    assert values(said) == ["0", "0x83", "2", "4", "1"], said  # 83 c0 02: the guest's own byte
    assert said.count("Breakpoint 1, ") == 3, said
    assert "exited with code 015" in said  # octal, (6 << 1) | 1
    assert process.wait(TIMEOUT) == 13


def test_steps_one_instruction_at_a_time(engine, guest, start):
    kernel = guest("count")
    _, place = start(engine, kernel)
    said = gdb(place, "break again", "continue", "delete", "stepi", "print $eax",
               "stepi", "stepi",
               "print (long)$pc - (long)again", "x/i $pc", kernel=kernel)
    assert values(said)[0] == "2", said
    assert values(said)[-1] == "0", said
    assert re.search(r"=> 0x\w+ <again>:\tadd +\$0x2,%eax", said), said


def test_watchpoints_tell_the_old_and_new_value(engine, guest, start):
    skip_where_emulated(engine, "watchpoints")
    kernel = guest("count")
    _, place = start(engine, kernel)
    said = gdb(place, "watch *(int *)&counter", "continue", "print $pc == counted", "continue",
               "delete", "rwatch *(int *)&counter", "break counted", "continue", "delete 3",
               "continue", "print $pc == done", kernel=kernel)
    assert re.search(r"Old value = 0\s+New value = 2", said), said
    assert re.search(r"Old value = 2\s+New value = 4", said), said
    assert "Breakpoint 3" in said
    assert re.search(r"Hardware read watchpoint 2: .*\s+Value = 6", said), said
    assert values(said) == ["1", "1"], said


def test_registers_and_memory_are_written(engine, guest, start):
    kernel = guest("count")
    process, place = start(engine, kernel)
    said = gdb(place, "break done", "continue", "set var *(int *)&counter = 0x12345678",
               "print/x *(short *)((char *)&counter + 1)", "print $ebx = 0x21",
               "set var $eflags = $eflags | 1", "print $eflags", "set var $xmm3.v4_int32[2] = 7",
               "print $xmm3.v4_int32", "print $cr0 = 0", "set var $st0 = 2.5", "print $st0",
               "detach", kernel=kernel)
    shown = values(said)
    assert shown[0] == "0x3456" and shown[1] == "33" and "CF" in shown[2], said
    assert shown[3] == "{0, 0, 7, 0}", said
    assert "Could not write register" in said, said  # what could make no sense is read-only
    assert process.wait(TIMEOUT) == 0x21 << 1 | 1


def test_memory_that_is_not_there_is_an_error(engine, guest, start):
    kernel = guest("count")
    _, place = start(engine, kernel)
    said = gdb(place, "x/x 0x40000000", "set var *(int *)0x40000000 = 1", kernel=kernel)
    assert said.count("Cannot access memory at address 0x40000000") == 2, said


def test_client_comes_stops_leaves_and_comes_again(engine, guest, start):
    kernel = guest("spin")
    process, place = start(engine, kernel, keys="")
    for _ in range(3):
        said = gdb(place, "info threads", "stepi", "stepi", "x/i $pc", "detach", kernel=kernel)
        assert "Thread 1 (vCPU 0, CPL 0, running)" in said, said
        assert re.search(r"jmp +0x", said), said
        assert "detached" in said
        assert process.poll() is None
    said = gdb(place, "kill", kernel=kernel)
    assert process.wait(TIMEOUT) == 0, said


def test_client_that_vanishes_leaves_the_guest_running(engine, guest, start):
    kernel = guest("count")
    process, place = start(engine, kernel)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(place))
        client.sendall(b"$Z0,100020,1#00+$g")
    assert process.wait(TIMEOUT) == 13


def test_interrupt_stops_a_running_guest(engine, guest, start):
    kernel = guest("spin")
    _, place = start(engine, kernel)
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(TIMEOUT)
        client.connect(str(place))
        client.sendall(b"$vCont;c#a8")
        assert client.recv(1) == b"+"
        time.sleep(0.1)
        client.sendall(b"\x03")
        assert client.recv(100).startswith(b"$T02thread:1;")


def test_triple_fault_is_shown_before_the_run_ends(engine, guest, start):
    if engine == "kvm":
        pytest.skip("a processor may lose its state with a triple fault, and AMD's do")
    kernel = guest("triple-fault")
    process, place = start(engine, kernel)
    said = gdb(place, "continue", "x/i $pc", "detach", kernel=kernel)
    assert "received signal SIGSEGV" in said and re.search(r"=> 0x\w+ .*:\tud2", said), said
    assert process.wait(TIMEOUT) == 2


def test_breakpoints_of_real_mode_go_by_linear_address(engine, guest, start):
    """GDB does not know that it stands before its own breakpoint; it gets past it all the same."""
    skip_where_emulated(engine, "RFLAGS.RF")
    process, place = start(engine, guest("real-mode"))
    said = gdb(place, "break *0x8010", *["continue", "print $eip", "print $bx"] * 3, "print $cs_base",
               "print/x $cs", "x/2xb $cs_base + $eip", "delete", "stepi", "stepi", "print $bx",
               "detach")
    assert values(said)[:6] == ["(void (*)()) 0x10", "0", "(void (*)()) 0x10", "1",
                                "(void (*)()) 0x10", "2"], said
    assert values(said)[6:9] == ["32768", "0x800", "3"], said
    assert re.search(r"0x8010:\t0x43\t0xe2", said), said
    assert process.wait(TIMEOUT) == 7


def test_each_vcpu_is_a_thread(engine, guest, start):
    kernel = guest("count")
    _, place = start(engine, kernel, "--cpus", "3")
    said = gdb(place, "info threads", "break again", "continue", "print $_thread", "thread 3",
               "print/x $eip", kernel=kernel)
    assert len(re.findall(r"Thread [23] \(vCPU [12], CPL 0, waiting to be started\)", said)) == 2
    assert values(said) == ["1", "0xfff0"], said


def test_broken_clients_harm_nobody(engine, guest, start):
    kernel = guest("spin")
    process, place = start(engine, kernel, keys="")
    for sent in [b"", b"$", b"+++---", b"$" + b"A" * 100000 + b"#00", b"$m0,ffffffffffffffff#25",
                 b"$G00#d7", b"$P999999999999=0#00", b"$Z9,,#f2", b"$vCont;s:ffff#00",
                 b"\xff\x00}}}#$}#}", b"$X0,5:\x01#00", b"\x03\x03\x03", b"$?#3f" * 2000]:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(place))
            client.settimeout(TIMEOUT)
            try:
                client.sendall(sent)
            except OSError:
                pass
    said = gdb(place, "info threads", kernel=kernel)
    assert "vCPU 0" in said, said
    assert process.poll() is None


def test_second_client_is_turned_away(engine, guest, start):
    kernel = guest("spin")
    _, place = start(engine, kernel, keys="")
    with socket.socket(socket.AF_UNIX) as first, socket.socket(socket.AF_UNIX) as second:
        first.settimeout(TIMEOUT)
        second.settimeout(TIMEOUT)
        first.connect(str(place))
        first.sendall(b"$?#3f")
        assert first.recv(1) == b"+"
        second.connect(str(place))
        assert second.recv(1) == b""


def test_port_that_is_taken(guest):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        done = sill("run", "--engine", "dbt", "--quiet", "--kernel", guest("exit"), "--gdb",
                    f"tcp:127.0.0.1:{port}")
    assert_refused(done, "127.0.0.1", port)


def test_port_is_chosen_and_told(guest, tmp_path):
    process = subprocess.Popen([SILL, "run", "--engine", "dbt", "--memory", "16M", "--kernel",
                                guest("spin"), "--gdb", "tcp:127.0.0.1:0"], text=True,
                               stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                               stderr=subprocess.PIPE)
    try:
        process.stderr.readline()  # the engine
        place = re.search(r"target remote (127\.0\.0\.1:\d+)$", process.stderr.readline()).group(1)
        assert "vCPU 0" in gdb(place, "info threads")
    finally:
        process.kill()
        process.communicate()


# ---- a whole kernel ----


def test_linux_is_debugged(debian, scripted, start, tmp_path):
    """Breakpoints on a system call that both CPUs make, a watchpoint on the clock tick, and Linux
    goes on afterwards as if nothing had been."""
    initrd = scripted("""
        echo 0 > /proc/sys/kernel/kptr_restrict
        grep -wE '__x64_sys_newuname|jiffies_64' /proc/kallsyms | sed 's/^/symbol: /'
        echo "guest: ready"
        touch /tmp/busy
        while [ -e /tmp/busy ]; do uname -r >/dev/null; done &
        for i in 1 2 3 4 5 6 7 8 9 10; do uname -r >/dev/null; sleep 0.2; done
        rm /tmp/busy
        wait
        grep -c processor /proc/cpuinfo
    """)
    console = tmp_path / "console"
    process, place = start("dbt", debian.kernel, "--cpus", "2", "--initrd", initrd, "--append",
                           SCRIPTED_APPEND + " nokaslr", "--console", f"file:{console}", keys="",
                           memory="256M")
    deadline = time.monotonic() + TIMEOUT
    while "guest: ready" not in console.read_text(errors="replace"):
        assert process.poll() is None and time.monotonic() < deadline, console.read_text()
        time.sleep(0.02)
    symbols = {name: int(address, 16) for address, name in
               re.findall(r"symbol: (\w+) \w (\w+)", console.read_text())}
    uname, jiffies = symbols["__x64_sys_newuname"], symbols["jiffies_64"]
    said = gdb(place, f"x/8xb {uname:#x}", f"break *{uname:#x}", f"hbreak *{uname:#x} + 5",
               "continue", "print/x $rip", f"x/8xb {uname:#x}", "info threads", "stepi",
               "print/x $rip", "x/i $pc", "print ($cr0 & 0x80000001) == 0x80000001",
               "print $gs_base != 0", "delete", f"watch *(long *){jiffies:#x}", "continue",
               "delete", "detach")
    shown = values(said)
    assert shown == [f"{uname:#x}", f"{uname + 5:#x}", "1", "1"], said
    listings = re.findall(r"^0x\w+:((?:\t0x\w\w){8})$", said, re.MULTILINE)
    assert len(listings) == 2 and listings[0] == listings[1], said  # no breakpoint shows
    assert "Thread 2 (vCPU 1, CPL " in said
    old, new = re.search(r"Old value = (\d+)\s+New value = (\d+)", said).groups()
    assert int(old) < int(new) < int(old) + 100, said
    assert process.wait(TIMEOUT) == 0
    assert "\n2\nguest: end" in console.read_text(errors="replace")
