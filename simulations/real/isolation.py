"""A world of our own within this machine: networks, mounts and processes that end with us.

Owns entering it by util-linux's `unshare`, and finding out whether this machine lets us.
Does not own what is built inside (`wires`, `disks`). Nothing of it outlives its first
process, whatever ends that: the kernel takes namespaces and all in them away.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Final, NoReturn

TOOLS: Final = ("unshare", "nsenter", "ip", "bridge", "mount")
INSIDE: Final = "CRDTMERGE_REAL_INSIDE"
"""In the environment of who is inside: the network that is outside."""
_NETWORK: Final = Path("/proc/self/ns/net")
PROBE_S: Final = 60.0


def _unshare(*command: str) -> list[str]:
    who = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    kinds = ["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    return ["unshare", *who, *kinds, "--", *command]


@cache
def refusal() -> str:
    """Return why there can be no such world here; empty if there can."""
    lacking = [tool for tool in TOOLS if shutil.which(tool) is None]
    if not sys.platform.startswith("linux"):
        return "namespaces are Linux's"
    if lacking:
        return f"there is no {', '.join(lacking)} here"
    trial = (
        "ip link set lo up && mount -t tmpfs none /run && mkdir /run/netns"
        " && ip netns add trial && ip link add t0 type veth peer name t1"
        " && ip link add b0 type bridge && ip link set t0 master b0"
        " && ip link set t1 netns trial"
    )
    command = _unshare("sh", "-c", trial)
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=PROBE_S
        )
    except subprocess.TimeoutExpired:
        return "namespaces do not come about"
    said = (done.stderr.strip() or "no reason given").splitlines()[-1]
    return "" if done.returncode == 0 else f"namespaces are refused: {said}"


def inside() -> bool:
    """Tell whether this process is in such a world, whatever its environment says."""
    outside = os.environ.get(INSIDE)
    return outside is not None and outside != str(_NETWORK.readlink())


def enter(arguments: Sequence[str]) -> NoReturn:
    """Become the first process of such a world, with these arguments."""
    program = [sys.executable, "-m", "simulations.real", *arguments]
    command = _unshare(*program)
    outside = {INSIDE: str(_NETWORK.readlink())}
    os.execvpe(command[0], command, os.environ | outside)  # noqa: S606


def begin() -> None:
    """Let there be a loopback inside."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


def has_netem() -> bool:
    """Tell whether the kernel can lose and delay packets; asked inside."""
    words = "tc qdisc add dev lo root netem loss 1% && tc qdisc del dev lo root"
    if shutil.which("tc") is None:
        return False
    done = subprocess.run(["sh", "-c", words], capture_output=True, check=False)
    return done.returncode == 0


def has_tap() -> bool:
    """Tell whether we may make cards whose other end is ours."""
    return os.access("/dev/net/tun", os.R_OK | os.W_OK)
