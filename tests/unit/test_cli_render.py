"""Lines that people read: each says what happened, and no more."""

import pytest

from nodes.cli import render, render_check

ID = "ab" * 32


@pytest.mark.parametrize(
    ("missing", "said"), [(0, "can be merged"), (1, "nothing wrong in what is here")]
)
def test_what_is_not_whole_is_not_called_mergeable(missing: int, said: str) -> None:
    """What has not come yet may be wrong."""
    facts = {"content": ID, "usable": True, "read_bytes": 5, "missing_bytes": missing}
    [line] = render.checked(facts)
    assert said in line


@pytest.mark.parametrize(
    ("reference", "new", "lies"), [(True, 7, True), (True, 0, False), (False, 7, False)]
)
def test_referenced_bytes_are_told_from_copied_ones(
    reference: bool, new: int, lies: bool
) -> None:
    """A reference to what was copied before changes nothing, and is not claimed."""
    facts = {
        "content": ID,
        "new": True,
        "tensors": 1,
        "bytes": 9,
        "new_bytes": new,
        "reference": reference,
        "weight": "1",
    }
    [line] = render.contributed(facts)
    assert ("used where they lie" in line) is lies


@pytest.mark.parametrize(
    ("count", "said"),
    [(1, "1 tensor has the digest"), (2, "2 tensors have the digests")],
)
def test_one_tensor_is_not_called_several(count: int, said: str) -> None:
    """A model may have one."""
    facts = {"dir": "out", "tensors": count, "model_digest": ID, "recomputed": True}
    assert said in render.verified(facts)[0]


@pytest.mark.parametrize(
    ("budget", "said"),
    [("1048576", "1.0 MiB (1048576 bytes)"), ("900", "900"), ("none\n", "none")],
)
def test_a_budget_is_told_as_sizes_are(budget: str, said: str) -> None:
    """And exactly; what a peer may have written instead is told as it is."""
    recipe = {
        "rules": [],
        "output_dtype": "",
        "seed_scope": "set",
        "extras": {"io_budget": budget},
    }
    assert render_check.details(recipe)[-1] == f"io budget     {said}"
