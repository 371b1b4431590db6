"""Merging through the library: manifests, a plan, `execute`; bytes in, bytes out.

Owns the way from torch weights to a merged model and its digest, and what becomes of a
strategy's refusal. Does not own what is merged nor with which parameters (`settings`).
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, TypeAlias

import numpy as np
import torch

from benchmarks.quality.evidence import Attached
from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.digest import BlobId, ContentId, blob_id_of
from crdtmerge.errors import CrdtMergeError
from crdtmerge.evidence.kinds import KINDS, SCALAR
from crdtmerge.manifest import EvidenceEntry, Manifest, TensorEntry
from crdtmerge.recipe import Parameters, Recipe
from crdtmerge.resolve.execute import execute
from crdtmerge.resolve.plan import Plan, Unread, make_plan
from crdtmerge.resolve.resolution import model_digest
from crdtmerge.resolve.settings import Contribution
from crdtmerge.strategies import Values, check_recipe, make_recipe
from nodes.demo.training import Weights

DTYPE: Final = "F32"

Words: TypeAlias = Mapping[str, str]
"""Parameters as a user types them."""


@dataclass(frozen=True, slots=True)
class Setting:
    """How a strategy is asked: parameters, and those of each model if it takes such.

    `own` holds one entry a model, in the order in which models are given; empty for none.
    """

    parameters: Words = field(default_factory=dict)
    own: tuple[Words, ...] = ()

    def told(self) -> dict[str, object]:
        """Return it as JSON has it."""
        return {"parameters": dict(self.parameters)} | (
            {"own": [dict(words) for words in self.own]} if self.own else {}
        )


@dataclass(frozen=True, slots=True)
class Merged:
    """A merged model, what it is called, and how long it took."""

    weights: Weights
    digest: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why there is no model. `is_bug`: no error that crdtmerge raises on purpose."""

    reason: str
    is_bug: bool = False


class Memory:
    """A tensor source and a sink in memory."""

    def __init__(self) -> None:
        """Hold nothing yet."""
        self.blobs: dict[BlobId, bytes] = {}
        self.written: dict[str, bytes] = {}

    def put(self, data: bytes) -> BlobId:
        """Keep `data` under its id."""
        blob = blob_id_of(data)
        self.blobs[blob] = data
        return blob

    def read(self, blob: BlobId, size: int) -> bytes:
        """Return the bytes of a blob."""
        assert len(self.blobs[blob]) == size, "a manifest tells another size"
        return self.blobs[blob]

    def write(self, name: str, data: bytes | memoryview, offset: int = 0) -> None:
        """Keep an output tensor."""
        self.written[name] = self.written.get(name, b"")[:offset] + bytes(data)


class Bench:
    """A base and the models tuned from it, ready to be merged in any choice."""

    def __init__(self, base: Weights) -> None:
        """Describe the base."""
        self.memory = Memory()
        self.base = self._manifest(base, "base", b"")

    def merge(
        self,
        strategy: str,
        setting: Setting,
        tuned: Sequence[Weights],
        unread: Callable[[Plan], Unread] | None = None,
        attached: Callable[[], Sequence[Attached]] | None = None,
    ) -> Merged | Refusal:
        """Merge with equal weights; whatever stops the strategy is told, not raised.

        `unread` tells what is left out of a plan that reads everything; `attached` the
        evidence of each model, which is asked for where the strategy reads any.
        """
        try:
            plan = self._plan(strategy, setting, tuned, None, attached)
            if unread is not None:
                plan = self._plan(strategy, setting, tuned, unread(plan), attached)
            self.memory.written.clear()
            start = time.perf_counter()
            digests = execute(plan, self.memory, self.memory)
            seconds = time.perf_counter() - start
        except CrdtMergeError as e:
            return Refusal(f"{e}; {e.hint}" if e.hint else str(e))
        except Exception as e:  # noqa: BLE001 -- one broken strategy must not hide the rest
            return Refusal(f"{type(e).__name__}: {e}", is_bug=True)
        entries = [
            TensorEntry(name, dtype, shape, digests[name])
            for name, dtype, shape in plan.outputs
        ]
        weights = {entry.name: self._weights(entry) for entry in entries}
        return Merged(weights, model_digest(entries).hex(), seconds)

    def content(self, weights: Weights) -> str:
        """Return the content id of a model tuned from the base."""
        return self.manifest(weights).content_id.hex()

    def manifest(self, weights: Weights) -> Manifest:
        """Return the manifest of a model tuned from the base."""
        return self._manifest(weights, "full", self.base.content_id)

    def _plan(
        self,
        strategy: str,
        setting: Setting,
        tuned: Sequence[Weights],
        unread: Unread | None,
        attached: Callable[[], Sequence[Attached]] | None,
    ) -> Plan:
        recipe = make_recipe(strategy, setting.parameters)
        own = setting.own or ({},) * len(tuned)
        forms = _read_by(recipe) if attached else ()
        evidence = [
            self._evidence(found, forms)
            for found in (attached() if attached and forms else ())
        ] or [()] * len(tuned)
        given = [
            self._contribution(
                replace(self.manifest(weights), evidence=entries),
                _canonical(strategy, setting.parameters, words),
            )
            for weights, entries, words in zip(tuned, evidence, own, strict=True)
        ]
        return make_plan(recipe, self.base, given, unread=unread)

    def _contribution(self, manifest: Manifest, parameters: Parameters) -> Contribution:
        content_id = ContentId(manifest.content_id)
        return Contribution(content_id, DECIMAL_UNIT, manifest, (), parameters)

    def _evidence(
        self, found: Attached, forms: Sequence[str]
    ) -> tuple[EvidenceEntry, ...]:
        """Return what a manifest says of the evidence in these forms."""
        tensors = [
            EvidenceEntry(form, self._entry(name, value))
            for form in forms
            for name, value in sorted(found.tensors.get(form, {}).items())
        ]
        numbers = [
            EvidenceEntry(SCALAR, self._number(name, value))
            for name, value in sorted(found.scalars.items())
            if SCALAR in forms
        ]
        return (*tensors, *numbers)

    def _entry(self, name: str, value: torch.Tensor) -> TensorEntry:
        return TensorEntry(
            name, DTYPE, tuple(value.shape), self.memory.put(_bytes(value))
        )

    def _number(self, name: str, value: float) -> TensorEntry:
        blob = self.memory.put(np.float64(value).astype("<f8").tobytes())
        return TensorEntry(name, "F64", (), blob)

    def _manifest(self, weights: Weights, kind: str, base: bytes) -> Manifest:
        entries = [self._entry(name, value) for name, value in sorted(weights.items())]
        return Manifest(kind, base, tuple(entries))

    def _weights(self, entry: TensorEntry) -> torch.Tensor:
        data = np.frombuffer(self.memory.written[entry.name], "<f4")
        return torch.from_numpy(data.reshape(entry.shape).astype(np.float32))


def _read_by(recipe: Recipe) -> tuple[str, ...]:
    """Return the stored forms of the evidence that a recipe's strategy reads, sorted."""
    strategy = check_recipe(recipe)
    values = Values(recipe.for_the_whole(()).parameters)
    forms = {f for kind in strategy.evidence(values) for f in KINDS[kind].forms}
    return tuple(sorted(forms | ({SCALAR} if strategy.scalars(values) else set())))


def _canonical(strategy: str, shared: Words, own: Words) -> Parameters:
    """Return own parameters in the text that a recipe would hold."""
    made = make_recipe(strategy, {**shared, **own})
    return tuple(pair for pair in made.parameters if pair[0] in own)


def _bytes(value: torch.Tensor) -> bytes:
    return value.contiguous().numpy().astype("<f4").tobytes()
