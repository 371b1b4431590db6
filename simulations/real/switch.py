"""An Ethernet switch in this process that loses, delays, doubles and corrupts frames.

Owns the frames between the cards of members (TAP devices) and their fate, drawn from a
seed; for kernels without netem. Does not own the cards' other end (`wires`). It knows who
is where by Ethernet address, and drops what is for nobody.
"""

import fcntl
import heapq
import itertools
import os
import random
import selectors
import struct
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

_TUNSETIFF: Final = 0x400454CA
_TAP_WITHOUT_HEADER: Final = 0x1002
FRAME_MAX: Final = 65_536
WAITING_MAX: Final = 4096
"""Frames held up at once; more are lost, as in any switch."""
IDLE_S: Final = 0.05
IP_HEADER: Final = 20
ETHERNET: Final = 14


@dataclass(frozen=True, slots=True)
class Weather:
    """The fate of frames; chances are of each frame, times in seconds."""

    loss: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    """Chance that a frame is held up for as long again as all are, and overtaken."""
    corrupt: float = 0.0
    """Chance that one bit of it is turned over; TCP's checksum drops it."""
    disguise: float = 0.0
    """Chance that one bit is turned over and the checksum made to fit, as by bad memory
    in a router: only what TCP carries can notice."""
    delay: float = 0.0
    jitter: float = 0.0

    def netem(self) -> str:
        """Return the same in the words of netem, which has no disguise."""
        return (
            f"loss {self.loss:.2%} duplicate {self.duplicate:.2%}"
            f" corrupt {self.corrupt:.2%} delay {self.delay * 1000:.0f}ms"
            f" {self.jitter * 1000:.0f}ms reorder {self.reorder:.2%}"
        )


CALM: Final = Weather()


def open_tap(name: str) -> int:
    """Make a card; return the file whose other end it is."""
    file = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(
        file, _TUNSETIFF, struct.pack("16sH", name.encode(), _TAP_WITHOUT_HEADER)
    )
    return file


class Switch(threading.Thread):
    """Passes frames on between cards until it is stopped."""

    def __init__(self, taps: Mapping[str, int], seed: int = 0) -> None:
        """Know the cards, by their Ethernet address."""
        super().__init__(daemon=True)
        self._taps = {bytes.fromhex(a.replace(":", "")): f for a, f in taps.items()}
        self._rng = random.Random(seed)
        self._late: list[tuple[float, int, int, bytes]] = []
        self._numbers = itertools.count()
        self._over = threading.Event()
        self.weather = CALM
        self.fates: Counter[str] = Counter()
        """Frames by what became of them."""

    def run(self) -> None:
        """Read and pass on, in this thread."""
        with selectors.DefaultSelector() as ready:
            for file in self._taps.values():
                ready.register(file, selectors.EVENT_READ)
            while not self._over.is_set():
                for key, _ in ready.select(self._patience()):
                    self._take(key.fd)
                self._deliver()
        for file in self._taps.values():
            os.close(file)

    def stop(self) -> None:
        """End, and close the cards."""
        self._over.set()
        self.join()

    def _patience(self) -> float:
        if not self._late:
            return IDLE_S
        return min(IDLE_S, max(0.0, self._late[0][0] - time.monotonic()))

    def _take(self, file: int) -> None:
        try:
            frame = os.read(file, FRAME_MAX)
        except OSError:  # the card is down, or there is nothing after all
            return
        to = self._taps.get(frame[:6])
        if to is None:
            self.fates["for nobody"] += 1
            return
        for _ in range(self._copies()):
            self._hold(to, self._changed(frame))

    def _copies(self) -> int:
        rng, weather = self._rng, self.weather
        if rng.random() < weather.loss or len(self._late) >= WAITING_MAX:
            self.fates["lost"] += 1
            return 0
        if rng.random() < weather.duplicate:
            self.fates["doubled"] += 1
            return 2
        return 1

    def _changed(self, frame: bytes) -> bytes:
        rng, weather = self._rng, self.weather
        if rng.random() < weather.corrupt:
            self.fates["corrupted"] += 1
            return _flipped(frame, ETHERNET, rng)
        if rng.random() < weather.disguise and (whole := _disguised(frame, rng)):
            self.fates["corrupted in disguise"] += 1
            return whole
        return frame

    def _hold(self, to: int, frame: bytes) -> None:
        rng, weather = self._rng, self.weather
        wait = max(0.0, weather.delay + rng.uniform(-1, 1) * weather.jitter)
        if rng.random() < weather.reorder:
            self.fates["overtaken"] += 1
            wait += weather.delay + weather.jitter
        due = time.monotonic() + wait
        heapq.heappush(self._late, (due, next(self._numbers), to, frame))

    def _deliver(self) -> None:
        now = time.monotonic()
        while self._late and self._late[0][0] <= now:
            _, _, to, frame = heapq.heappop(self._late)
            try:
                os.write(to, frame)
            except OSError:  # the card is down
                self.fates["for nobody"] += 1
            else:
                self.fates["passed on"] += 1


def _flipped(frame: bytes, first: int, rng: random.Random) -> bytes:
    """Turn over one bit at or behind byte `first`."""
    changed = bytearray(frame)
    changed[rng.randrange(first, len(frame))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _disguised(frame: bytes, rng: random.Random) -> bytes | None:
    """Turn over one bit of what TCP carries, and mend the checksum; None if it has none."""
    ip = ETHERNET
    if frame[12:14] != b"\x08\x00" or frame[ip + 9] != 6:
        return None
    tcp = ip + (frame[ip] & 15) * 4
    end = ip + int.from_bytes(frame[ip + 2 : ip + 4], "big")
    body = tcp + (frame[tcp + 12] >> 4) * 4
    if body >= end:
        return None
    changed = bytearray(_flipped(frame[:end], body, rng))
    changed[tcp + 16 : tcp + 18] = b"\0\0"
    segment = bytes(changed[tcp:end])
    pseudo = frame[ip + 12 : ip + 20] + struct.pack("!HH", 6, len(segment))
    changed[tcp + 16 : tcp + 18] = struct.pack(
        "!H", internet_checksum(pseudo + segment)
    )
    return bytes(changed)


def internet_checksum(data: bytes) -> int:
    """Return the checksum of RFC 1071."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
