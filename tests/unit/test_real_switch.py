"""The switch of real storms: what it does to frames, with no network at all."""

import random
import struct

import pytest

from simulations.real.switch import (
    CALM,
    Switch,
    Weather,
    _disguised,
    internet_checksum,
)

ANN, BEN = bytes.fromhex("020000000001"), bytes.fromhex("020000000002")
TAPS = {"02:00:00:00:00:01": 101, "02:00:00:00:00:02": 102}


def frame(body: bytes, protocol: int = 6) -> bytes:
    """Return an Ethernet frame from ann to ben with one TCP segment."""
    segment = struct.pack("!HHIIBBHHH", 1, 2, 3, 4, 5 << 4, 0x18, 64, 0, 0) + body
    address = bytes([10, 77, 0, 1]), bytes([10, 77, 0, 2])
    segment = (
        segment[:16] + struct.pack("!H", checksum(address, segment)) + segment[18:]
    )
    length = 20 + len(segment)
    ip = struct.pack("!BBHHHBBH", 0x45, 0, length, 1, 0, 64, protocol, 0)
    return BEN + ANN + b"\x08\x00" + ip + b"".join(address) + segment


def checksum(address: tuple[bytes, bytes], segment: bytes) -> int:
    pseudo = b"".join(address) + struct.pack("!HH", 6, len(segment))
    return internet_checksum(pseudo + segment[:16] + b"\0\0" + segment[18:])


def test_the_checksum_is_that_of_the_standard() -> None:
    """The example of RFC 1071, whose sum is ddf2."""
    data = bytes.fromhex("0001f203f4f5f6f7")
    assert internet_checksum(data) == ~0xDDF2 & 0xFFFF
    assert internet_checksum(b"\1") == internet_checksum(b"\1\0")


@pytest.mark.parametrize("seed", range(20))
def test_a_disguised_frame_has_one_other_bit_and_a_checksum_that_fits(
    seed: int,
) -> None:
    whole = frame(b"what TLS carries")
    harmed = _disguised(whole, random.Random(seed))
    assert harmed is not None
    assert len(harmed) == len(whole)
    before, after = whole[54:], harmed[54:]
    flipped = int.from_bytes(before, "big") ^ int.from_bytes(after, "big")
    assert flipped.bit_count() == 1
    segment = harmed[34:]
    address = harmed[26:30], harmed[30:34]
    assert int.from_bytes(segment[16:18], "big") == checksum(address, segment)


def test_what_carries_nothing_has_no_disguise() -> None:
    assert _disguised(frame(b""), random.Random(0)) is None
    assert _disguised(frame(b"datagram", protocol=17), random.Random(0)) is None
    assert _disguised(bytes(60), random.Random(0)) is None


@pytest.mark.parametrize(
    ("weather", "fate"),
    [
        (Weather(loss=0.5), "lost"),
        (Weather(duplicate=0.5), "doubled"),
        (Weather(corrupt=0.5), "corrupted"),
        (Weather(disguise=0.5), "corrupted in disguise"),
        (Weather(reorder=0.5, delay=0.1), "overtaken"),
    ],
)
def test_each_fate_comes_about_as_often_as_it_should(
    weather: Weather, fate: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    switch = Switch(TAPS, seed=1)
    switch.weather = weather
    monkeypatch.setattr("os.read", lambda _file, _size: frame(b"text"))
    for _ in range(200):
        switch._take(101)
    assert 70 <= switch.fates[fate] <= 130
    assert switch.fates.total() == switch.fates[fate]


def test_calm_weather_passes_all_on_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    switch = Switch(TAPS)
    assert switch.weather == CALM
    frames = [frame(bytes([n])) for n in range(50)]
    arriving, left = iter(frames), []
    monkeypatch.setattr("os.read", lambda _file, _size: next(arriving))
    monkeypatch.setattr("os.write", lambda file, data: left.append((file, data)))
    for _ in frames:
        switch._take(101)
    switch._deliver()
    assert left == [(102, data) for data in frames]


def test_what_is_for_nobody_goes_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    switch = Switch(TAPS)
    lost = bytes.fromhex("0200000000ff") + frame(b"text")[6:]
    monkeypatch.setattr("os.read", lambda _file, _size: lost)
    switch._take(101)
    assert switch.fates == {"for nobody": 1}
    assert not switch._late
