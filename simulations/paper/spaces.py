"""A space of replicas in which each contributes one small tensor.

Owns founding it and what is contributed, drawn from one seed with NumPy's own generator.
Does not own exchanges (`replicas`), nor what is measured. The space is open, so a replica
needs no grant: it hangs its records on the genesis.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from crdtmerge.bodies import SpaceId
from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.digest import ContentId, Domain, digest
from crdtmerge.manifest import Manifest, TensorEntry
from crdtmerge.recipe import Recipe
from crdtmerge.replica import found_space
from simulations.checking.merging import Merged, merge

from .catalogue import tag_of
from .replicas import CheckedBlobs, Peer, make_peer

SEED: Final = 42
"""The paper's."""
TENSOR: Final = "weight"
DTYPES: Final = {"F32": np.float32, "F64": np.float64}


def draw(side: int, number: int, dtype: str = "F32", seed: int = SEED) -> bytes:
    """Return the bytes of one square tensor of standard normal items, by its number."""
    rng = np.random.default_rng((seed, number))  # noqa: TID251  as the paper draws
    values = rng.standard_normal((side, side))
    return values.astype(DTYPES[dtype]).tobytes()


def model_of(
    blobs: CheckedBlobs, kind: str, data: bytes, *, base: bytes, side: int, dtype: str
) -> Manifest:
    """Store a model of one square tensor; return its manifest."""
    entry = TensorEntry(TENSOR, dtype, (side, side), blobs.add(data))
    manifest = Manifest(kind, base, (entry,))
    blobs.add(manifest.encode())
    return manifest


@dataclass(frozen=True, slots=True)
class Founded:
    """A space whose members have contributed, each on a replica of its own.

    `base` is the model that they began with, which all have and none sends.
    """

    space: SpaceId
    base: Manifest
    peers: tuple[Peer, ...]

    def resolve(self, peer: Peer) -> Merged:
        """Return the model of one replica, from its own records and blobs alone."""
        found = merge(peer.spaces, self.space, self.base)
        assert found is not None, "every member contributed"
        return found


def found_among(recipe: Recipe, peers: Sequence[Peer], base: ContentId) -> SpaceId:
    """Found a space whose first member owns it.

    All members have what a ticket brings: the genesis and the recipe.
    """
    owner = peers[0]
    genesis = found_space(
        owner.key,
        name="paper",
        mode="open",
        base=base,
        nonce=digest(Domain.SEED, b"paper")[:16],
    )
    space = SpaceId(genesis.record.id)
    owner.say(space, genesis)
    chosen = owner.replica(space).set_recipe(recipe)
    for peer in peers:
        peer.say(space, genesis, chosen)
    return space


def begin(
    recipe: Recipe, peers: Sequence[Peer], side: int, dtype: str
) -> tuple[SpaceId, Manifest]:
    """Found a space of which all members have the base; return it and the base."""
    data = draw(side, 0, dtype)
    base, *_ = [
        model_of(p.blobs, "base", data, base=b"", side=side, dtype=dtype) for p in peers
    ]
    return found_among(recipe, peers, base.content_id), base


def contributed(recipe: Recipe, count: int, side: int, dtype: str = "F32") -> Founded:
    """Return a space of `count` members, each with its own contribution alone.

    Tensor 0 is the base, tensor k what member k contributes, from 1.
    """
    peers = tuple(make_peer(f"member {k}") for k in range(1, count + 1))
    space, base = begin(recipe, peers, side, dtype)
    for k, peer in enumerate(peers, 1):
        data = draw(side, k, dtype)
        content = base.content_id
        model = model_of(peer.blobs, "full", data, base=content, side=side, dtype=dtype)
        signed = peer.replica(space).contribute(
            model, weight=DECIMAL_UNIT, note="", tags=(tag_of(k),)
        )
        peer.say(space, signed)
    return Founded(space, base, peers)


def bytes_digest(merged: Merged) -> str:
    """Return the digest of a model's bytes, tensor by tensor."""
    data = b"".join(merged.tensors[name] for name in sorted(merged.tensors))
    return digest(Domain.BLOB, data).hex()


def distinct(models: Sequence[Merged]) -> int:
    """Count the models that differ in a byte of a tensor, or of what tells of them."""
    return len({(bytes_digest(m), m.model_digest, m.resolution) for m in models})
