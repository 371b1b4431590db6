"""One author, two records of one number: no replica is led to another view than others.

False proofs of it: tests/attacks/test_forks.py.
"""

from pathlib import Path

import pytest

from crdtmerge.errors import NotAdmissibleError
from tests.attacks.fortress import Fortress
from tests.properties.cast import (
    CARL,
    CLEO,
    CONTENTS,
    READER,
    STRANGER,
    add_of,
    fork_of,
    write,
)


def told(folder: Path, order: int, *, quarantine: bool) -> list[object]:
    """Tell a fortress both, in this order, and the proof; return what its set means."""
    folder.mkdir(parents=True)
    fortress = Fortress.at(folder, quarantine=quarantine)
    try:
        two = [fortress.next(CLEO, add_of(CONTENTS[n])) for n in (0, 1)]
        proof = fortress.next(READER, fork_of(*two))
        for signed in [*two, proof][::order]:
            fortress.takes(
                [signed],
                lambda siege: siege.feeds(CARL, signed),  # noqa: B023
                shown=True,
            )
        view = fortress.spaces().view(fortress.space)
        shown = {v.content for v in view.visible}
        assert (CONTENTS[0] in shown) == (CONTENTS[1] in shown) == (not quarantine)
        assert len(shown) == (2 if quarantine else 4)
        return [view.visible, view.visible_root, view.ranks, view.rightless]
    finally:
        fortress.home.close()


@pytest.mark.parametrize("quarantine", [False, True])
def test_equivocation(tmp_path: Path, quarantine: bool) -> None:
    """Told one thing here and another there, all end with both, and mean the same.

    Where genesis says so, what the author said before the fork stays, and nothing after.
    """
    one = told(tmp_path / "one", 1, quarantine=quarantine)
    assert one == told(tmp_path / "other", -1, quarantine=quarantine)


def test_equivocation_shown_by_a_stranger(fortress: Fortress) -> None:
    """The proof is true, and who has no right says nothing here all the same."""
    two = [fortress.next(CLEO, add_of(CONTENTS[n])) for n in (0, 1)]
    lie = write(STRANGER, fortress.pen.genesis.record, fork_of(*two))
    fortress.withstands(NotAdmissibleError, lambda siege: siege.feeds(CARL, lie))
