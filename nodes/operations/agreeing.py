"""Who attests the same model of a space, and who differs on which tensors.

Owns what `status` tells of attestations. Does not own how they come (`nodes.attesting`),
nor recomputing, which takes long (`auditing`): what is told here is what nodes say.

Only attestations of one state (merge id) under one numeric contract can differ: another
state is another model by right, and another contract has other bits.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from crdtmerge.bodies import SpaceId
from crdtmerge.manifest import TensorEntry
from crdtmerge.numerics import CONTRACT_VERSION
from crdtmerge.sync.attestations import Attestation
from crdtmerge.sync.listings import differing

from ..attesting import Attested
from ..store.attested import AttestedFiles, Made
from ..witness import said
from .live import Answer, Context

TENSORS_TOLD_MAX: Final = 64
"""Names of tensors that one answer lists of one node."""

Verdict = Literal["agrees", "differs", "another state", "another contract"]


@dataclass(frozen=True, slots=True)
class Standing:
    """How the attestations of one space stand to the model that counts here.

    That is the one of this home, if it resolved the present state; else the one that most
    nodes attest. `ours` are the tensors of this home's.
    """

    merge_id: bytes
    model: bytes | None
    by_us: bool
    attestations: Mapping[bytes, Attestation]
    lists: Mapping[bytes, tuple[TensorEntry, ...]]
    ours: tuple[TensorEntry, ...] | None

    def verdict(self, told: Attestation) -> Verdict:
        """Return what an attestation says of the model that counts here."""
        if told.merge_id != self.merge_id:
            return "another state"
        if told.contract != CONTRACT_VERSION:
            return "another contract"
        return "agrees" if told.model == self.model else "differs"

    def differing(self, node: bytes) -> tuple[str, ...] | None:
        """Return on which tensors a node differs from this home; None if unknown."""
        theirs = self.lists.get(node)
        if theirs is None or self.ours is None or not self.by_us:
            return None
        return differing(self.ours, theirs)


def standing(context: Context, space: SpaceId) -> Standing:
    """Return how the attestations of a space stand now."""
    view, me = context.spaces.view(space), context.home.node.public
    merge_id = view.merge_id(view.recipe) if view.recipe else b""
    known = context.live.attested(space) if context.live else Attested()
    found = {node: heard.attestation for node, heard in known.latest.items()}
    made = AttestedFiles(context.home.path).load(space)
    found.pop(me, None)
    if made is not None:
        found[me] = said(space, me, made)
    by_us = made is not None and _is_of(made, merge_id)
    lists = {
        node: listed.tensors
        for node, listed in known.lists.items()
        if node in found and listed.model == found[node].model
    }
    ours = made.tensors if made and by_us else None
    model = made.model if made and by_us else _most(found.values(), merge_id)
    return Standing(merge_id, model, by_us, found, lists, ours)


def _is_of(made: Made, merge_id: bytes) -> bool:
    return (made.merge_id, made.contract) == (merge_id, CONTRACT_VERSION)


def _most(told: Iterable[Attestation], merge_id: bytes) -> bytes | None:
    """Return the model that most nodes attest of the present state, if any does."""
    counts = Counter(
        one.model
        for one in told
        if (one.merge_id, one.contract) == (merge_id, CONTRACT_VERSION)
    )
    return min(counts, key=lambda model: (-counts[model], model), default=None)


def agreement_facts(context: Context, space: SpaceId) -> Answer:
    """Return who attests what of a space, as JSON."""
    now = standing(context, space)
    nodes = [
        _node_facts(context, space, now, node) for node in sorted(now.attestations)
    ]
    counts = Counter(node["verdict"] for node in nodes)
    return {
        "merge_id": now.merge_id.hex() or None,
        "model_digest": now.model.hex() if now.model else None,
        "resolved_here": now.by_us,
        "agree": counts["agrees"],
        "differ": counts["differs"],
        "other_states": counts["another state"],
        "other_contracts": counts["another contract"],
        "nodes": nodes,
    }


def _node_facts(context: Context, space: SpaceId, now: Standing, node: bytes) -> Answer:
    told = now.attestations[node]
    verdict = now.verdict(told)
    names = now.differing(node) if verdict == "differs" else None
    authors = context.spaces.view(space).node_authors.get(node, ())
    return {
        "node": node.hex(),
        "me": node == context.home.node.public,
        "authors": [author.hex() for author in authors],
        "verdict": verdict,
        "merge_id": told.merge_id.hex(),
        "model_digest": told.model.hex(),
        "contract": told.contract,
        "platform": told.platform,
        "counter": told.counter,
        "tensors": list(names[:TENSORS_TOLD_MAX]) if names is not None else None,
        "tensors_differing": len(names) if names is not None else None,
    }
