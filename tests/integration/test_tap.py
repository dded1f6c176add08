"""A tap network: both cards under Linux's own drivers, against a server on the host's side of the
device, in a network namespace of its own. Run as a program this file is that server."""

import hashlib
import http.server
import os
import re
import subprocess
import sys

import pytest

from conftest import SCRIPTED_APPEND, SILL, TIMEOUT, Run
from test_net import SIZE, Server, e1000e, virtio  # noqa: F401  (fixtures)

HOST = "10.9.0.1"
PORT = 8000
MTU = 1500

NAMESPACE = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--net", "--map-root-user"]
DEVICE = f"ip tuntap add tap0 mode tap && ip address add {HOST}/24 dev tap0 && ip link set tap0 up"

COMMANDS = """\
{load}
ip link set eth0 up
ip address add 10.9.0.2/24 dev eth0
ping -c 1 -W 30 {host} >/dev/null && echo "ping: answered"
until wget -q -O /tmp/data http://{host}:{port}/; do sleep 1; done
echo "downloaded: $(sha256sum </tmp/data)"
echo "in $(cat /sys/class/net/eth0/statistics/rx_packets) frames."
(printf 'POST / HTTP/1.0\\r\\nContent-Length: {size}\\r\\n\\r\\n'; cat /tmp/data) |
    nc {host} {port} | grep uploaded
"""


@pytest.fixture(scope="module")
def tap():
    """That the host lets us make such a device."""
    done = subprocess.run([*NAMESPACE, "sh", "-c", DEVICE], capture_output=True, text=True,
                          timeout=TIMEOUT, check=False)
    if done.returncode:
        pytest.skip(f"no tap device can be made here: {done.stderr.strip()}")


@pytest.mark.parametrize("model", ["virtio", "e1000e"])
def test_guest_and_host_reach_each_other(model, request, scripted, tap):
    card = request.getfixturevalue(model)
    initrd = scripted(COMMANDS.format(load=card.load, host=HOST, port=PORT, size=SIZE),
                      files={"driver.ko": card.module})
    run = [SILL, "run", "--engine", "dbt", "--quiet", "--kernel", card.kernel, "--initrd", initrd,
           "--append", SCRIPTED_APPEND, "--net", f"tap=tap0,model={card.model}"]
    child = Run(NAMESPACE[0],
                [*NAMESPACE[1:], "sh", "-c",
                 f'{DEVICE}; "$1" "$2" & server=$!; shift 2; "$@"; code=$?; kill $server; '
                 "exit $code", "sh", sys.executable, __file__, *map(str, run)],
                timeout=TIMEOUT, encoding="utf-8", codec_errors="replace", dimensions=(24, 80))
    try:
        digest = hashlib.sha256(Server.data).hexdigest()
        child.expect_exact("ping: answered")
        child.expect_exact(f"downloaded: {digest}")
        child.expect(re.compile(r"in (\d+) frames\."))
        # virtio's driver takes frames that nobody has segmented.
        assert (int(child.match[1]) < SIZE // MTU // 2) == (card.model == "virtio")
        child.expect_exact(f"uploaded: {digest}")
        child.expect_exact("guest: end")
        child.wait()
        assert child.exitstatus == 0
    finally:
        child.close(force=True)


if __name__ == "__main__":
    http.server.ThreadingHTTPServer((HOST, PORT), Server).serve_forever()
