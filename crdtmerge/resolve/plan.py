"""The plan of a resolve: which tasks, on which inputs, under which keys.

Owns canonical order, seeds, task keys, and every refusal that needs no tensor byte. Does
not own the computation (`execute`), nor what a strategy does.

A task's key is the digest of every input that can change a bit of its result, and of
nothing else: equal keys may share a result, even over tensors of different name.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from crdtmerge.codec import Value
from crdtmerge.digest import ContentId, Domain, digest_value
from crdtmerge.errors import (
    BadInputError,
    FaultyContributionError,
    NothingToResolveError,
)
from crdtmerge.manifest import FLOAT_DTYPES, Manifest, TensorEntry, check_against_base
from crdtmerge.numerics import CONTRACT_VERSION, check_weights
from crdtmerge.recipe import Recipe
from crdtmerge.strategies import Strategy, check_recipe
from crdtmerge.trie import Trie

Output = tuple[str, str, tuple[int, ...]]
"""Name, dtype and shape of a tensor of the merged model."""


@dataclass(frozen=True, slots=True)
class Contribution:
    """A visible contribution: what it is called, weighs, holds, and who offers it.

    `weight` is in units of 10**-9.
    """

    content: ContentId
    weight: int
    manifest: Manifest
    authors: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Task:
    """One pure computation; `needs` are the keys of the tasks whose results it takes."""

    key: bytes
    kind: Literal["map", "reduce", "emit"]
    tensor: str
    needs: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that a resolve needs to know before it reads a byte.

    Contributions are in canonical order. `seeds` holds those that enter a task: none
    unless the strategy draws, and draws by the set. `tasks` come in an order in which
    every task follows those that it needs.
    """

    recipe: Recipe
    strategy: Strategy
    base: Manifest
    contributions: tuple[Contribution, ...]
    tasks: tuple[Task, ...]
    seeds: Mapping[str, bytes]
    outputs: tuple[Output, ...]

    @property
    def weights(self) -> tuple[int, ...]:
        """The weights in canonical order, in units of 10**-9."""
        return tuple(item.weight for item in self.contributions)

    @property
    def contents(self) -> tuple[ContentId, ...]:
        """The content ids in canonical order."""
        return tuple(item.content for item in self.contributions)


def make_plan(
    recipe: Recipe, base: Manifest, contributions: Iterable[Contribution]
) -> Plan:
    """Return the plan; the order of `contributions` does not matter.

    Raises:
        UpgradeNeededError: this version does not know the strategy.
        BadInputError: the recipe is not acceptable.
        NothingToResolveError: there is no contribution.
        FaultyContributionError: a manifest cannot be merged into this base.
        ContractError: the weights leave the numeric contract.
    """
    strategy = check_recipe(recipe)
    # SUBTLE: canonical order; task keys, floating sums of maps and masks follow it.
    ordered = tuple(sorted(contributions, key=lambda item: item.content))
    if not ordered:
        message = "the space has no visible contribution"
        raise NothingToResolveError(message)
    for contribution in ordered:
        _check_contribution(contribution, base)
    check_weights(item.weight for item in ordered)
    inputs = _Tensors(recipe, strategy, base, ordered)
    return Plan(
        recipe,
        strategy,
        base,
        ordered,
        tuple(inputs.tasks()),
        MappingProxyType(inputs.seeds()),
        tuple(_output(recipe, entry) for entry in inputs.entries),
    )


def is_merged(entry: TensorEntry) -> bool:
    """Tell whether a tensor is merged; others (indices, masks) are the base's own."""
    return entry.dtype in FLOAT_DTYPES


def tensor_seed(recipe: Recipe, name: str, changed_by: Iterable[bytes]) -> bytes:
    """Return the seed of one tensor.

    `changed_by` are the contents whose blob for the tensor differs from the base's: who
    leaves a tensor alone does not change its masks, and no author chooses the root.
    """
    root = Trie.build(changed_by).root
    return digest_value(Domain.SEED, [recipe.digest, name, root])


def _check_contribution(contribution: Contribution, base: Manifest) -> None:
    """Refuse a contribution whose manifest breaks a rule: that is its author's fault."""
    content, manifest = contribution.content, contribution.manifest
    if manifest.kind != "full":
        reason = f"kind {manifest.kind!r} is not supported by this version"
        raise FaultyContributionError(content, reason)
    if manifest.base != base.content_id:
        reason = f"it was made from another base, {manifest.base.hex()[:12]}"
        raise FaultyContributionError(content, reason)
    if manifest.content_id != content:
        reason = f"its manifest is of another content, {manifest.content_id.hex()[:12]}"
        raise FaultyContributionError(content, reason)
    try:
        check_against_base(manifest, base)
    except BadInputError as e:
        raise FaultyContributionError(content, str(e)) from e


def _output(recipe: Recipe, entry: TensorEntry) -> Output:
    dtype = recipe.output_dtype if is_merged(entry) else ""
    return entry.name, dtype or entry.dtype, entry.shape


class _Tensors:
    """The tensors of base and contributions side by side, while tasks are made."""

    def __init__(
        self,
        recipe: Recipe,
        strategy: Strategy,
        base: Manifest,
        contributions: Sequence[Contribution],
    ) -> None:
        self.entries = sorted(base.tensors, key=lambda entry: entry.name)
        self._recipe = recipe
        self._strategy = strategy
        self._weights = [item.weight for item in contributions]
        self._contents = [item.content for item in contributions]
        self._blobs = [
            {entry.name: entry.blob for entry in item.manifest.tensors}
            for item in contributions
        ]

    def seeds(self) -> dict[str, bytes]:
        """Return the seed of each tensor whose tasks take one."""
        if not self._strategy.draws or self._recipe.seed_scope != "set":
            return {}
        return {e.name: self._seed(e) for e in self.entries if is_merged(e)}

    def _seed(self, entry: TensorEntry) -> bytes:
        changed_by = [
            content
            for content, blobs in zip(self._contents, self._blobs, strict=True)
            if blobs[entry.name] != entry.blob
        ]
        return tensor_seed(self._recipe, entry.name, changed_by)

    def tasks(self) -> list[Task]:
        """Return all tasks: maps and their reduce, if the strategy has them; emits."""
        merged = [entry for entry in self.entries if is_merged(entry)]
        tasks: list[Task] = []
        needs: tuple[bytes, ...] = ()
        if self._strategy.reduce is not None and merged:
            tasks = [Task(self._key("map", e), "map", e.name) for e in merged]
            maps = tuple(task.key for task in tasks)
            reduce = Task(self._reduce_key(maps), "reduce", "", maps)
            tasks.append(reduce)
            needs = (reduce.key,)
        for entry in self.entries:
            if is_merged(entry):
                key = self._key("emit", entry, needs)
                tasks.append(Task(key, "emit", entry.name, needs))
            else:
                tasks.append(Task(_copy_key(entry), "emit", entry.name))
        return tasks

    def _key(
        self, kind: str, entry: TensorEntry, needs: tuple[bytes, ...] = ()
    ) -> bytes:
        """Return the key of a map or emit task of one float tensor."""
        parameters = self._recipe.parameters_for(entry.name)
        value: list[Value] = [
            CONTRACT_VERSION,
            kind,
            self._strategy.full_name,
            [list(pair) for pair in parameters],
            entry.dtype,
            list(entry.shape),
            entry.blob,
            [blobs[entry.name] for blobs in self._blobs],
            self._weights,
            list(needs),
        ]
        if kind == "emit":
            value.append(self._recipe.output_dtype or entry.dtype)
        if self._strategy.draws:
            # Masks are keyed by these; elsewhere a tensor's name changes no bit.
            scope = self._recipe.seed_scope
            seed = self._seed(entry) if scope == "set" else b""
            value += [scope, seed, entry.name, list(self._contents)]
        return digest_value(Domain.TASK, value)

    def _reduce_key(self, maps: Sequence[bytes]) -> bytes:
        name = self._strategy.full_name
        value: Value = [CONTRACT_VERSION, "reduce", name, list(maps), self._weights]
        return digest_value(Domain.TASK, value)


def _copy_key(entry: TensorEntry) -> bytes:
    """Return the key of a task that copies a tensor of the base, whatever the recipe."""
    return digest_value(Domain.TASK, [CONTRACT_VERSION, "copy", entry.blob])
