"""Code that comes and goes in a guest: the engine's memory stays within its bounds, and its speed."""

import json
import re
import subprocess
import sys
import time

import pytest

from conftest import ROOT, SILL

sys.path.insert(0, str(ROOT / "tests/perf"))
import bench
import initramfs

SECONDS = 6


def churn(debian, tmp_path, *arguments):
    """Runs the program; returns (rounds of each slice, MiB of own memory over time, statistics)."""
    image, stats = tmp_path / "churn.img", tmp_path / "stats.json"
    initramfs.write(image, "/bin/busybox", ROOT / "build/tests/perf/churn", str(SECONDS))
    child = subprocess.Popen(
        [SILL, "run", "--quiet", "--memory", f"{bench.MEMORY_MIB}M", "--cpus", "2", "--kernel", debian.kernel,
         "--initrd", image, "--append", "console=ttyS0 quiet panic=-1", "--stats", stats, *arguments],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    rounds, memory = [], []
    with child:
        for line in child.stdout:
            if match := re.search(r"churn: (\d+) rounds", line):
                rounds.append(int(match[1]))
                memory.append(bench.own_memory(child.pid))
            if "churn: done" in line:
                break
        child.stdout.read()
        deadline = time.monotonic() + 30
        while child.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        child.kill()
    assert child.returncode == 0 and len(rounds) == 10
    return rounds, memory, json.loads(stats.read_text(encoding="utf-8"))


def find(tree, name):
    """The value of the first member of that name, however deep."""
    if name in tree:
        return tree[name]
    for value in tree.values():
        if isinstance(value, dict) and (found := find(value, name)) is not None:
            return found
    return None


@pytest.mark.parametrize("cache", ["default", "8M"])
def test_code_that_comes_and_goes(debian, tmp_path, cache):
    engine = "dbt" if cache == "default" else f"dbt,cache={cache}"
    rounds, memory, stats = churn(debian, tmp_path, "--engine", engine)

    code_cache = find(stats, "code_cache")
    assert code_cache["used"] <= code_cache["size"]
    if cache == "8M":
        assert code_cache["size"] == 8 << 20
        assert code_cache["flushes"]["full"] > 0
        assert max(memory) < 60
        assert memory[-1] < memory[4] + 8
    else:
        # The cache and its descriptions, which fill up once, and what the engine has besides.
        assert max(memory) < 60 + 2 * code_cache["size"] / 2**20
    assert rounds[-1] * 3 > max(rounds[1:4])
