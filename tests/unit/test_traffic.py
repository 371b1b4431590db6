"""Rates as people write them, limits that let a chunk pass, and who waits for what."""

import pytest

from crdtmerge.digest import BlobId
from crdtmerge.errors import BadInputError
from nodes.needs import Needs
from nodes.traffic import RATE_LEAST, Limits, rate_of


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("0", 0),
        ("100MB/s", 100e6),
        ("1.5 GB/s", 1.5e9),
        ("20MiB/s", 20 << 20),
        ("500k", 500e3),
        ("65536", 65536),
    ],
)
def test_rates_are_read_as_written(text: str, rate: float) -> None:
    """Thousands, or 1024s where the unit says so."""
    assert rate_of(text) == rate


@pytest.mark.parametrize(
    "text", ["", "fast", "-1", "1iB", "100MB/min", "1e9", "nan", "100Mb/s", "5 kb"]
)
def test_what_is_no_rate_is_refused(text: str) -> None:
    """With a word on how to write one."""
    with pytest.raises(BadInputError, match="no rate"):
        rate_of(text)


def test_a_limit_lets_a_chunk_pass_in_time() -> None:
    """Else every transfer would look like silence to its peer."""
    assert Limits(upload=RATE_LEAST).upload == RATE_LEAST
    for wrong in (RATE_LEAST - 1, -5.0, float("nan")):
        with pytest.raises(BadInputError):
            Limits(peer_download=wrong)


def test_what_commands_wait_for_is_told_when_it_changes() -> None:
    """All of it together; at the end of each command, less."""
    told: list[frozenset[BlobId]] = []
    needs = Needs(told.append)
    one, two = BlobId(b"1" * 32), BlobId(b"2" * 32)
    with needs.waiting() as first, needs.waiting() as second:
        first([one])
        first([one])
        second([one, two])
        second([])
    assert told == [{one}, {one, two}, {one}, frozenset()]
