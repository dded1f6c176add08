#!/usr/bin/env python3
"""Measures Sill beside QEMU's TCG and the bare host, in one run, and prints tables.

    bench.py --build build --kernel FILE [options] [WORKLOAD | GROUP]...

Four things are measured:

  work    The program `workloads` (see main.c) on the host, in QEMU and in Sill: the same binary, the
          same kernel, initial RAM disk and command line. Systems alternate, repeat by repeat, and the
          best time of each counts, since other load on the host can only add to it. Checksums must
          agree, and the guest's clock must agree with the host's.
  smp     The group "smp" of the same program with two vCPUs.
  boot    From the start of the process to the first line of user space, and at that moment the
          process's own memory: its proportional set size without the mapping that is guest RAM.
  byte    From the start of the process to the byte that tiny.S writes.

A system that cannot do its part is shown with the reason, and the exit status is 1.
"""

import argparse
import json
import math
import os
import re
import selectors
import statistics
import subprocess
import sys
import tempfile
import time

import initramfs

MEMORY_MIB = 512
APPEND = "console=ttyS0 quiet panic=-1"
SILENCE_LIMIT = 90  # seconds without a line after which a guest counts as stuck
CLOCK_TOLERANCE = (0.05, 0.1)  # relative, plus seconds: serial output takes its time too


class Failure(Exception):
    """A system could not do what was asked; the text says why in one line."""


class Process:
    """A child process whose output lines are time-stamped as they arrive."""

    def __init__(self, command, environment=None):
        self.errors = tempfile.TemporaryFile()
        self.start = time.monotonic()
        self.child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                      stderr=self.errors, env=environment)
        self.selector = selectors.DefaultSelector()
        self.selector.register(self.child.stdout, selectors.EVENT_READ)
        self.last_line = ""

    def chunks(self):
        """Yields (seconds since the start, bytes) until the output ends."""
        while True:
            if not self.selector.select(SILENCE_LIMIT):
                raise Failure(f"silent for {SILENCE_LIMIT} s after \"{self.last_line}\"")
            data = os.read(self.child.stdout.fileno(), 65536)
            if not data:
                return
            yield time.monotonic() - self.start, data

    def lines(self):
        """Yields (seconds since the start, line)."""
        rest = b""
        for moment, data in self.chunks():
            *whole, rest = (rest + data).split(b"\n")
            for line in whole:
                self.last_line = line.decode(errors="replace").strip()
                yield moment, self.last_line

    def reason(self):
        """Why a process that ended early did so: its last words."""
        status = self.child.wait()
        self.errors.seek(0)
        words = self.errors.read().decode(errors="replace").strip().splitlines()
        return (words[-1] if words else self.last_line or "no output") + f" (status {status})"

    def close(self):
        if self.child.poll() is None:
            self.child.kill()
        self.child.wait()
        self.child.stdout.close()
        self.selector.close()
        self.errors.close()


class Host:
    """The bare machine."""

    name = "host"

    def __init__(self, options):
        self.workloads = options.workloads
        self.environment = dict(os.environ, BUSYBOX=options.busybox)

    def start_work(self, arguments, cpus, directory):
        return Process([self.workloads, *arguments], self.environment)


class Guest:
    """A virtual machine; the subclasses say how its command line looks."""

    def __init__(self, options):
        self.options = options

    def start_work(self, arguments, cpus, directory):
        initrd = os.path.join(directory, "initrd")
        initramfs.write(initrd, self.options.busybox, self.options.workloads, " ".join(arguments))
        return Process(self.linux_command(cpus, self.options.kernel, initrd))


class Tcg(Guest):
    name = "tcg"

    def machine(self, cpus):
        return [self.options.qemu, "-accel", "tcg", "-cpu", "max", "-machine", "q35", "-nodefaults",
                "-no-user-config", "-display", "none", "-serial", "stdio", "-no-reboot",
                "-m", str(MEMORY_MIB), "-smp", str(cpus)]

    def linux_command(self, cpus, kernel, initrd):
        return self.machine(cpus) + ["-kernel", kernel, "-initrd", initrd, "-append", APPEND]

    def tiny_command(self):
        return self.machine(1) + ["-device", "isa-debug-exit,iobase=0xf4",
                                  "-kernel", self.options.tiny]


class Sill(Guest):
    name = "sill"

    def machine(self, cpus):
        return [self.options.sill, "run", "--engine", self.options.engine, "--cpus", str(cpus),
                "--memory", f"{MEMORY_MIB}M", "--console", "stdio", "--display", "none",
                "--no-reboot"]

    def linux_command(self, cpus, kernel, initrd):
        return self.machine(cpus) + ["--kernel", kernel, "--initrd", initrd, "--append", APPEND]

    def tiny_command(self):
        return self.machine(1) + ["--device", "debug-exit", "--kernel", self.options.tiny]


class Work:
    """The results of one workload on one system."""

    def __init__(self, group, seconds, checksum, clock_error):
        self.group = group
        self.seconds = seconds  # of one iteration
        self.checksum = checksum
        self.clock_error = clock_error  # None, or a remark


def clock_remark(own, wall):
    relative, absolute = CLOCK_TOLERANCE
    if abs(own - wall) > relative * wall + absolute:
        return f"its clock counted {own:.2f} s, the host's {wall:.2f} s"
    return None


def run_work(system, arguments, cpus, directory):
    """Returns {workload: Work}; raises Failure (with what was measured before in .done)."""
    done = {}
    begin = 0.0
    try:
        process = system.start_work(arguments, cpus, directory)
    except OSError as error:
        raise Failure(str(error)) from error
    try:
        for moment, line in process.lines():
            words = line.split()
            if words[:1] == ["begin"]:
                begin = moment
            elif words[:1] == ["result"] and len(words) == 7:
                _, name, group, iterations, seconds, checksum, total = words
                done[name] = Work(group, float(seconds) / int(iterations), checksum,
                                  clock_remark(float(total), moment - begin))
        if not done or process.child.wait() != 0:
            raise Failure(process.reason())
    except Failure as failure:
        failure.done = done
        raise
    finally:
        process.close()
    return done


def collect_work(systems, options, arguments, cpus):
    """Alternates over the systems; returns results[system][workload] and failures[system]."""
    results = {system.name: {} for system in systems}
    failures = {}
    for repeat in range(options.repeats):
        for system in systems:
            if system.name in failures:
                continue
            progress(f"work on {system.name}, {cpus} CPU, {repeat + 1} of {options.repeats}")
            with tempfile.TemporaryDirectory() as directory:
                try:
                    found = run_work(system, arguments, cpus, directory)
                except Failure as failure:
                    failures[system.name] = str(failure)
                    found = getattr(failure, "done", {})
            for name, work in found.items():
                best = results[system.name].get(name)
                if best is None or work.seconds < best.seconds:
                    results[system.name][name] = work
    return results, failures


def own_memory(pid):
    """MiB of a process's proportional set size that are not guest RAM.

    Guest RAM is the mapping of about the guest's memory size that is anonymous, or a memfd with "ram"
    in its name. (Code caches are larger or smaller, or executable.)
    """
    total, is_ram = 0, False
    with open(f"/proc/{pid}/smaps", encoding="ascii", errors="replace") as smaps:
        for line in smaps:
            head = re.match(r"([0-9a-f]+)-([0-9a-f]+) (\S+) \S+ \S+ \d+ *(.*)", line)
            if head:
                size = (int(head[2], 16) - int(head[1], 16)) >> 20
                is_ram = (0.9 * MEMORY_MIB < size < 1.1 * MEMORY_MIB and "x" not in head[3]
                          and (not head[4] or "ram" in head[4]))
            elif line.startswith("Pss:") and not is_ram:
                total += int(line.split()[1])
    return total / 1024


def boot_once(system):
    """Returns (seconds to the first line of user space, MiB of memory then)."""
    with tempfile.TemporaryDirectory() as directory:
        process = system.start_work(["none"], 1, directory)
        try:
            for moment, line in process.lines():
                if line == "bench: user space":
                    return moment, own_memory(process.child.pid)
            raise Failure(process.reason())
        finally:
            process.close()


def byte_once(system):
    """Returns the seconds to the tiny guest's byte."""
    process = Process(system.tiny_command())
    try:
        for moment, data in process.chunks():
            if b"S" in data:
                return moment
        raise Failure(process.reason())
    finally:
        process.close()


def repeat_on_guests(systems, options, once):
    """Alternates `once` over the guests; returns {system: [value]} and {system: reason}."""
    values, failures = {}, {}
    for _ in range(options.repeats + 2):
        for system in systems:
            if isinstance(system, Host) or system.name in failures:
                continue
            try:
                value = once(system)
            except (Failure, OSError) as failure:
                failures[system.name] = str(failure)
            else:
                values.setdefault(system.name, []).append(value)
    return values, failures


def geometric_mean(values):
    values = list(values)
    return math.exp(sum(map(math.log, values)) / len(values)) if values else None


def cell(value, width=10, digits=2):
    return f"{value:{width}.{digits}f}" if value is not None else " " * (width - 1) + "-"


def print_work(title, results, failures):
    """The table of workloads; returns whether all is well."""
    names = list(dict.fromkeys(name for of in results.values() for name in of))
    good = not failures
    print(f"\n{title}: time of one round in ms, slowdown against the host, speed-up over TCG\n")
    print(f"{'workload':16} {'group':8} {'host':>10}{'TCG':>10}{'Sill':>10}"
          f"{'TCG/host':>10}{'Sill/host':>10}{'TCG/Sill':>10}")
    ratios = {}
    for name in names:
        work = {system: of.get(name) for system, of in results.items()}
        any_work = next(w for w in work.values() if w)
        ms = {s: w.seconds * 1e3 if w else None for s, w in work.items()}

        def ratio(above, below):
            return ms[above] / ms[below] if ms.get(above) and ms.get(below) else None

        row = (ratio("tcg", "host"), ratio("sill", "host"), ratio("tcg", "sill"))
        ratios[name] = (any_work.group, row)
        print(f"{name:16} {any_work.group:8} {cell(ms.get('host'), 10, 3)}"
              f"{cell(ms.get('tcg'), 10, 3)}{cell(ms.get('sill'), 10, 3)}"
              + "".join(cell(value) for value in row))
        if len({w.checksum for w in work.values() if w}) > 1:
            good = False
            print("    WRONG: checksums differ: "
                  + ", ".join(f"{s} {w.checksum}" for s, w in work.items() if w))
        for system, w in work.items():
            if w and w.clock_error:
                print(f"    note: {system}: {w.clock_error}")
    groups = list(dict.fromkeys(group for group, _ in ratios.values()))
    sets = [(group, {group}) for group in groups]
    if {"float", "simd"} <= set(groups):
        sets.append(("float and simd", {"float", "simd"}))
    if len(groups) > 1:
        sets.append(("all", set(groups)))
    print()
    for label, members in sets:
        means = [geometric_mean(row[column] for group, row in ratios.values()
                                if group in members and row[column]) for column in range(3)]
        print(f"{'geometric mean, ' + label:55}" + "".join(cell(mean) for mean in means))
    for system, reason in failures.items():
        print(f"{system} fails: {reason}")
    return good


def print_times(title, unit, values, failures, pick=lambda value: value):
    print(f"\n{title}\n")
    for system, found in values.items():
        numbers = [pick(value) for value in found]
        print(f"{system:8} best {min(numbers):9.2f} {unit}   median "
              f"{statistics.median(numbers):9.2f} {unit}   ({len(numbers)} runs)")
    for system, reason in failures.items():
        print(f"{system:8} fails: {reason}")
    return not failures


def progress(text):
    if sys.stderr.isatty():
        print(f"\r\033[K{text} ", end="", file=sys.stderr, flush=True)


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default="build", help="build directory (default: build)")
    parser.add_argument("--kernel", required=True, help="the guests' bzImage")
    parser.add_argument("--busybox", default="/bin/busybox", help="a static busybox")
    parser.add_argument("--qemu", default="qemu-system-x86_64")
    parser.add_argument("--engine", default="dbt", help="Sill's engine (default: dbt)")
    parser.add_argument("--systems", default="host,tcg,sill", help="which to measure")
    parser.add_argument("--only", default="work,smp,boot,byte", help="which parts to measure")
    parser.add_argument("--time", type=float, default=0.3, help="seconds for each workload")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", help="also write the results to this file")
    parser.add_argument("names", nargs="*", help="workloads or groups (default: all)")
    options = parser.parse_args()
    options.sill = os.path.join(options.build, "sill")
    options.workloads = os.path.join(options.build, "tests/perf/workloads")
    options.tiny = os.path.join(options.build, "tests/perf/tiny.elf")
    return options


def main():
    options = parse_options()
    kinds = {kind.name: kind for kind in (Host, Tcg, Sill)}
    systems = [kinds[name](options) for name in options.systems.split(",")]
    parts = options.only.split(",")
    good = True
    report = {}

    if "byte" in parts:
        values, failures = repeat_on_guests(systems, options, byte_once)
        good &= print_times("Process start to the first byte of a tiny guest", "ms", values,
                            failures, lambda seconds: seconds * 1e3)
        report["byte"] = values
    if "boot" in parts:
        values, failures = repeat_on_guests(systems, options, boot_once)
        good &= print_times("Process start to the kernel's first line of user space", "s", values,
                            failures, lambda value: value[0])
        print_times(f"Memory beyond the guest's {MEMORY_MIB} MiB after that boot", "MiB", values, {},
                    lambda value: value[1])
        report["boot"] = values
    for part, cpus, names in (("work", 1, options.names), ("smp", 2, ["smp"])):
        if part not in parts:
            continue
        arguments = ["-t", str(options.time), *names]
        results, failures = collect_work(systems, options, arguments, cpus)
        progress("")
        title = "Workloads" if part == "work" else "Two vCPUs"
        good &= print_work(title, results, failures)
        report[part] = {s: {n: w.seconds for n, w in of.items()} for s, of in results.items()}
    if options.json:
        with open(options.json, "w", encoding="ascii") as file:
            json.dump(report, file, indent=1)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
