"""The plan of a resolve: which tasks, on which inputs, under which keys.

Owns canonical order, seeds, task keys, and every refusal that needs no tensor byte. Does
not own the computation (`execute`), nor what a strategy does.

A task's key is the digest of every input that can change a bit of its result, and of
nothing else: equal keys may share a result, even over tensors of different name.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

from crdtmerge.changes import Change, changes_of, key_of
from crdtmerge.codec import Value, format_decimal
from crdtmerge.digest import ContentId, Domain, digest_value
from crdtmerge.errors import (
    BadInputError,
    FaultyContributionError,
    NothingToResolveError,
)
from crdtmerge.manifest import Manifest, TensorEntry
from crdtmerge.numerics import CONTRACT_VERSION, check_weights
from crdtmerge.recipe import Parameters, Recipe
from crdtmerge.resolve.attached import Attached
from crdtmerge.resolve.ground import ON_BASE, Footing, Frame, lay_ground
from crdtmerge.resolve.settings import Contribution, Settings, TensorSetting
from crdtmerge.resolve.settings_check import check_settings
from crdtmerge.strategies import (
    Score,
    Strategy,
    Values,
    Whole,
    check_recipe,
    has_reduce,
    steps_of,
)
from crdtmerge.strategies.scores import scores_of
from crdtmerge.trie import Trie

Unread = Mapping[ContentId, frozenset[str]]
"""The tensors of each contribution that an I/O budget leaves unread, if any."""

Output = tuple[str, str, tuple[int, ...]]
"""Name, dtype and shape of a tensor of the merged model."""


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

    Contributions are in canonical order, and `changes` and `unread` with them: what each
    says of which tensor, and what of that an I/O budget leaves unread. `frames` tells of
    each tensor what it stands on. `seeds` holds those that enter a task: none unless the
    strategy draws by the set, or depends on an order.
    `scores` are those that the strategy reads, sorted; `attached` is the evidence.
    `tasks` come in an order in which every task follows those that it needs.
    """

    recipe: Recipe
    strategy: Strategy
    base: Manifest
    contributions: tuple[Contribution, ...]
    changes: tuple[Mapping[str, Change], ...]
    unread: tuple[Mapping[str, Change], ...]
    settings: Settings
    frames: Mapping[str, Frame]
    tasks: tuple[Task, ...]
    seeds: Mapping[str, bytes]
    outputs: tuple[Output, ...]
    attached: Attached
    scores: tuple[Score, ...] = ()

    @property
    def contents(self) -> tuple[ContentId, ...]:
        """The content ids in canonical order."""
        return tuple(item.content for item in self.contributions)

    @property
    def whole(self) -> Whole:
        """What a reduce step sees beside the measures, but for single numbers."""
        return replace(self.settings.of_whole(), scores=self.scores)


def make_plan(
    recipe: Recipe,
    base: Manifest,
    contributions: Iterable[Contribution],
    footing: Footing = ON_BASE,
    unread: Unread | None = None,
    *,
    scores: Iterable[Score] = (),
) -> Plan:
    """Return the plan; the order of `contributions` does not matter.

    On "none" the base says only which tensors there are, and gives those that
    are not merged. On "zero" the result holds merged task vectors in F32, of the
    tensors that any contribution changes; a tensor that each gives whole stands on none.
    What is `unread` counts as left as it is in the base; a recipe with an I/O budget
    cannot do without it (`norms.unread_within`). Of `scores`, those count that the strategy
    reads.

    Raises:
        UpgradeNeededError: this version does not know the strategy, or the package that
            brings it is not installed.
        PluginError: it is of another package, and refused.
        BadInputError: the recipe is not acceptable, its strategy needs a base that
            `footing` does not give, or more contributions than there are; or it has an
            I/O budget, and nothing says what is unread.
        NothingToResolveError: there is no contribution.
        FaultyContributionError: a manifest cannot be merged into this base.
        ContractError: the weights leave the numeric contract.
    """
    strategy = check_recipe(recipe)
    _check_budget(recipe, unread)
    # SUBTLE: canonical order; task keys, floating sums of maps and masks follow it.
    ordered = tuple(sorted(contributions, key=_canonical))
    if not ordered:
        message = "the space has no visible contribution"
        raise NothingToResolveError(message)
    everything = [_changes(item, base, recipe.missing) for item in ordered]
    gone = [(unread or {}).get(item.content, frozenset()) for item in ordered]
    changes = _divided(everything, gone, read=True)
    said = [(c.content, found) for c, found in zip(ordered, changes, strict=True)]
    settings = Settings.of(recipe, (entry.name for entry in base.tensors), ordered)
    _check_count(settings, strategy)
    laid = lay_ground(settings, strategy, base, said, footing)
    _check_all_weights(settings, laid)
    check_settings(strategy, settings, laid)
    read = scores_of(recipe, {item.content for item in ordered}, scores)
    attached = Attached.of(strategy, settings, ordered)
    attached.check(frame.entry for frame in laid if frame.is_merged)
    inputs = _Tensors(attached, laid, changes, read)
    return Plan(
        recipe,
        strategy,
        base,
        ordered,
        changes,
        _divided(everything, gone, read=False),
        settings,
        MappingProxyType({frame.entry.name: frame for frame in laid}),
        tuple(inputs.tasks()),
        MappingProxyType(inputs.seeds()),
        tuple(_output(recipe, frame) for frame in laid),
        attached,
        read,
    )


def _check_budget(recipe: Recipe, unread: Unread | None) -> None:
    """Refuse to read everything where a recipe says that only some may be."""
    if recipe.io_budget and unread is None:
        message = "the recipe has an I/O budget, and what it leaves unread is not told"
        raise BadInputError(message, hint="resolve it in a home, which keeps norms")


def _divided(
    everything: Iterable[Mapping[str, Change]],
    unread: Iterable[frozenset[str]],
    *,
    read: bool,
) -> tuple[Mapping[str, Change], ...]:
    """Return of what each contribution says that which is read, or else the rest."""
    return tuple(
        {name: change for name, change in said.items() if (name not in gone) is read}
        for said, gone in zip(everything, unread, strict=True)
    )


def _check_count(settings: Settings, strategy: Strategy) -> None:
    """Refuse too few contributions before any work is done.

    What rules take out of some tensors, the strategy refuses by itself.
    """
    whole = settings.of_whole()
    count = sum(weight != 0 for weight in whole.weights)
    needed = strategy.fewest(whole.values)
    if needed > max(1, count):  # what one is enough for says itself what none gives
        message = (
            f"{strategy.full_name} as set needs {needed} contributions of weight above"
            f" zero, and there are {count}"
        )
        hint = (
            "wait for more, or change the recipe: `crdtmerge strategies` lists others"
        )
        raise BadInputError(message, hint=hint)


def _check_all_weights(settings: Settings, frames: Iterable[Frame]) -> None:
    """Refuse weights, those that rules give too, before any work is done."""
    checked = set()
    for frame in frames:
        weights = settings.of_tensor(frame.entry.name).weights
        if frame.is_merged and weights not in checked:
            check_weights(weights, f"tensor {frame.entry.name!r}")
            checked.add(weights)


def _canonical(item: Contribution) -> tuple[bytes, int, Parameters]:
    """Order by content; one model may be listed twice in a merge without a space."""
    return item.content, item.weight, item.parameters


def tensor_seed(recipe: Recipe, name: str, changed_by: Iterable[bytes]) -> bytes:
    """Return the seed of one tensor.

    `changed_by` are the contents whose blob for the tensor differs from the base's: who
    leaves a tensor alone does not change its masks, and no author chooses the root.
    """
    root = Trie.build(changed_by).root
    return digest_value(Domain.SEED, [recipe.digest, name, root])


def _changes(
    contribution: Contribution, base: Manifest, missing: str
) -> Mapping[str, Change]:
    """Refuse a contribution whose manifest breaks a rule: that is its author's fault."""
    content, manifest = contribution.content, contribution.manifest
    if manifest.base != base.content_id:
        reason = f"it was made from another base, {manifest.base.hex()[:12]}"
        raise FaultyContributionError(content, reason)
    if manifest.content_id != content:
        reason = f"its manifest is of another content, {manifest.content_id.hex()[:12]}"
        raise FaultyContributionError(content, reason)
    try:
        return changes_of(manifest, base, missing)
    except BadInputError as e:
        raise FaultyContributionError(content, str(e)) from e


def _output(recipe: Recipe, frame: Frame) -> Output:
    entry = frame.entry
    return entry.name, output_dtype(recipe, frame) or entry.dtype, entry.shape


def output_dtype(recipe: Recipe, frame: Frame) -> str:
    """Return the dtype asked for; empty where a tensor keeps the one computed in."""
    return recipe.output_dtype if frame.is_merged and frame.ground != "zero" else ""


class _Tensors:
    """The tensors of base and contributions side by side, while tasks are made."""

    def __init__(
        self,
        attached: Attached,
        frames: Sequence[Frame],
        changes: Sequence[Mapping[str, Change]],
        scores: Sequence[Score],
    ) -> None:
        self.frames = frames
        self._settings = settings = attached.settings
        self._recipe = settings.recipe
        self._strategy = attached.strategy
        self._contents = [item.content for item in settings.contributions]
        self._changes = changes
        self._scores = scores
        self._attached = attached

    def seeds(self) -> dict[str, bytes]:
        """Return the seed of each tensor whose tasks take one."""
        if not takes_seed(self._strategy, self._recipe):
            return {}
        return {f.entry.name: self._seed(f) for f in self.frames if f.is_merged}

    def _seed(self, frame: Frame) -> bytes:
        changed_by = [
            content
            for content, said in zip(self._contents, self._said(frame), strict=True)
            if said != frame.entry.blob
        ]
        return tensor_seed(self._recipe, frame.entry.name, changed_by)

    def _said(self, frame: Frame) -> list[Value]:
        """Return what each contribution says of a tensor; the base's blob if nothing."""
        entry = frame.entry
        return [key_of(changes.get(entry.name), entry) for changes in self._changes]

    def tasks(self) -> list[Task]:
        """Return all tasks: maps and their reduce, if the strategy has them; emits."""
        merged = [frame for frame in self.frames if frame.is_merged]
        tasks: list[Task] = []
        needs: tuple[bytes, ...] = ()
        if has_reduce(self._strategy, self._recipe) and merged:
            if self._strategy.map is not None:
                tasks = [Task(self._key("map", f), "map", f.entry.name) for f in merged]
            maps = tuple(task.key for task in tasks)
            reduce = Task(self._reduce_key(maps), "reduce", "", maps)
            tasks.append(reduce)
            needs = (reduce.key,)
        for frame in self.frames:
            if frame.is_merged:
                key = self._key("emit", frame, needs)
                tasks.append(Task(key, "emit", frame.entry.name, needs))
            else:
                tasks.append(Task(_copy_key(frame.entry), "emit", frame.entry.name))
        return tasks

    def _key(self, kind: str, frame: Frame, needs: tuple[bytes, ...] = ()) -> bytes:
        """Return the key of a map or emit task of one float tensor."""
        entry = frame.entry
        setting = self._settings.of_tensor(entry.name)
        parties = self._parties(frame, setting)
        value: list[Value] = [
            CONTRACT_VERSION,
            kind,
            self._strategy.full_name,
            _plain(setting.parameters),
            [_plain(own) for _, own, _ in parties],
            entry.dtype,
            list(entry.shape),
            stands_on(frame),
            [said for said, _, _ in parties],
            [weight for _, _, weight in parties],
            list(needs),
        ]
        if kind == "emit":
            value.append(output_dtype(self._recipe, frame) or entry.dtype)
        if self._recipe.pre or self._recipe.post:
            after = list(self._recipe.post) if kind == "emit" else []
            value += ["steps", list(self._recipe.pre), after]
        if evidence := self._attached.key(entry.name):
            value += ["evidence", evidence]
        if self._strategy.by_layer:
            value += ["layer", list(self._settings.places[entry.name].layer or ())]
        if draws(self._strategy, self._recipe) or self._strategy.order_dependent:
            # Masks and orders are keyed by these; else a tensor's name changes no bit.
            scope = self._recipe.seed_scope
            taken = takes_seed(self._strategy, self._recipe)
            seed = self._seed(frame) if taken else b""
            value += [scope, seed, entry.name, list(self._contents)]
        return digest_value(Domain.TASK, value)

    def _parties(
        self, frame: Frame, setting: TensorSetting
    ) -> list[tuple[Value, Parameters, int]]:
        """Return what those say who can change a bit, their parameters and weights."""
        told = zip(self._said(frame), setting.own, setting.weights, strict=True)
        stepped = self._recipe.pre or self._recipe.post
        if stepped or not self._strategy.passes_over(Values(setting.parameters)):
            return list(told)
        return [party for party in told if party[0] != frame.entry.blob]

    def _reduce_key(self, maps: Sequence[bytes]) -> bytes:
        name, whole = self._strategy.full_name, self._settings.of_whole()
        weights = list(whole.weights)
        value: list[Value] = [CONTRACT_VERSION, "reduce", name, list(maps), weights]
        if whole.values.parameters:
            value += [_plain(whole.values.parameters)]
            value += [[_plain(own.parameters) for own in whole.own]]
        if scalars := self._attached.scalars_key():
            value += ["scalars", scalars]
        if self._scores:
            # Coefficients go by place, and who has no score has a place too.
            value += ["scores", list(self._contents)]
            value += [[_told(score) for score in self._scores]]
        return digest_value(Domain.TASK, value)


def _plain(parameters: Parameters) -> Value:
    return [list(pair) for pair in parameters]


def _told(score: Score) -> Value:
    said: list[Value] = [score.content, score.metric, score.data, score.author]
    return [*said, format_decimal(score.value)]


def draws(strategy: Strategy, recipe: Recipe) -> bool:
    """Tell whether the strategy or a step draws random masks."""
    return strategy.draws or any(step.draws for step in steps_of(recipe))


def stands_on(frame: Frame) -> Value:
    """Return what of the base can change a bit: its bytes, or their exponent alone."""
    if frame.ground == "base":
        return ["base", frame.entry.blob]
    return [frame.ground, [] if frame.exponent is None else [frame.exponent]]


def takes_seed(strategy: Strategy, recipe: Recipe) -> bool:
    """Tell whether the tensors' seeds enter tasks: for masks by the set, or an order."""
    by_set = recipe.seed_scope == "set"
    return strategy.order_dependent or (by_set and draws(strategy, recipe))


def _copy_key(entry: TensorEntry) -> bytes:
    """Return the key of a task that copies a tensor of the base, whatever the recipe."""
    return digest_value(Domain.TASK, [CONTRACT_VERSION, "copy", entry.blob])
