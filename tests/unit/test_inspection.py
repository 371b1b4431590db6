"""What is looked at as bytes arrive, what is shown of it, and how often."""

import math
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from crdtmerge.bodies import SpaceId
from crdtmerge.digest import CHUNK_BYTES, blob_id_of, chunk_digests
from crdtmerge.errors import MachineError, NotAllowedError
from crdtmerge.faults import Fault, check_fault, find
from crdtmerge.identity import SigningKey
from crdtmerge.manifest import Manifest, TensorEntry
from crdtmerge.replica import Replica
from nodes.home import Home
from nodes.inspection import Inspection
from nodes.spaces import Spaces
from tests.integration.living import BASE, found, homes, offer

NAN = struct.pack("<f", math.nan)
DATA = b"".join(
    (bytes(100) + NAN + bytes(CHUNK_BYTES - 104), NAN * (CHUNK_BYTES // 4), bytes(96))
)
"""Three chunks: one NaN, nothing but NaN, and none."""


class Told:
    """Keeps what it is told, or refuses it."""

    def __init__(self, spaces: Spaces, key: SigningKey) -> None:
        self.spaces, self.key = spaces, key
        self.faults: list[Fault] = []
        self.error: Exception | None = None

    def __call__(self, space: SpaceId, fault: Fault) -> None:
        """Publish a fault as a home's verbs do."""
        self.faults.append(fault)
        if self.error is not None:
            raise self.error
        signed = Replica(self.spaces.opset(space), self.key).report(fault)
        self.spaces.publish(space, [signed])


def model(
    dtype: str, name: str, data: bytes = DATA, items: int | None = None
) -> Manifest:
    """Return a model of one tensor."""
    count = len(data) // 4 if items is None else items
    entry = TensorEntry(name, dtype, (count,), blob_id_of(data))
    return Manifest("full", BASE, (entry,))


@pytest.fixture(name="home")
def fixture_home(tmp_path: Path) -> Iterator[Home]:
    """A home with a space."""
    with homes(tmp_path, "owner") as (owner,):
        found(owner)
        yield owner


def looking(home: Home, *manifests: Manifest) -> tuple[Inspection, Told, Spaces]:
    """Return an inspection of a space with these contributions, whose blob is coming."""
    (space,) = home.records.spaces()
    for manifest in manifests:
        home.records.append(space, [offer(home, space, manifest)])
    spaces = Spaces(home.records, home.blobs)
    told = Told(spaces, home.author.unlock())
    home.blobs.begin(blob_id_of(DATA), len(DATA), chunk_digests(DATA))
    return Inspection(spaces, home.blobs, told), told, spaces


def arrive(look: Inspection) -> list[bool]:
    """Let all chunks come; return whether the blob was still needed after each."""
    starts = range(0, len(DATA), CHUNK_BYTES)
    chunks = [DATA[start : start + CHUNK_BYTES] for start in starts]
    return [look.arrived(blob_id_of(DATA), n, chunk) for n, chunk in enumerate(chunks)]


def test_the_first_nan_is_shown_and_no_other(home: Home) -> None:
    """One record says it; from then on the blob is not needed."""
    look, told, spaces = looking(home, model("F32", "a"))
    assert arrive(look) == [False] * 3
    (fault,) = told.faults
    check_fault(fault)
    assert (fault.item, find(fault).tensor.name) == (25, "a")
    assert [spaces.view(space).visible for space in spaces.all()] == [()]


def test_integers_may_have_any_bits(home: Home) -> None:
    """What is NaN in one dtype is a plain number in another."""
    look, told, _ = looking(home, model("I32", "a"))
    assert arrive(look) == [True] * 3
    assert told.faults == []


def test_who_shares_the_bytes_shares_no_fault(home: Home) -> None:
    """Two contributions of one blob: floats are shown, and the integers still need it."""
    whole, floats = model("I32", "a"), model("F32", "b")
    look, told, spaces = looking(home, whole, floats)
    assert arrive(look) == [True] * 3
    assert [fault.content for fault in told.faults] == [floats.content_id]
    (space,) = spaces.all()
    assert [v.content for v in spaces.view(space).visible] == [whole.content_id]


def test_every_contribution_of_the_bytes_is_shown(home: Home) -> None:
    """Each with its own entry."""
    models = [
        model("F32", "a"),
        model("F32", "b"),
        model("BF16", "c", items=len(DATA) // 2),
    ]
    look, told, _ = looking(home, *models)
    assert arrive(look) == [False] * 3
    assert {f.content for f in told.faults} == {m.content_id for m in models}


def test_who_may_not_tell_goes_on(home: Home) -> None:
    """Without rights the node says nothing, asks once, and fetches what is visible."""
    look, told, _ = looking(home, model("F32", "a"))
    told.error = NotAllowedError("no rights here")
    assert arrive(look) == [True] * 3
    assert len(told.faults) == 1


def test_a_disk_that_fails_is_not_passed_over(home: Home) -> None:
    """Whether the fault was kept is not known: the node must stop."""
    look, told, _ = looking(home, model("F32", "a"))
    told.error = MachineError("no")
    with pytest.raises(MachineError):
        arrive(look)


def test_another_size_is_shown_once_the_blob_is_here(home: Home) -> None:
    """Not its items, since their numbers would not be those of the tensor."""
    lie = model("F32", "a", items=len(DATA) // 4 + 1)
    look, told, _ = looking(home, lie)
    assert arrive(look) == [True] * 3
    assert told.faults == []
    home.blobs.put(DATA)
    look.completed(blob_id_of(DATA))
    (fault,) = told.faults
    check_fault(fault)
    assert fault.item is None


def test_what_came_before_a_restart_is_looked_at_in_the_end(home: Home) -> None:
    """Of a resumed download the node sees only the last chunks come."""
    look, told, _ = looking(home, model("F32", "a"))
    assert look.arrived(blob_id_of(DATA), 2, DATA[2 * CHUNK_BYTES :])
    home.blobs.put(DATA)
    look.completed(blob_id_of(DATA))
    assert [fault.item for fault in told.faults] == [25]


def test_what_is_no_tensor_is_left_alone(home: Home) -> None:
    """A manifest has no items; it is needed as long as its add is visible."""
    manifest = model("F32", "a")
    look, told, _ = looking(home, manifest)
    assert look.arrived(manifest.blob, 0, NAN * 20) is True
    look.completed(manifest.blob)
    assert told.faults == []
