"""What tools can say about the form of the sources: layers, head comments, format, left-overs.

Each test looks at the whole tree and lists every place that breaks its rule.
"""

import pathlib
import re
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]

# From low to high: a file may include what belongs to its own layer or to one before it.
LAYERS = ["base", "state", "mem", "bus", "x86", "engine", "net", "block", "dev", "boot", "machine",
          "vm"]

UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
SOMEBODYS_PATH = re.compile(r"/(home|root|work|Users)/")


def tracked(*patterns):
    """The files of the tree that git knows."""
    listed = subprocess.run(["git", "ls-files", "--", *patterns], cwd=ROOT, text=True,
                            stdout=subprocess.PIPE, check=True).stdout.split("\n")
    return [ROOT / name for name in listed if name and (ROOT / name).is_file()]


def place(path, line):
    return f"{path.relative_to(ROOT)}:{line}"


def numbered_lines(path):
    return enumerate(path.read_text(encoding="utf-8").splitlines(), 1)


def layer_problems(path):
    own = path.relative_to(ROOT / "src").parts[0]
    for number, line in numbered_lines(path):
        included = re.match(r'\s*#\s*include\s+"([^"]+)"', line)
        if not included:
            continue
        layer, _, rest = included.group(1).partition("/")
        if not rest:  # made by the build, or else it would have to be named from src/ on
            if (path.parent / layer).exists():
                yield f'{place(path, number)}: "{layer}" is not written from src/ on'
        elif layer not in LAYERS:
            yield f"{place(path, number)}: {layer} is no layer"
        elif LAYERS.index(layer) > LAYERS.index(own):
            yield f"{place(path, number)}: {own} includes {layer}, which lies above it"


def test_includes_point_down_the_layers_only():
    problems = [problem for path in tracked("src/*.c", "src/*.h", "src/*.S")
                for problem in layer_problems(path)]
    assert not problems, "\n".join(problems)


def test_every_folder_of_src_is_a_layer():
    assert {path.name for path in (ROOT / "src").iterdir() if path.is_dir()} <= set(LAYERS)


def test_every_source_file_says_what_it_is():
    problems = [str(path.relative_to(ROOT)) for path in tracked("*.c", "*.h", "*.S")
                if not path.read_text(encoding="utf-8").lstrip().startswith("/*")]
    assert not problems, "no comment at the head of: " + ", ".join(problems)


def test_headers_guard_themselves_by_their_path():
    problems = []
    for path in tracked("src/*.h"):
        relative = path.relative_to(ROOT / "src")
        guard = "SILL_" + re.sub(r"[^A-Z0-9]", "_", str(relative).upper())
        if f"#ifndef {guard}\n#define {guard}\n" not in path.read_text(encoding="utf-8"):
            problems.append(f"{relative}: the guard is not {guard}")
    assert not problems, "\n".join(problems)


def test_sources_have_the_form_of_clang_format():
    if not shutil.which("clang-format"):
        pytest.fail("clang-format is not installed: tools/install-deps test")
    files = [str(path) for path in tracked("*.c", "*.h")]
    done = subprocess.run(["clang-format", "--dry-run", "-Werror", *files], text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + "\nmake fmt puts it right"


def test_nothing_is_left_unfinished_or_bound_to_one_machine():
    problems = []
    for path in tracked("*.c", "*.h", "*.S", "*.asl", "*.py", "*.sh", "*.md", "*meson.build",
                        "tools/*", "GNUmakefile", ".ci/*"):
        if path == pathlib.Path(__file__).resolve():
            continue
        for number, line in numbered_lines(path):
            if UNFINISHED.search(line) or SOMEBODYS_PATH.search(line):
                problems.append(f"{place(path, number)}: {line.strip()}")
    assert not problems, "\n".join(problems)


def test_text_is_plain():
    """ASCII, no tabs but in make files, no spaces at the ends of lines, a newline at the end."""
    problems = []
    for path in tracked("*.c", "*.h", "*.S", "*.asl", "*.py", "*.sh", "*meson.build", "tools/*"):
        text = path.read_text(encoding="utf-8")
        if text and not text.endswith("\n"):
            problems.append(f"{path.relative_to(ROOT)}: no newline at the end")
        for number, line in numbered_lines(path):
            if not line.isascii() or "\t" in line or line != line.rstrip():
                problems.append(place(path, number))
    assert not problems, "\n".join(problems)


def test_every_promise_names_tests_that_exist():
    problems = []
    for number, line in numbered_lines(ROOT / "SPECIFICATION.md"):
        for name in re.findall(r"`(tests/[^`]+)`", line):
            path, _, test = name.partition("::")
            file = ROOT / path
            if not file.is_file():
                problems.append(f"SPECIFICATION.md:{number}: no file {path}")
            elif test and not re.search(rf"\b{test}\(", file.read_text(encoding="utf-8")):
                problems.append(f"SPECIFICATION.md:{number}: {path} has no {test}")
        if line.startswith("| ") and "`" not in line.split("|")[-2] and "shown by" not in line:
            problems.append(f"SPECIFICATION.md:{number}: nothing shows this")
    assert not problems, "\n".join(problems)
