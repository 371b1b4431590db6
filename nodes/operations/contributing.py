"""The verbs that change what is merged: contribute and remove.

Owns what each checks before it signs, and what it says when there is nothing to do. Does
not own who may do what (`policy`, `replica`), nor the check of tensors (`contents`).
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from crdtmerge.bodies import Add, RecordId, SpaceId
from crdtmerge.codec import format_decimal
from crdtmerge.digest import ContentId
from crdtmerge.errors import BadInputError, NotAllowedError
from crdtmerge.formats.ingest import Model
from crdtmerge.manifest import Manifest, check_form
from crdtmerge.policy import NEEDED, View, Visible
from crdtmerge.replica import Replica
from crdtmerge.rules import TAGS_MAX, check_tag

from . import arguments as given
from .approving import notes_on
from .contents import (
    Bringing,
    Offered,
    base_manifest,
    bringing_in,
    read_contribution,
)
from .evidencing import read_evidence
from .fitting import policy_asked
from .inspecting import remarks_of
from .live import Answer, Arguments, Context, Tell
from .publishing import publish, replica
from .selection import (
    SHORT,
    add_of,
    choose_space,
    find_removable,
)

SAME: Final = "the same model, weight, note, tags and evidence are in the merge already"
OTHER_EVIDENCE: Final = (
    "other evidence of this model counts, of an earlier add; remove that one to let yours"
    " count"
)


@dataclass(frozen=True, slots=True)
class Offer:
    """What this author wants to say of a model."""

    model: Model
    weight: int
    note: str
    tags: tuple[str, ...] = ()

    @property
    def said(self) -> tuple[int, str, tuple[str, ...], bytes]:
        """What the add says beside the content."""
        evidence = self.model.manifest.evidence_digest
        return self.weight, self.note, self.tags, evidence

    @property
    def content(self) -> ContentId:
        """The content id of the model."""
        return self.model.manifest.content_id


def contribute(context: Context, asked: Arguments, tell: Tell) -> Answer:
    """Offer a fine-tune to the merge: check it, keep it, then sign.

    Contributing the same again is no error; nothing is signed then.

    Raises:
        BadInputError: the model, the weight or the note cannot be used.
        NotAllowedError: this author may not contribute, or the model is banned.
        MachineError: the disk refused; the store is as it was.
    """
    from crdtmerge.strategies import parse_weight

    space = choose_space(context.spaces, given.optional_text(asked, "space"))
    weight = parse_weight(given.optional_text(asked, "weight") or "1")
    note = given.checked_note(given.optional_text(asked, "note") or "")
    tags = _tags(given.texts(asked, "tags"))
    replica(context, space).authority(NEEDED[Add])  # before any long work
    context.home.anchor.require_sure(space)
    context.key.ready()
    path, kind = given.path(asked, "path"), given.optional_text(asked, "kind")
    reference = given.flag(asked, "reference")
    vocabulary = policy_asked(given.optional_text(asked, "vocabulary"))
    with bringing_in(context, tell, reference=reference) as bringing:
        offered = Offered(path, kind, vocabulary)
        model = read_contribution(context, space, offered, bringing)
        model = _with_evidence(context, space, model, asked, bringing)
        check_form(model.manifest)
        offer = Offer(model, weight, note, tags)
        _refuse_banned(context.spaces.view(space), offer.content)
        bringing.keep(model)
        bringing.signing = True
        record = _say(context, space, offer)
    notes = _remarks(context, space, offer, signed=record is not None)
    if record and not given.flag(asked, "uninspected"):
        notes += remarks_of(context, space, offer.content, tell)
    return {
        "space": space.hex(),
        "content": offer.content.hex(),
        "record": record.hex() if record else None,
        "new": record is not None,
        "kind": model.manifest.kind,
        "weight": format_decimal(weight),
        "note": note,
        "tags": list(tags),
        "tensors": len(model.manifest.tensors),
        "bytes": model.manifest.size,
        "evidence": sorted({entry.kind for entry in model.manifest.evidence}),
        "new_bytes": bringing.intake.new_bytes,
        "reference": reference,
        "notes": notes,
    }


def _with_evidence(
    context: Context,
    space: SpaceId,
    model: Model,
    asked: Arguments,
    bringing: Bringing,
) -> Model:
    """Return the model with the evidence that is asked for in its manifest."""
    words = given.texts(asked, "evidence")
    if not words:
        return model
    base, report = base_manifest(context, space), bringing.survey.report
    found = read_evidence(words, base, bringing.intake.put, report)
    return replace(model, manifest=replace(model.manifest, evidence=found))


def _tags(texts: Iterable[str]) -> tuple[str, ...]:
    tags = tuple(sorted(set(texts)))
    for tag in tags:
        check_tag(tag)
    if len(tags) > TAGS_MAX:
        raise BadInputError(f"{len(tags)} tags are above the limit of {TAGS_MAX}")
    return tags


def _refuse_banned(view: View, content: ContentId) -> None:
    if content in view.faults:
        raise NotAllowedError(
            f"contribution {content.hex()[:SHORT]} was shown to be faulty",
            hint="`crdtmerge log` tells how; what is contributed must have other values",
        )
    if any(ban.target == content for ban in view.bans.values()):
        raise NotAllowedError(
            f"contribution {content.hex()[:SHORT]} is banned in this space",
            hint="a maintainer of the space can `crdtmerge ban --lift` it",
        )


def _say(context: Context, space: SpaceId, offer: Offer) -> RecordId | None:
    """Sign and publish the add, unless a live one of ours says the same."""
    manifest = offer.model.manifest
    weight, note, tags = offer.weight, offer.note, offer.tags
    with context.spaces.lock:
        if offer.said in _own_live_adds(replica(context, space), offer.content):
            return None
        return publish(
            context,
            space,
            lambda r: r.contribute(manifest, weight=weight, note=note, tags=tags),
        )


def _own_live_adds(
    current: Replica, content: ContentId
) -> list[tuple[int, str, tuple[str, ...], bytes]]:
    """Return what our live adds of `content` say: weights, notes, tags and evidence."""
    visible = _visible(current.opset.view, content)
    records = [current.opset.records[add] for add in visible.adds] if visible else []
    return [
        (
            record.body.weight,
            record.body.note,
            record.body.tags,
            record.body.evidence,
        )
        for record in records
        if record.author == current.key.public and isinstance(record.body, Add)
    ]


def _remarks(
    context: Context, space: SpaceId, offer: Offer, *, signed: bool
) -> list[str]:
    """Return what the author should know of the model, and the weight that counts."""
    current = replica(context, space)
    _, authority = current.authority(NEEDED[Add])
    visible = _visible(current.opset.view, offer.content)
    remarks = [*offer.model.notes, *([] if signed else [SAME])]
    if offer.model.made_for:
        remarks.append(f"the adapter says that its base is {offer.model.made_for!r}")
    if _is_base(context, space, offer.model):
        remarks.append("this is the base itself: it changes nothing")
    if offer.model.manifest.kind == "full":
        remarks += _differences(offer.model, base_manifest(context, space))
    evidence = offer.model.manifest.evidence_digest
    if evidence and visible is not None and visible.evidence != evidence:
        remarks.append(OTHER_EVIDENCE)
    if offer.weight > authority.weight_cap:
        cap = format_decimal(authority.weight_cap)
        remarks.append(f"your grant caps weights: this one counts as {cap}")
    elif visible is not None and visible.weight > offer.weight:
        counts = format_decimal(visible.weight)
        remarks.append(
            f"an earlier add of this model says more: its weight is {counts}"
        )
    return remarks


def _differences(model: Model, base: Manifest) -> list[str]:
    """Return what is accepted although a full model is not of the base's form."""
    theirs = {entry.name: entry for entry in base.tensors}
    found = model.manifest.tensors
    other = [entry for entry in found if entry.dtype != theirs[entry.name].dtype]
    remarks = []
    if other:
        dtypes = ", ".join(sorted({entry.dtype for entry in other}))
        ours, bases = (
            sum(e.size for e in other),
            sum(theirs[e.name].size for e in other),
        )
        remarks.append(
            f"{len(other)} of its tensors are {dtypes}, in the base of another dtype: they"
            f" are merged as they are, and take {ours} bytes where the base's take {bases}"
        )
    if lacking := len(theirs) - len(found):
        remarks.append(
            f"it lacks {lacking} of the base's tensors: they stay as they are"
        )
    return remarks


def _is_base(context: Context, space: SpaceId, model: Model) -> bool:
    theirs = base_manifest(context, space).tensors
    return model.manifest.kind == "full" and model.manifest.tensors == theirs


def _visible(view: View, content: bytes) -> Visible | None:
    return next((v for v in view.visible if v.content == content), None)


def remove(context: Context, asked: Arguments, _tell: Tell) -> Answer:
    """Take back one add, or all adds of a content that this author may take back.

    What one owner alone removes of a maintainer's waits for others.

    Raises:
        NotFoundError: no live contribution has such an id.
        NotAllowedError: its authors are not of lower rank.
    """
    named = find_removable(
        context.spaces,
        given.text(asked, "id"),
        given.optional_text(asked, "space"),
    )
    space = named.space
    with context.spaces.lock:
        current = replica(context, space)
        one = named.kind == "add"
        adds = [add_of(named)] if one else _own_to_remove(current, named.id)
        content = _content_of(current, adds)
        record = publish(context, space, lambda r: r.remove(adds))
        after = context.spaces.view(space)
    still, waits = _visible(after, content), notes_on(after, record)
    remark = "still in the merge: other adds of it are not yours to remove"
    return {
        "space": space.hex(),
        "content": content.hex(),
        "adds": [add.hex() for add in sorted(adds)],
        "record": record.hex(),
        "still_visible": still is not None,
        "pending": bool(waits),
        "notes": waits or ([remark] if still else []),
    }


def _own_to_remove(current: Replica, content: bytes) -> list[RecordId]:
    """Return the live adds of `content` that this author may remove; all, if none."""
    view = current.opset.view
    visible = _visible(view, content)
    assert visible is not None  # it was found among the visible ones
    mine = view.ranks.get(current.key.public, -1)
    allowed = [
        add
        for add in visible.adds
        if (author := current.opset.records[add].author) == current.key.public
        or view.ranks.get(author, -1) < mine
    ]
    return allowed or list(visible.adds)


def _content_of(current: Replica, adds: Iterable[RecordId]) -> ContentId:
    bodies = [current.opset.records[add].body for add in adds]
    assert isinstance(bodies[0], Add)
    return bodies[0].content
