"""One author, two records of one number: no replica is led to another view than others."""

from pathlib import Path

from tests.attacks.fortress import Fortress
from tests.properties.cast import CARL, CLEO, CONTENTS, add_of


def told(folder: Path, order: int) -> list[object]:
    """Tell a fortress both, in this order; return what its set means then."""
    folder.mkdir()
    fortress = Fortress.at(folder)
    try:
        two = [fortress.next(CLEO, add_of(CONTENTS[n])) for n in (0, 1)][::order]
        for signed in two:
            fortress.takes([signed], lambda siege: siege.feeds(CARL, signed))  # noqa: B023
        view = fortress.spaces().view(fortress.space)
        return [view.visible, view.visible_root, view.ranks, view.rightless]
    finally:
        fortress.home.close()


def test_equivocation(tmp_path: Path) -> None:
    """Told one thing here and another there, all end with both, and mean the same."""
    assert told(tmp_path / "one", 1) == told(tmp_path / "other", -1)
