#!/usr/bin/python3
"""Runs the tests of Sill, part by part, and counts them.

    run.py [--only PART,...] [--skip PART,...] [--list]

Each part prints its outcome, with the reason of every skip and the output of every failure. The last
line is `N passed, N failed, N skipped`; the exit status is 1 if anything failed, else 0. `make test`
calls this after it has installed the packages that the tests need.
"""

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD = ROOT / "build"
PYTHON = "/usr/bin/python3"

OUTPUT_LINES = 60  # of a failed test's end that are shown


class Outcome:
    """What became of one test: `result` is "passed", "failed" or "skipped"."""

    def __init__(self, name, result, detail=""):
        self.name = name
        self.result = result
        self.detail = detail.strip()


class BuildDirectory:
    """A meson build directory with options of its own, set up when first needed."""

    def __init__(self, path, options=(), compiler=None):
        self.path = path
        self.options = list(options)
        self.environment = dict(os.environ)
        if compiler:
            self.environment["CC"] = compiler

    def prepare(self):
        """None, or the output of a configuration that failed."""
        if (self.path / "build.ninja").exists():
            return None
        done = run(["meson", "setup", *self.options, str(self.path), str(ROOT)],
                   environment=self.environment)
        return None if done.returncode == 0 else done.stdout


SANITIZERS = ["-Db_sanitize=address,undefined", "-Db_lundef=false",
              "-Dc_args=-fno-sanitize-recover=all"]

NORMAL = BuildDirectory(BUILD)
ASAN = BuildDirectory(ROOT / "build-asan", SANITIZERS)
# ThreadSanitizer does not see stand-alone fences, and the compiler warns of each; what it tests does
# without them.
TSAN = BuildDirectory(ROOT / "build-tsan", ["-Db_sanitize=thread", "-Db_lundef=false",
                                            "-Dc_args=-Wno-tsan"])
FUZZ = BuildDirectory(ROOT / "build-fuzz", ["-Dfuzz=true", "-Dwerror=false", *SANITIZERS],
                      compiler="clang")


def run(command, environment=None, timeout=None):
    """Runs a command with its errors among its output and nothing to read."""
    return subprocess.run(command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          errors="replace", timeout=timeout, check=False)


def meson_outcomes(log):
    """Reads meson's log of a run, one JSON object a line."""
    results = {"OK": "passed", "EXPECTEDFAIL": "passed", "SKIP": "skipped"}
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        test = json.loads(line)
        result = results.get(test["result"], "failed")
        output = test.get("stdout", "") + test.get("stderr", "")
        if result == "failed":
            output = f"{test['result']}, exit status {test['returncode']}\n{output}"
        yield Outcome(test["name"], result, output)


def meson_part(build, suites, wrapper=None):
    """A part that runs meson tests of some suites."""

    def part(name):
        problem = build.prepare()
        if problem:
            return [Outcome("configure", "failed", problem)]
        command = ["meson", "test", "-C", str(build.path), "--logbase", name, "--num-processes",
                   str(os.cpu_count())]
        log_name = name
        if wrapper and shutil.which(wrapper[0]) and run([*wrapper, "true"]).returncode == 0:
            command += ["--wrapper", " ".join(wrapper)]
            log_name += "-" + wrapper[0]
        for suite in suites:
            command += ["--suite", suite]
        # Written only if everything compiled.
        log = build.path / "meson-logs" / f"{log_name}.json"
        log.unlink(missing_ok=True)
        done = run(command, environment=build.environment)
        if not log.exists():
            return [Outcome("build", "failed", done.stdout)]
        return list(meson_outcomes(log))

    return part


def build_all():
    """Builds what `make` builds: None, or the outcome of a failure."""
    problem = NORMAL.prepare()
    if problem:
        return Outcome("configure", "failed", problem)
    built = run(["ninja", "-C", str(BUILD)])
    return Outcome("build", "failed", built.stdout) if built.returncode else None


def pytest_part(folder, needs_build):
    """A part that runs the pytest files of a folder, for the command of the normal build."""

    def part(name):
        failure = build_all() if needs_build else None
        if failure:
            return [failure]
        log = BUILD / f"{name}-tests.xml"
        log.unlink(missing_ok=True)
        environment = dict(os.environ, SILL=str(BUILD / "sill"), PYTHONDONTWRITEBYTECODE="1")
        done = run([PYTHON, "-m", "pytest", "-q", "--tb=short", "-p", "no:cacheprovider",
                    f"--junitxml={log}", str(folder)], environment=environment)
        if not log.exists():
            return [Outcome("pytest", "failed", done.stdout)]
        outcomes = list(junit_outcomes(log))
        if done.returncode not in (0, 1):  # not a matter of single tests
            outcomes.append(Outcome("pytest", "failed", done.stdout))
        return outcomes

    return part


def junit_outcomes(log):
    """Reads the log that pytest writes in JUnit's form."""
    for case in xml.etree.ElementTree.parse(log).iter("testcase"):
        result, detail = "passed", ""
        for child in case:
            if child.tag == "skipped":
                result, detail = "skipped", child.get("message", "")
            elif child.tag in ("failure", "error"):
                result, detail = "failed", child.text or child.get("message", "")
        yield Outcome(f"{case.get('classname')}.{case.get('name')}", result, detail)


PARTS = {
    "style": pytest_part(ROOT / "tests/style", needs_build=False),
    "unit": meson_part(NORMAL, ["unit"]),
    "insn": meson_part(NORMAL, ["insn"]),
    "guest": meson_part(NORMAL, ["guest"]),
    # Not insn: its stray accesses must fault, but may meet the sanitizer's shadow memory.
    "asan": meson_part(ASAN, ["unit", "guest"]),
    # Without address randomisation, which newer kernels make too wide for this sanitizer.
    "tsan": meson_part(TSAN, ["threads"], wrapper=["setarch", "-R"]),
    "fuzz": meson_part(FUZZ, ["fuzz"]),
    "integration": pytest_part(ROOT / "tests/integration", needs_build=True),
    "systems": pytest_part(ROOT / "tests/systems", needs_build=True),
}
# They take minutes and run only when named: `make test-guests`.
LONG_PARTS = {"systems"}


def last_lines(text):
    lines = text.splitlines()
    if len(lines) > OUTPUT_LINES:
        lines = [f"[{len(lines) - OUTPUT_LINES} lines before]", *lines[-OUTPUT_LINES:]]
    return "\n".join("        " + line for line in lines)


def report(name, outcomes, seconds):
    for outcome in outcomes:
        if outcome.result == "failed":
            print(f"    FAILED {outcome.name}\n{last_lines(outcome.detail)}")
        elif outcome.result == "skipped":
            reason = outcome.detail.splitlines()[-1] if outcome.detail else "no reason given"
            reason = reason.removeprefix("skipped: ")
            print(f"    skipped {outcome.name}: {reason}")
    counts = {result: sum(outcome.result == result for outcome in outcomes)
              for result in ("passed", "failed", "skipped")}
    print(f"{name:12} {counts['passed']:4} passed {counts['failed']:4} failed "
          f"{counts['skipped']:4} skipped   {seconds:6.1f} s", flush=True)
    return counts


def choose_parts():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", help="run these parts, separated by commas")
    parser.add_argument("--skip", default="", help="leave these parts out")
    parser.add_argument("--list", action="store_true", help="print the names of the parts")
    options = parser.parse_args()
    if options.list:
        print("\n".join(PARTS))
        sys.exit(0)
    only = options.only.split(",") if options.only else [name for name in PARTS
                                                          if name not in LONG_PARTS]
    skip = options.skip.split(",") if options.skip else []
    for name in only + skip:
        if name not in PARTS:
            parser.error(f"no part '{name}'; there are: {', '.join(PARTS)}")
    return [name for name in only if name not in skip]


def main():
    total = {"passed": 0, "failed": 0, "skipped": 0}
    for name in choose_parts():
        start = time.monotonic()
        outcomes = PARTS[name](name)
        for result, count in report(name, outcomes, time.monotonic() - start).items():
            total[result] += count
    print(f"{total['passed']} passed, {total['failed']} failed, {total['skipped']} skipped")
    return 1 if total["failed"] or not total["passed"] else 0


if __name__ == "__main__":
    sys.exit(main())
