"""Draws by rank in compiled loops, on rows of which buckets, counts or a sort decide."""

import numpy as np
import pytest

from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.numerics import Chances, Items, Keep, Singles
from crdtmerge.numerics.cpu import kernels as fast
from crdtmerge.numerics.cpu import ranking, thinning
from crdtmerge.numerics.reference import kernels as reference

KEY = b"by rank!"
ROWS = (1, 2, ranking.SHORT_ROW, ranking.SHORT_ROW + 1, 700, 5003)


def magnitudes(kind: str, count: int) -> Singles:
    """Numbers that a way to rank might trip over."""
    drawn = np.random.default_rng(4).standard_normal(count)
    made = {
        "normal": drawn,
        "few values": np.rint(drawn * 4) / 4,
        "mostly zero": np.where(drawn > 1, drawn, 0.0),
        "one value": np.sign(drawn),
        "zeros of both signs": np.sign(drawn) * 0.0,
        "an outlier a row": np.where(np.arange(count) % 97 == 3, 1e30, drawn),
        "subnormal": np.rint(drawn * 9) * 2.0**-149,
        "neighbours": np.nextafter(1, 2 + np.floor(drawn)),
        "all scales": drawn * np.ldexp(1.0, np.arange(count) % 250 - 125),
    }
    found: Singles = made[kind].astype(np.float32)
    return found


KINDS = (
    *("normal", "few values", "mostly zero", "one value", "zeros of both signs"),
    *("an outlier a row", "subnormal", "neighbours", "all scales"),
)


@pytest.mark.parametrize("kind", KINDS)
def test_what_stays_by_rank_is_what_the_reference_keeps(kind: str) -> None:
    """Whether few items are open or many; in whole and in parts that cut rows."""
    for row in ROWS:
        count = row * max(1, 20_000 // row)
        tau = Items(magnitudes(kind, count).tobytes(), "F32")
        for density, epsilon in ((0.5, 0.15), (0.5, 0.5 - 1e-9), (0.3, 0), (0.8, 0.2)):
            units, spread = (round(x * DECIMAL_UNIT) for x in (density, epsilon))
            keep = Keep(key=KEY, chances=Chances(row, units, spread))
            wanted = reference.kept_of(tau, keep, range(count))
            assert fast.kept_of(tau, keep, range(count)).tobytes() == wanted.tobytes()
            part = range(count // 3, count - row // 2)
            found = fast.kept_of(tau, keep, part)
            assert found.tobytes() == wanted[part.start : part.stop].tobytes()


@pytest.mark.parametrize("window", [1, 1000, 1 << 30])
def test_windows_change_no_bit(window: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows are ranked ahead by windows of any size; masks and sums stay the same."""
    monkeypatch.setattr(thinning, "WINDOW", window)
    row, count = 1201, 1201 * 120
    tau = Items(magnitudes("normal", count).tobytes(), "F32")
    keep = Keep(2.0**-6, KEY, most=2.0, chances=Chances(row, 5 * 10**8, 10**8))
    assert fast.settle(tau, keep) == reference.settle(tau, keep)


def test_the_largest_are_found_among_popular_values() -> None:
    """The first and the last item of each value that many have, all in one pass."""
    drawn = np.random.default_rng(5).standard_normal(200_003)
    for step in (1.0, 0.25, 2.0**-6):
        tau = (np.rint(drawn / step) * step).astype(np.float32)
        sizes = np.sort(np.abs(tau))[::-1]
        ends = np.flatnonzero(np.diff(sizes))[:40].tolist()
        places = [1, 200_003, *(end + 1 for end in ends), *(end + 2 for end in ends)]
        found = fast.kth_largest(Items(tau.tobytes(), "F32"), places)
        assert found == [sizes[place - 1] for place in places]
        assert reference.kth_largest(Items(tau.tobytes(), "F32"), places) == found
