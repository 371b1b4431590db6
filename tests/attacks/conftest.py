"""The fortress, afresh for every attack."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.attacks.fortress import Fortress


@pytest.fixture
def fortress(tmp_path: Path) -> Iterator[Fortress]:
    """A real home with a space, two contributions, and a node for every member."""
    made = Fortress.at(tmp_path)
    try:
        yield made
    finally:
        made.home.close()
