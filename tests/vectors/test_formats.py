"""The bytes of the formats never change by accident."""

import json
from pathlib import Path

from tests.vectors.formats import vectors

GOLDEN = json.loads((Path(__file__).parent / "formats.json").read_text())


def test_every_format_has_its_golden_bytes() -> None:
    """Codec, digests, records of each kind, manifest, recipe, tries, roots, ticket."""
    made = dict(vectors())
    assert set(made) == set(GOLDEN)
    assert {name for name in made if made[name] != GOLDEN[name]} == set()
