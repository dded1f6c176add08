"""The Linux kernel's own tests of x86 (tools/testing/selftests/x86): what they find on a real processor
they find here. They come from Debian's linux-source package and are linked statically."""

import re
import subprocess

import pytest

import images

SOURCE = "linux-source-6.1"
SELFTESTS = f"{SOURCE}/tools/testing/selftests"

# Exit status 4 says "skipped"; amx ends with an error where the processor has no AMX.
SKIPPED = 4
NOT_OFFERED = {"amx_64"}

INIT = """\
#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs tmp /tmp
cd /tmp
for program in /selftests/*; do
    timeout 300 $program >/tmp/output 2>&1
    status=$?
    [ $status = 0 ] || cat /tmp/output
    echo "selftest: ${program##*/} $status"
done
echo "selftests: end"
poweroff -f
"""


@pytest.fixture(scope="module")
def programs():
    """The folder with the built tests."""
    folder = images.FOLDER / "selftests"
    done = folder / "x86"
    if not done.exists():
        try:
            source = images.package(images.FOLDER, SOURCE, "./usr/src/*.tar.xz")
            archive = source / f"usr/src/{SOURCE}.tar.xz"
            folder.mkdir(exist_ok=True)
            images.run("tar", "-C", folder, "-xf", archive,
                       f"{SOURCE}/arch/x86/include", f"{SOURCE}/tools/include", SELFTESTS)
        except RuntimeError as why:
            pytest.skip(str(why))
        with images.finished(done) as new:
            new.mkdir()
            images.run("make", "-C", folder / SELFTESTS / "x86", f"OUTPUT={new}",
                       "EXTRA_CFLAGS=-static")
    return done


@pytest.fixture
def initrd(programs, tmp_path):
    stage = tmp_path / "stage"
    for name in ("bin", "dev", "proc", "selftests", "sys", "tmp"):
        (stage / name).mkdir(parents=True)
    images.run("cp", "/bin/busybox", stage / "bin")
    for program in programs.glob("*_[36][24]"):
        images.run("cp", program, stage / "selftests")
    (stage / "init").write_text(INIT)
    (stage / "init").chmod(0o755)
    result = tmp_path / "initrd.img"
    with result.open("wb") as file:
        names = [str(path.relative_to(stage)) for path in sorted(stage.rglob("*"))]
        subprocess.run(["cpio", "--quiet", "-o", "-H", "newc", "--owner=0:0"], cwd=stage, check=True,
                       input="\n".join(names).encode(), stdout=file)
    return result


@pytest.mark.parametrize("cpus", [1, 2])
def test_kernel_selftests(start, initrd, cpus):
    kernel = images.debian_kernel(images.FOLDER)
    machine = start("--cpus", cpus, "--kernel", kernel, "--initrd", initrd, "--append",
                    "console=ttyS0 quiet panic=-1")
    machine.expect_exact("selftests: end")
    output = machine.before
    results = dict(re.findall(r"selftest: (\S+) (\d+)", output))
    failed = [name for name, status in results.items()
              if int(status) not in (0, SKIPPED) and name not in NOT_OFFERED]
    assert len(results) > 30, output
    assert not failed, output
