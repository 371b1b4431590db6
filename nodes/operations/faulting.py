"""The verb `check`: whether a contribution can be merged, by all of its bytes.

Owns the order of what is looked at, and what is said of it. Does not own the proof
(`crdtmerge.faults`), the search for it (`inspection`), nor the limits (`numerics`).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from crdtmerge.bodies import SpaceId
from crdtmerge.changes import Change, Whole, changes_of, task_vector_of
from crdtmerge.digest import ContentId
from crdtmerge.errors import (
    BadInputError,
    ContractError,
    FaultyContributionError,
    NotFoundError,
)
from crdtmerge.faults import Fault, find
from crdtmerge.formats.progress import Progress
from crdtmerge.manifest import FLOAT_DTYPES, Manifest, TensorEntry
from crdtmerge.numerics import (
    check_headroom,
    check_range,
    check_reach,
    inspect,
)
from crdtmerge.policy import Rank, Visible
from crdtmerge.recipe import MISSING_CHOICES
from crdtmerge.record import Record

from ..inspection import search
from . import arguments as given
from .contents import base_manifest
from .live import Answer, Arguments, Context, Tell, telling
from .publishing import publish_fault, replica
from .selection import SHORT, find_checkable

UNPROVEN: Final = "nothing in its bytes proves this to others: a maintainer can ban it"
NO_BASE: Final = "this home does not know the base: whether it fits is not known"


BEYOND: Final = "it is beyond the bytes of its author: `crdtmerge fetch ID` brings it"


@dataclass(slots=True)
class _Verdict:
    """What was found: nothing, a fault that can be shown, or one that cannot."""

    fault: Fault | None = None
    reason: str = ""
    missing: int = 0
    read: int = 0
    notes: list[str] = field(default_factory=list)


def check(context: Context, asked: Arguments, tell: Tell) -> Answer:
    """Read all bytes of a contribution that are here, and tell whether it can be merged.

    If they prove that it cannot, a fault is published, which takes it out of the merge for
    everybody; not in a dry run.

    Raises:
        NotFoundError: no contribution of a space has such an id.
        ContentMissingError: its manifest has not arrived.
        NotAllowedError: a fault was found that this author may not publish.
    """
    named = find_checkable(
        context.spaces, given.text(asked, "id"), given.optional_text(asked, "space")
    )
    space, content = named.space, ContentId(named.id)
    dry = given.flag(asked, "dry_run")
    known = context.spaces.view(space).faults.get(content)
    if known is not None:
        return _known(space, context.spaces.opset(space).records[known])
    if not dry:
        replica(context, space).authority(Rank.READER)  # before any long work
        context.key.ready()
    visible = next(
        v for v in context.spaces.view(space).visible if v.content == content
    )
    verdict = _examine(context, space, visible, tell)
    if (space, content) in context.spaces.beyond():
        verdict.notes.append(BEYOND)
    record = None
    if verdict.fault is not None and not dry:
        record = publish_fault(context, space, verdict.fault)
    if verdict.reason and verdict.fault is None:
        verdict.notes.append(UNPROVEN)
    return _answer(space, content, verdict) | {
        "record": record.hex() if record else None,
        "new": record is not None,
    }


def _known(space: SpaceId, shown: Record) -> Answer:
    """Return what a record of the set shows already."""
    assert isinstance(shown.body, Fault)
    verdict = _Verdict(shown.body, find(shown.body).sentence)
    verdict.notes.append(f"author {shown.author.hex()[:SHORT]} has shown it already")
    answer = _answer(space, shown.body.content, verdict)
    return answer | {"record": shown.id.hex(), "new": False}


def _answer(space: SpaceId, content: ContentId, verdict: _Verdict) -> Answer:
    return {
        "space": space.hex(),
        "content": content.hex(),
        "usable": not verdict.reason,
        "reason": verdict.reason or None,
        "proven": verdict.fault is not None,
        "read_bytes": verdict.read,
        "missing_bytes": verdict.missing,
        "notes": verdict.notes,
    }


def _examine(
    context: Context, space: SpaceId, visible: Visible, tell: Tell
) -> _Verdict:
    """Look for what can be shown, in all that is here; then for what cannot."""
    verdict = _Verdict()
    try:
        manifest = context.spaces.manifest(visible)
    except FaultyContributionError as e:
        verdict.reason = e.reason
        return verdict
    _search(context, manifest, verdict, tell)
    if not verdict.reason:
        _fit(context, space, manifest, verdict, tell)
    return verdict


def _search(
    context: Context, manifest: Manifest, verdict: _Verdict, tell: Tell
) -> None:
    blobs, report = context.home.blobs, telling(tell)
    sizes = {tensor.blob: tensor.size for tensor in manifest.tensors}
    absent = set(blobs.missing(sizes))
    verdict.missing = sum(sizes[blob] for blob in absent)
    total = sum(t.size for t in manifest.tensors if t.blob not in absent)

    def read(count: int) -> None:
        verdict.read += count
        report(Progress("reading", verdict.read, total))

    for tensor in manifest.tensors:
        if tensor.blob in absent:
            continue
        fault = search(blobs, manifest, tensor, read)
        if fault is not None:
            verdict.fault, verdict.reason = fault, find(fault).sentence
            return
    if absent:
        verdict.notes.append(f"{len(absent)} of its blobs are not here yet")


def _fit(
    context: Context, space: SpaceId, manifest: Manifest, verdict: _Verdict, tell: Tell
) -> None:
    """Compare with the base: names, shapes, and the headroom if all bytes are here."""
    try:
        base = base_manifest(context, space)
    except NotFoundError:
        verdict.notes.append(NO_BASE)
        return

    def read(entry: TensorEntry) -> memoryview:
        return memoryview(context.home.blobs.read(entry.blob, entry.size))

    theirs = {entry.name: entry for entry in base.tensors}
    try:
        recipe = context.spaces.view(space).recipe
        missing = MISSING_CHOICES[0] if recipe is None else recipe.missing
        changes = changes_of(manifest, base, missing)
        whole = changes if not verdict.missing else {}
        for done, (name, change) in enumerate(whole.items(), start=1):
            if theirs[name].dtype in FLOAT_DTYPES:
                _compare(change, theirs[name], read)
            telling(tell)(Progress("comparing", done, len(changes), "items"))
    except (BadInputError, ContractError) as e:
        verdict.reason = str(e)


def _compare(
    change: Change, base: TensorEntry, read: Callable[[TensorEntry], memoryview]
) -> None:
    """Refuse what leaves the headroom over a tensor of the base, as resolve does."""
    label, data = f"tensor {base.name!r}", read(base)
    facts = inspect(data, base.dtype)
    if isinstance(change, Whole):
        theta, dtype = read(change.entry), change.entry.dtype
        check_headroom(inspect(theta, dtype), facts, label)
        check_range(theta, dtype, base.dtype, label)
        return
    tau = task_vector_of(change, read, label)
    check_headroom(inspect(tau.data, "F32"), facts, label)
    check_reach(data, tau, base.dtype, label)
