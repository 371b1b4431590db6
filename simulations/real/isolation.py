"""A world of our own within this machine: networks, mounts and processes that end with us.

Owns entering it by util-linux's `unshare`, and finding out whether this machine lets us.
Does not own what is built inside (`wires`, `disks`). Nothing of it outlives its first
process, whatever ends that: the kernel takes namespaces and all in them away.
"""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Final

from .process import STOP_S

TOOLS: Final = ("setpriv", "unshare", "nsenter", "ip", "bridge", "mount")
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


def enter(arguments: Sequence[str]) -> int:
    """Run the program, with these arguments, as the first process of such a world.

    Returns its exit status. If this process is told to end, it ends too; if this one is
    killed, the kernel kills it, and with it all that it started.
    """
    program = [sys.executable, "-m", "simulations.real", *arguments]
    outside = {INSIDE: str(_NETWORK.readlink())}
    process = subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", *_unshare(*program)],
        env=os.environ | outside,
    )
    try:
        return process.wait()
    except BaseException:  # `unshare` takes no notice of what would end it
        for child in _children(process.pid):
            os.kill(child, signal.SIGTERM)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        raise


def _children(pid: int) -> list[int]:
    try:
        return [
            int(w) for w in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        ]
    except OSError:
        return []


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
