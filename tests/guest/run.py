#!/usr/bin/env python3
"""Runs one test guest on one engine (meson's suite "guest").

    run.py SILL ENGINE GUEST [--cpus N] [--memory SIZE] [--append STRING] [--device NAME]...
           [--timeout SECONDS]

The guest passes if it ends through debug-exit with the status for success, has said so, and has
printed no line with FAIL. Exit status 0, 1, or 77 (skipped, with the reason) where the engine is not
usable here or runs supervisor code by emulation, which is not what these tests are about.
"""

import argparse
import subprocess
import sys

STATUS_GOOD = 33  # (0x10 << 1) | 1, see lib/guest.h
SKIPPED = 77


def why_not(sill, engine):
    """None if the engine runs supervisor code at full speed, else the line that says otherwise."""
    done = subprocess.run([sill, "engines"], stdout=subprocess.PIPE, text=True, check=True)
    for line in done.stdout.splitlines():
        words = line.split()
        if words[:1] == [engine]:
            slow = words[1] != "yes" or "emulates" in line
            return " ".join(words[3:]) if slow else None
    return f"{sill} engines does not name {engine}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sill")
    parser.add_argument("engine")
    parser.add_argument("guest")
    parser.add_argument("--cpus", default="1")
    parser.add_argument("--memory", default="64M")
    parser.add_argument("--append", default="")
    parser.add_argument("--device", action="append", default=[])
    parser.add_argument("--timeout", type=float, default=20)
    options = parser.parse_args()

    if options.engine == "kvm":
        reason = why_not(options.sill, options.engine)
        if reason:
            print(f"skipped: {reason}")
            return SKIPPED
    command = [options.sill, "run", "--quiet", "--engine", options.engine, "--cpus", options.cpus,
               "--memory", options.memory, "--kernel", options.guest, "--device", "debug-exit",
               "--console", "stdio", "--display", "none", "--no-reboot"]
    for device in options.device:
        command += ["--device", device]
    if options.append:
        command += ["--append", options.append]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, errors="replace",
                              timeout=options.timeout, check=False)
        output, status = done.stdout, done.returncode
    except subprocess.TimeoutExpired as expired:
        output = (expired.stdout or b"").decode(errors="replace")
        status = f"none, ended after {options.timeout} s"
    lines = output.splitlines()
    good = (status == STATUS_GOOD and any(line.startswith("PASSED") for line in lines)
            and not any("FAIL" in line for line in lines))
    print(output)
    print(f"exit status {status}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
