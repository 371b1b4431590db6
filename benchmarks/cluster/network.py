"""A network of our own, whose only interface is loopback: its counters count nobody else.

Owns entering it, and reading what it carried. Linux alone has one; elsewhere bytes are not
told.
"""

import ctypes
import fcntl
import socket
import struct
from pathlib import Path
from typing import Final

_CLONE_NEWNET: Final = 0x40000000
_SIOCSIFFLAGS: Final = 0x8914
_UP_RUNNING: Final = 0x41


def isolate() -> bool:
    """Move this process, and what it starts, to a network of its own; tell if it did."""
    try:
        if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNET) != 0:
            return False
        with socket.socket() as any_:
            flags = struct.pack("16sh", b"lo", _UP_RUNNING)
            fcntl.ioctl(any_, _SIOCSIFFLAGS, flags)
    except (AttributeError, OSError):
        return False
    return True


def loopback_bytes() -> int:
    """Return how many bytes went over loopback, with the headers of IP and TCP."""
    for line in Path("/proc/net/dev").read_text().splitlines():
        name, _, counts = line.partition(":")
        if name.strip() == "lo":
            return int(counts.split()[0])
    return 0
