"""Encoding on the wire only where it saves time, as far as can be known."""

import pytest

from crdtmerge.sync.thrift import (
    AGAIN,
    ENCODE_RATE,
    LINKS_MAX,
    PROBE_BYTES,
    Gain,
    Link,
    Links,
)

MIB = 1 << 20


def link_of(rate: float, mib: int = 32) -> Link:
    """Return a link that took so many MiB at `rate` bytes a second."""
    link = Link()
    for _ in range(mib):
        link.drained(MIB, MIB / rate)
    return link


@pytest.mark.parametrize(("rate", "slow"), [(1e6, True), (100e6, True), (1.5e9, False)])
def test_a_slow_link_is_told_from_a_quick_one(rate: float, slow: bool) -> None:
    """By what it took, beside what our encoder does."""
    assert link_of(rate).slow is slow


def test_the_first_bytes_say_nothing() -> None:
    """Buffers take them at once; until the link is known chunks go as they are."""
    link = Link()
    while link.sent + MIB < PROBE_BYTES:
        link.drained(MIB, 1.0)
        assert not Gain().pays(link)
    link.drained(MIB, 1.0)
    assert link.slow


def test_a_buffer_that_swallows_some_does_not_hide_a_slow_link() -> None:
    """The average is over time: a few quick ones do not make it quick."""
    link = link_of(5e6)
    for _ in range(4):
        link.drained(MIB, 1e-5)
    assert link.slow


def test_an_encoder_that_is_slower_than_the_link_is_left_alone() -> None:
    """A busy machine encodes more slowly than is assumed at first."""
    link = link_of(100e6)
    gain = Gain()
    gain.encoded(MIB, MIB // 2)
    assert gain.pays(link)
    for _ in range(40):
        link.encoded(MIB, MIB / 20e6)
    assert not gain.pays(link)
    for _ in range(80):
        link.encoded(MIB, MIB / ENCODE_RATE)
    assert gain.pays(link)


def test_what_saves_little_is_tried_now_and_then() -> None:
    """Noise does not compress; but one blob's chunks are not all alike."""
    link, gain = link_of(1e6), Gain()
    assert gain.pays(link)
    gain.encoded(MIB, MIB)
    tries = [gain.pays(link) for _ in range(3 * AGAIN)]
    assert tries.count(True) == 3
    gain.encoded(MIB, MIB // 10)
    assert gain.pays(link)


def test_ways_to_peers_are_kept_and_bounded() -> None:
    """What was learned serves the next reply; keys that call cost no memory."""
    links = Links()
    links.to(b"one").drained(PROBE_BYTES, 100.0)
    assert links.to(b"one").slow
    for number in range(LINKS_MAX + 1):
        links.to(number.to_bytes(4, "big"))
    assert len(links._links) == LINKS_MAX
    assert not links.to(b"one").slow
