"""Evidence in a resolve: what is read names what is remembered, and whose fault it is."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from crdtmerge.errors import ContentMissingError, FaultyContributionError
from crdtmerge.formats.shards import lay_out_model
from crdtmerge.manifest import EvidenceEntry, TensorEntry
from crdtmerge.recipe import Recipe
from crdtmerge.resolve.model import resolve_model
from crdtmerge.resolve.output import Output
from crdtmerge.resolve.plan import Plan, make_plan
from crdtmerge.resolve.resolution import Resolution
from crdtmerge.resolve.settings import Contribution
from crdtmerge.strategies import make_recipe
from tests.models import UNIT, Merge, about, make_merge, with_evidence

FISHER = make_recipe("fisher", {"lacking": "leave_out"})
LINEAR = make_recipe("linear", {})
MWA = make_recipe("mwa", {"by": "score", "metric": "a"})


def attached(merge: Merge, recipe: Recipe, place: int = 0) -> Merge:
    """Return a merge in which each contribution attaches what the recipe reads."""
    items = enumerate(merge.contributions, start=place)
    found = tuple(with_evidence(merge, item, recipe, n) for n, item in items)
    return replace(merge, contributions=found)


def bare(merge: Merge) -> Merge:
    """Return a merge in which nobody attaches anything."""
    return replace(merge, contributions=tuple(map(_bare, merge.contributions)))


def _bare(item: Contribution) -> Contribution:
    return replace(item, manifest=replace(item.manifest, evidence=()))


def with_entries(
    merge: Merge, entries: Iterable[EvidenceEntry], evidence: bytes | None = None
) -> Merge:
    """Return a merge whose first contribution attaches these."""
    first, *others = merge.contributions
    manifest = replace(first.manifest, evidence=tuple(entries))
    first = replace(first, manifest=manifest, evidence=evidence)
    return replace(merge, contributions=(first, *others))


def planned(merge: Merge, recipe: Recipe) -> Plan:
    return make_plan(recipe, merge.base, merge.contributions)


def made(merge: Merge, out: Path, recipe: Recipe) -> Resolution:
    """Resolve what the contributions attach, and nothing else."""
    plan = planned(merge, recipe)
    layout = lay_out_model(plan.outputs, 1 << 30)
    return resolve_model(
        plan=plan,
        source=merge.blobs,
        output=Output(out),
        layout=layout,
        about=about(plan),
    ).resolution


def emits(plan: Plan) -> dict[str, bytes]:
    """Return the keys by tensor of what writes outputs."""
    return {task.tensor: task.key for task in plan.tasks if task.kind == "emit"}


@pytest.fixture
def merge() -> Merge:
    """Three contributions without evidence."""
    return bare(make_merge((UNIT,) * 3))


def test_what_is_read_is_in_the_keys_of_its_tensor_alone(merge: Merge) -> None:
    """Another byte of one tensor's evidence is another task; the others stay."""
    full = attached(merge, FISHER)
    entries = list(full.contributions[0].manifest.evidence)
    other = merge.blobs.put(bytes(entries[0].tensor.size))
    changed = replace(entries[0], tensor=replace(entries[0].tensor, blob=other))
    again = with_entries(full, [changed, *entries[1:]])
    before, after = emits(planned(full, FISHER)), emits(planned(again, FISHER))
    assert before.keys() == after.keys()
    differ = {name for name in before if before[name] != after[name]}
    assert differ == {entries[0].tensor.name}
    without = emits(planned(merge, FISHER))
    read = {entry.tensor.name for entry in entries}
    assert {n for n in before if before[n] != without[n]} == read


def test_what_is_not_read_is_in_no_key(merge: Merge) -> None:
    """A merge by means is the same whatever is attached, and reads none of it."""
    full = attached(merge, FISHER)
    with_some, without = planned(full, LINEAR), planned(merge, LINEAR)
    assert [task.key for task in with_some.tasks] == [t.key for t in without.tasks]
    assert not any(map(with_some.attached.reads, emits(with_some)))


def test_numbers_are_in_the_key_of_the_reduce_step(merge: Merge) -> None:
    """And in no map's."""

    def key(found: Merge) -> bytes:
        tasks = planned(found, MWA).tasks
        (only,) = [task.key for task in tasks if task.kind == "reduce"]
        return only

    assert key(attached(merge, MWA)) == key(attached(merge, MWA))
    assert key(attached(merge, MWA)) != key(attached(merge, MWA, place=1))


def test_evidence_changes_the_model_and_its_absence_is_the_mean(
    merge: Merge, tmp_path: Path
) -> None:
    """Where nobody attaches any, `fisher` is the weighted mean."""
    weighed = made(attached(merge, FISHER), tmp_path / "a", FISHER)
    without = made(merge, tmp_path / "b", FISHER)
    mean = made(merge, tmp_path / "c", LINEAR)
    assert without.model_digest == mean.model_digest
    assert weighed.model_digest != mean.model_digest
    assert all(source.evidence for source in weighed.contributions)
    assert not any(source.evidence for source in without.contributions)


def test_evidence_that_does_not_count_is_not_looked_at(merge: Merge) -> None:
    """A manifest may carry what the visible root does not cover."""
    full = attached(merge, FISHER)
    entries = full.contributions[0].manifest.evidence
    one = with_entries(merge, entries, evidence=b"")
    assert emits(planned(one, FISHER)) == emits(planned(merge, FISHER))


def test_evidence_that_counts_is_waited_for(merge: Merge) -> None:
    """By merges that read it; nobody else cares."""
    one = with_entries(merge, (), evidence=bytes(32))
    with pytest.raises(ContentMissingError, match="evidence of contribution"):
        planned(one, FISHER)
    with pytest.raises(ContentMissingError, match="evidence of contribution"):
        planned(one, MWA)
    assert emits(planned(one, LINEAR)) == emits(planned(merge, LINEAR))


@pytest.mark.parametrize(
    ("shape", "dtype"), [((3, 3, 3), "F32"), ((), "F32"), (None, "I32")]
)
def test_the_plan_refuses_another_shape(
    merge: Merge, shape: tuple[int, ...] | None, dtype: str
) -> None:
    """By what the manifest says, before a byte is read; it names who."""
    full = attached(merge, FISHER)
    entry = full.contributions[0].manifest.evidence[0]
    shape = entry.tensor.shape if shape is None else shape
    wrong = replace(entry, tensor=replace(entry.tensor, shape=shape, dtype=dtype))
    with pytest.raises(FaultyContributionError) as caught:
        planned(with_entries(full, [wrong]), FISHER)
    assert caught.value.content == full.contributions[0].content
    assert repr(entry.tensor.name) in str(caught.value)


def test_values_are_refused_when_they_are_read(merge: Merge, tmp_path: Path) -> None:
    """One bad number, and the author of it is named."""
    full = attached(merge, FISHER)
    entry = full.contributions[1].manifest.evidence[0]
    bad = np.full(entry.tensor.shape, 1.0)
    bad.reshape(-1)[-1] = -1.0
    blob = merge.blobs.put(bad.astype("<f4").tobytes())
    wrong = EvidenceEntry(
        "fisher", TensorEntry(entry.tensor.name, "F32", bad.shape, blob)
    )
    first, second, third = full.contributions
    forged = replace(second, manifest=replace(second.manifest, evidence=(wrong,)))
    hostile = replace(full, contributions=(first, forged, third))
    with pytest.raises(FaultyContributionError, match="below zero") as caught:
        made(hostile, tmp_path / "a", FISHER)
    assert caught.value.content == second.content


def test_what_is_read_is_counted_in_memory(merge: Merge) -> None:
    """Evidence is there as float64 while a task works."""
    full = planned(attached(merge, FISHER), FISHER)
    for name in emits(full):
        entry = full.frames[name].entry
        reads = sum(size for _, size in full.attached.reads(name))
        if reads:
            assert full.attached.memory(entry) >= 3 * 8 * entry.items
        else:
            assert full.attached.memory(entry) == 0
