"""Seeing inside: statistics, the engine's reports, and how much memory its code may take."""

import json
import pathlib
import re
import signal
import subprocess
import time

import pytest

from conftest import ENGINES, SILL, TIMEOUT
from test_cli import assert_refused, run_guest

HELLO = "hello from the guest\n"


def statistics(path):
    return json.loads(pathlib.Path(path).read_text(encoding="utf-8"))


# ---- statistics ----


def test_statistics_count_what_the_guest_did(engine, guest, tmp_path):
    file = tmp_path / "stats.json"
    file.write_text("x" * 100000)  # an older one, which is longer
    done = run_guest(engine, guest("hello"), "--cpus", "2", "--name", "counted", "--stats", file)
    assert done.returncode == 3 and done.stdout == HELLO
    told = statistics(file)
    assert (told["vm"], told["engine"], told["cpus"]) == ("counted", engine, 2)
    vcpus = [told["statistics"][f"vcpu{i}"] for i in range(2)]
    writes = len(HELLO) + 1  # and the one that ends the run
    if engine == "dbt":
        assert vcpus[0]["port_writes"] == writes
        assert vcpus[0]["instructions_in_c"]["out"] == writes
        assert vcpus[0]["exits"]["instruction"] >= writes
        assert vcpus[1]["port_writes"] == 0
        cache = told["statistics"]["code_cache"]
        assert 0 < cache["translations"] < 100
        assert 0 < cache["guest_bytes"] < cache["host_bytes"] < cache["used"]
        assert cache["flushes"]["full"] == 0
    else:
        assert vcpus[0]["exits"]["io"] == writes
        assert vcpus[1]["exits"]["io"] == 0


def test_statistics_count_exceptions_by_vector(guest, tmp_path):
    file = tmp_path / "stats.json"
    assert run_guest("dbt", guest("triple-fault"), "--stats", file).returncode == 2
    vcpu = statistics(file)["statistics"]["vcpu0"]
    assert vcpu["exceptions"]["6"] == 1  # #UD, and what followed from it


def test_signal_writes_statistics_of_a_running_guest(engine, guest, tmp_path):
    file = tmp_path / "stats.json"
    process = subprocess.Popen([SILL, "run", "--engine", engine, "--quiet", "--memory", "16M",
                                "--kernel", guest("spin"), "--stats", file],
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    try:
        assert process.stdout.read(len("spinning\n")) == b"spinning\n"
        for _ in range(2):
            file.write_text("")
            process.send_signal(signal.SIGUSR1)
            deadline = time.monotonic() + TIMEOUT
            while not file.read_text().endswith("\n}\n") and time.monotonic() < deadline:
                time.sleep(0.01)
            assert statistics(file)["engine"] == engine
            assert process.poll() is None
    finally:
        process.kill()
        process.communicate()


def test_file_for_statistics_that_cannot_be_written(engine, guest, tmp_path):
    assert_refused(run_guest(engine, guest("exit"), "--stats", tmp_path), "statistics", tmp_path)
    path = tmp_path / "no/such/folder"
    assert_refused(run_guest(engine, guest("exit"), "--stats", path), "statistics", path)


# ---- reports of the software engine ----


def test_blocks_are_shown_with_the_reason_why_they_end(guest):
    done = run_guest("dbt", guest("hello"), "--debug", "dbt=blocks,exits")
    assert done.returncode == 3 and done.stdout == HELLO
    assert re.search(r"^block 0x\w+ \(physical\) .* ends: its last instruction may go elsewhere$",
                     done.stderr, re.MULTILINE)
    assert re.search(r"^  guest 0x\w+: lodsb al, byte ptr .*rsi|esi", done.stderr, re.MULTILINE)
    assert re.search(r"^  host 0x\w+: \w+", done.stderr, re.MULTILINE)
    assert len(re.findall(r"^vcpu 0 exit instruction at rip 0x\w+: out$", done.stderr,
                          re.MULTILINE)) == len(HELLO) + 1


def test_exceptions_are_shown(guest):
    done = run_guest("dbt", guest("triple-fault"), "--debug", "dbt=exceptions")
    assert re.search(r"^vcpu 0 exception 6 error 0 address 0 at rip 0x1000\w\w cpl 0$", done.stderr,
                     re.MULTILINE)


def test_counters_are_told_at_the_end(guest):
    done = run_guest("dbt", guest("hello"), "--debug", "dbt=counters")
    assert f"vcpu0.port_writes {len(HELLO) + 1}\n" in done.stderr
    assert "code_cache.flushes" not in done.stderr  # only what happened
    assert "code_cache.translations " in done.stderr


def test_perf_gets_a_map(guest):
    process = subprocess.Popen([SILL, "run", "--engine", "dbt", "--quiet", "--memory", "16M",
                                "--kernel", guest("spin"), "--debug", "dbt=perfmap"],
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    path = pathlib.Path(f"/tmp/perf-{process.pid}.map")
    try:
        assert process.stdout.read(len("spinning\n")) == b"spinning\n"
        code = [tuple(int(part, 16) for part in re.match(r"(\w+)-(\w+) r-x", line).groups())
                for line in pathlib.Path(f"/proc/{process.pid}/maps").read_text().splitlines()
                if re.match(r"\w+-\w+ r-xs ", line)]
        lines = path.read_text().splitlines()
        assert lines[0].endswith(" sill dbt stubs")
        assert any(re.fullmatch(r"\w+ \w+ guest 0x1000\w\w cpl0", line) for line in lines)
        for line in lines:
            start, size = (int(word, 16) for word in line.split()[:2])
            assert any(low <= start and start + size <= high for low, high in code), line
    finally:
        process.kill()
        process.communicate()
        path.unlink(missing_ok=True)


def test_reports_that_do_not_exist(guest):
    assert_refused(run_guest("dbt", guest("exit"), "--debug", "dbt=blocks,secrets"), "'secrets'",
                   "exceptions")


@pytest.mark.skipif(bool(ENGINES.get("kvm", "not listed")), reason="engine kvm does not work here")
def test_kvm_has_no_reports(guest):
    assert_refused(run_guest("kvm", guest("exit"), "--debug", "dbt=exits"), "--debug", "kvm")


# ---- the code cache ----


def test_code_cache_has_a_bound(guest, tmp_path):
    file = tmp_path / "stats.json"
    done = run_guest("dbt,cache=4M", guest("churn"), "--stats", file)
    assert done.returncode == 5
    cache = statistics(file)["statistics"]["code_cache"]
    assert cache["size"] == 4 << 20 and cache["used"] <= cache["size"]
    assert cache["meta_used"] <= cache["size"]
    assert cache["translations"] >= 100000
    assert cache["flushes"]["full"] >= cache["host_bytes"] // cache["size"]
    assert cache["flushes"]["full"] > 1


def test_code_that_is_rewritten_again_and_again_is_not_linked_each_time(guest, tmp_path):
    """Links to dead versions would have to be led to each new one."""
    file = tmp_path / "stats.json"
    done = run_guest("dbt", guest("rewrite"), "--stats", file)
    assert done.returncode == 5
    told = statistics(file)["statistics"]
    assert told["code_cache"]["invalidations"] >= 20000
    assert told["vcpu0"]["links"] < 100
