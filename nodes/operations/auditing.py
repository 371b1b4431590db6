"""The verb `audit`: a random part of somebody's model, computed again from what is here.

Owns the choice of tensors, what a sample can miss, and whose fault a difference is. Does
not own the computation (`recomputing`), nor what nodes attest (`agreeing`).

Whoever made the model must not foresee the choice: it is drawn when the audit begins, from
the system's entropy. A seed repeats it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Final

from crdtmerge.bodies import SpaceId
from crdtmerge.codec import DECIMAL_UNIT, parse_decimal
from crdtmerge.digest import (
    BlobId,
    Domain,
    blob_id,
    chunk_digest,
    digest_value,
)
from crdtmerge.errors import (
    BadInputError,
    EncodingError,
    MalformedManifestError,
    NotFoundError,
    UpgradeNeededError,
    VerificationError,
)
from crdtmerge.formats.folder import read_chunks, read_folder
from crdtmerge.formats.header import StoredTensor
from crdtmerge.manifest import TensorEntry, tensor_from_value
from crdtmerge.numerics import CONTRACT_VERSION
from crdtmerge.resolve.plan import Plan
from crdtmerge.resolve.resolution import model_digest
from crdtmerge.resolve.verify import read_resolution

from . import arguments as given
from .agreeing import TENSORS_TOLD_MAX, standing
from .contents import base_manifest
from .converging import live_of
from .live import Answer, Arguments, Context, Live, Tell, telling
from .making import threads_of
from .peers import unreached
from .recomputing import Again, check_merge_id, named_by, scores_named
from .selection import SHORT, choose_space, find_node

SHARE_DEFAULT: Final = "10%"
SEED_BYTES: Final = 16
SEED_CHARACTERS_MAX: Final = 128
LIST_PATIENCE_S: Final = 60.0
"""How long a peer may take to say what it attests, tensor by tensor."""
POLL_S: Final = 0.2

FOLDER: Final = "the folder was changed since: its bytes are not those it states"
MAKER: Final = "whoever made it states other bytes than its contributions make"
FORMS: Final = "the folder was changed since: this tensor is missing, new, or reshaped"
UNPLANNED: Final = "the contributions make no such tensor, or one of another form"
PEER: Final = "the peer attests other bytes than the contributions make"
OURS: Final = "what this home attests was damaged: it does not hold when recomputed"
BOTH: Final = "neither the peer's bytes nor this home's hold when recomputed"


@dataclass(frozen=True, slots=True)
class Claim:
    """A model as somebody states it; `files` has the digests of what lies on the disk.

    `ours` is what this home attests of the same state.
    """

    space: SpaceId
    merge_id: bytes
    tensors: tuple[TensorEntry, ...]
    files: Mapping[str, BlobId] | None = None
    ours: Mapping[str, TensorEntry] | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """The tensors that are computed again, and how they were chosen."""

    seed: str
    share: Fraction
    first: tuple[str, ...]
    drawn: tuple[str, ...]
    total: int
    drawn_from: int

    @property
    def names(self) -> tuple[str, ...]:
        """All of them, sorted."""
        return tuple(sorted((*self.first, *self.drawn)))

    def missed(self, bad: int) -> float:
        """Return the chance that none of so many bad tensors is among those drawn."""
        return float(
            missed(self.drawn_from, len(self.drawn), min(bad, self.drawn_from))
        )


def missed(total: int, checked: int, bad: int) -> Fraction:
    """Return the chance that a random choice of `checked` meets none of the `bad`."""
    chance = Fraction(1)
    for place in range(bad):
        chance *= Fraction(max(0, total - checked - place), total - place)
    return chance


def audit(context: Context, asked: Arguments, tell: Tell) -> Answer:
    """Compute a part of a model again: of a folder, or of what a peer attests.

    Raises:
        NotFoundError: there is no resolution, or the state is not known here.
        BadInputError: an adapter, a share or a seed that cannot be used.
        ContentMissingError: bytes of a contribution have not arrived.
        UpgradeNeededError: it was computed under another numeric contract.
        VerificationError: the resolution names what nobody offered.
    """
    share, seed = share_of(asked), _seed(context, asked)
    again = Again(context.home, threads_of(asked), telling(tell))
    if asked.get("peer") is None:
        target, claim, plan = _of_folder(context, given.path(asked, "dir"), again)
    else:
        target, claim, plan = _of_peer(context, asked, again)
    sample = draw(claim, seed, share)
    wrong = _forms(claim, plan)
    if (folder := target["dir"]) is not None:
        stored = _stored(Path(str(folder)))
        wrong |= {name: {"fault": FORMS} for name in _reshaped(claim, stored)}
        names = [name for name in sample.names if name not in wrong]
        claim = replace(claim, files={name: _hashed(stored[name]) for name in names})
    names = [name for name in sample.names if name not in wrong]
    found = again.some(plan, names)
    stated = {entry.name: entry for entry in claim.tensors}
    for name in names:
        fault = _fault(claim, stated[name], found[name])
        if fault is not None:
            wrong[name] = _digests(claim, stated[name], found[name]) | {"fault": fault}
    return {**target, **_facts(claim, sample, wrong)}


# --- what is audited --------------------------------------------------------------------


def _of_folder(
    context: Context, folder: Path, again: Again
) -> tuple[Answer, Claim, Plan]:
    """Return what a folder states, and the plan of what it should be."""
    resolution = read_resolution(folder)
    space = SpaceId(resolution.space)
    if space not in context.spaces.all():
        message = f"{folder} is of a space that this home does not take part in"
        raise NotFoundError(message, hint="`crdtmerge verify` checks its digests")
    if resolution.adapter:
        hint = "`crdtmerge verify` computes all of it again"
        raise BadInputError("the tensors of an adapter hang together", hint=hint)
    check_merge_id(resolution)
    base, sources = named_by(context, space, resolution)
    scores = scores_named(context, space, resolution)
    plan = again.plan(resolution.recipe, base, sources, scores)
    target: Answer = {"dir": str(folder), "peer": None, "platform": None}
    return target, Claim(space, resolution.merge_id, resolution.tensors), plan


def _stored(folder: Path) -> dict[str, StoredTensor]:
    """Return the tensors of a folder's files.

    Raises:
        VerificationError: the files are no model.
    """
    try:
        return {tensor.name: tensor for tensor in read_folder(folder).tensors}
    except BadInputError as e:
        raise VerificationError(f"the model is damaged: {e}") from e


def _hashed(stored: StoredTensor) -> BlobId:
    try:
        return blob_id(stored.size, map(chunk_digest, read_chunks(stored)))
    except BadInputError as e:
        raise VerificationError(f"the model is damaged: {e}") from e


def _of_peer(
    context: Context, asked: Arguments, again: Again
) -> tuple[Answer, Claim, Plan]:
    """Return what a peer attests, and the plan of what it should be."""
    told = _told(asked.get("peer"))
    space = choose_space(context.spaces, str(told["space"]))
    view = context.spaces.view(space)
    short = str(told["node"])[:SHORT]
    if told["contract"] != CONTRACT_VERSION:
        contract = (
            f"numeric contract {told['contract']}, and this one {CONTRACT_VERSION}"
        )
        message = f"node {short} computes under {contract}: other bits are no mismatch"
        raise UpgradeNeededError(message, hint="upgrade the older one of both")
    now = standing(context, space)
    if view.recipe is None or now.merge_id.hex() != told["merge_id"]:
        state = f"{str(told['merge_id'])[:SHORT]}, and this home is at"
        message = f"node {short} resolved state {state} {now.merge_id.hex()[:SHORT]}"
        raise NotFoundError(message, hint="wait until it has resolved the present one")
    tensors = _entries(told["tensors"])
    if model_digest(tensors).hex() != told["model_digest"]:
        raise BadInputError("these are not the tensors that the peer attests")
    sources = context.spaces.contributions(view.visible)
    scores = [one.score for one in view.read_by(view.recipe)]
    plan = again.plan(view.recipe, base_manifest(context, space), sources, scores)
    ours = {entry.name: entry for entry in now.ours} if now.ours is not None else None
    target: Answer = {"dir": None, "peer": told["node"], "platform": told["platform"]}
    return target, Claim(space, now.merge_id, tensors, ours=ours), plan


def _told(value: object) -> Mapping[str, object]:
    if isinstance(value, dict) and isinstance(value.get("tensors"), list):
        return value
    raise BadInputError("what the peer attests did not arrive whole")


def _entries(value: object) -> tuple[TensorEntry, ...]:
    assert isinstance(value, list)
    try:
        return tuple(
            tensor_from_value([name, dtype, shape, bytes.fromhex(blob)])
            for name, dtype, shape, blob in value
        )
    except (MalformedManifestError, TypeError, ValueError) as e:
        raise BadInputError(f"what the peer attests is no list of tensors: {e}") from e


# --- the choice -------------------------------------------------------------------------


def share_of(asked: Arguments) -> Fraction:
    """Return the share of the tensors that is asked for, such as `10%`.

    Raises:
        BadInputError: it is none above 0 and up to 100%.
    """
    text = given.optional_text(asked, "share") or SHARE_DEFAULT
    hint = "say it as 10%, 0.5% or 100%"
    try:
        units = parse_decimal(text.removesuffix("%"))
    except EncodingError as e:
        raise BadInputError(f"{text!r} is no share", hint=hint) from e
    share = Fraction(units, 100 * DECIMAL_UNIT)
    if not text.endswith("%") or not 0 < share <= 1:
        raise BadInputError(f"{text!r} is no share", hint=hint)
    return share


def _seed(context: Context, asked: Arguments) -> str:
    seed = given.optional_text(asked, "seed") or context.entropy(SEED_BYTES).hex()
    if len(seed) > SEED_CHARACTERS_MAX or not seed.isprintable():
        message = f"a seed has at most {SEED_CHARACTERS_MAX} printable characters"
        raise BadInputError(message)
    return seed


def draw(claim: Claim, seed: str, share: Fraction) -> Sample:
    """Return the tensors to compute again: those known to differ first, then by chance.

    The order of the names under the seed decides, which is the same on every machine.
    """
    names = sorted(entry.name for entry in claim.tensors)
    ordered = sorted(names, key=lambda n: digest_value(Domain.AUDIT, [seed, n]))
    stated = {entry.name: entry for entry in claim.tensors}
    ours = claim.ours
    differ = [n for n in ordered if ours is not None and ours.get(n) != stated[n]]
    first = tuple(differ[:TENSORS_TOLD_MAX])
    rest = [name for name in ordered if name not in set(differ)]
    # At least one, and never fewer than the share.
    count = -(-len(names) * share.numerator // share.denominator)
    drawn = rest[: max(1, count)]
    return Sample(seed, share, first, tuple(drawn), len(names), len(rest))


# --- what was found ---------------------------------------------------------------------


def _forms(claim: Claim, plan: Plan) -> dict[str, Answer]:
    """Return what all of the claim tells otherwise than the plan, bytes aside."""
    stated = {entry.name: (entry.dtype, entry.shape) for entry in claim.tensors}
    planned = {name: (dtype, shape) for name, dtype, shape in plan.outputs}
    return {name: {"fault": UNPLANNED} for name in _unlike(stated, planned)}


def _reshaped(claim: Claim, stored: Mapping[str, StoredTensor]) -> list[str]:
    """Return the tensors that are otherwise in the files' headers than is stated."""
    stated = {entry.name: (entry.dtype, entry.shape) for entry in claim.tensors}
    found = {name: (tensor.dtype, tensor.shape) for name, tensor in stored.items()}
    return _unlike(stated, found)


def _unlike(one: Mapping[str, object], other: Mapping[str, object]) -> list[str]:
    """Return the names under which not both have the same, sorted."""
    names = one.keys() | other.keys()
    return [name for name in sorted(names) if one.get(name) != other.get(name)]


def _fault(claim: Claim, stated: TensorEntry, recomputed: BlobId) -> str | None:
    """Return whose fault it is that a tensor is wrong; None if it is not."""
    right = stated.blob == recomputed
    if claim.files is not None:
        if claim.files[stated.name] != stated.blob:
            return FOLDER
        return None if right else MAKER
    ours = claim.ours.get(stated.name) if claim.ours is not None else None
    if ours is None or ours.blob == recomputed:
        return None if right else PEER
    return OURS if right else BOTH


def _digests(claim: Claim, stated: TensorEntry, recomputed: BlobId) -> Answer:
    """Return what each side says that the tensor is."""
    facts: Answer = {"stated": stated.blob.hex(), "recomputed": recomputed.hex()}
    if claim.files is not None:
        facts["file"] = claim.files[stated.name].hex()
    elif claim.ours is not None and stated.name in claim.ours:
        facts["ours"] = claim.ours[stated.name].blob.hex()
    return facts


def _facts(claim: Claim, sample: Sample, wrong: Mapping[str, Answer]) -> Answer:
    sizes = {entry.name: entry.size for entry in claim.tensors}
    few = -(-sample.total // 100)
    return {
        "space": claim.space.hex(),
        "merge_id": claim.merge_id.hex(),
        "model_digest": model_digest(claim.tensors).hex(),
        "seed": sample.seed,
        "share": float(sample.share),
        "tensors": sample.total,
        "checked": len(sample.names),
        "known_to_differ": len(sample.first),
        "bytes": sum(sizes.values()),
        "checked_bytes": sum(sizes[name] for name in sample.names),
        "missed": {
            "one_tensor": sample.missed(1),
            "one_percent": sample.missed(few),
        },
        "compared_with_ours": claim.ours is not None,
        "ok": not wrong,
        "wrong": [
            {"tensor": name, **wrong[name]} for name in sorted(wrong)[:TENSORS_TOLD_MAX]
        ],
        "wrong_tensors": len(wrong),
    }


# --- what a peer attests ----------------------------------------------------------------


def attested_tensors(context: Context, asked: Arguments, tell: Tell) -> Answer:
    """Return what a peer attests, with the tensors behind its model digest.

    Raises:
        NotFoundError: there is no such node, or it said nothing in time.
        BadInputError: it is the node of this home.
        NodeNeededError: no node runs here.
    """
    space = choose_space(context.spaces, given.optional_text(asked, "space"))
    node = find_node(context.spaces, given.text(asked, "node"))
    if node == context.home.node.public:
        message = "that is the node of this home"
        hint = "`crdtmerge audit DIR` recomputes a model that lies here"
        raise BadInputError(message, hint=hint)
    live = live_of(context)
    live.want_tensors(space, node)
    end = live.now() + LIST_PATIENCE_S
    while (told := _listed(context, live, space, node)) is None:
        if live.now() >= end:
            raise _silent(context, live, space, node)
        tell({"work": "waiting for the peer", "done": 0, "total": 1})
        live.pause(POLL_S)
    return told


def _listed(
    context: Context, live: Live, space: SpaceId, node: bytes
) -> "Answer | None":
    known = live.attested(space)
    heard, listed = known.latest.get(node), known.lists.get(node)
    if heard is None or listed is None:
        return None
    told = heard.attestation
    if listed.model != told.model:
        return None
    authors = context.spaces.view(space).node_authors.get(node, ())
    return {
        "space": space.hex(),
        "node": node.hex(),
        "authors": [author.hex() for author in authors],
        "merge_id": told.merge_id.hex(),
        "model_digest": told.model.hex(),
        "contract": told.contract,
        "platform": told.platform,
        "counter": told.counter,
        "tensors": [
            [entry.name, entry.dtype, list(entry.shape), entry.blob.hex()]
            for entry in listed.tensors
        ],
    }


def _silent(context: Context, live: Live, space: SpaceId, node: bytes) -> NotFoundError:
    """Return the error that says why a peer told nothing."""
    short = node.hex()[:SHORT]
    if node not in live.connected():
        away = unreached(context, [space])
        return NotFoundError(f"node {short} is not connected; not connected: {away}")
    if node not in live.attested(space).latest:
        hint = "somebody must `crdtmerge resolve` there, without exploring"
        return NotFoundError(f"node {short} attests nothing", hint=hint)
    return NotFoundError(f"node {short} did not say of which tensors its model is")
