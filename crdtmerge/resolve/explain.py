"""What a recipe comes to: for each tensor its values, rules and weights, and what is idle.

Owns what is worth saying of a recipe before it runs. Does not own what holds for a tensor
(`settings`, which a resolve asks too), nor how people are shown it.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from crdtmerge.digest import ContentId
from crdtmerge.errors import ContractError
from crdtmerge.manifest import FLOAT_DTYPES, ITEM_BYTES, Manifest, TensorEntry
from crdtmerge.recipe import Parameters, Recipe, Rule
from crdtmerge.resolve.budget import floor_of
from crdtmerge.resolve.memory import steps_bytes, strategy_bytes
from crdtmerge.resolve.settings import Party, Settings, TensorSetting
from crdtmerge.rules import (
    Layer,
    Who,
    gradient_of,
    parse_pattern,
    parse_selector,
)
from crdtmerge.strategies import Inputs, Strategy, Values, check_recipe, has_reduce
from crdtmerge.strategies.pipeline import emit

REDUCES = "a step over the whole model comes before any tensor is merged"
PLATFORM = (
    "its bytes may differ between platforms: equal ones are promised on one platform"
)


@dataclass(frozen=True, slots=True)
class Offered:
    """What is known of a contribution without its manifest."""

    content: ContentId
    weight: int
    authors: tuple[bytes, ...] = ()
    tags: tuple[str, ...] = ()
    parameters: Parameters = ()

    @property
    def who(self) -> Who:
        """It as selectors see it."""
        return Who(self.content, self.authors, self.tags)


@dataclass(frozen=True, slots=True)
class Explained:
    """What one tensor gets.

    `fitting` are the places in the recipe, from 0, of the rules that fit it, and `rules`
    of those that give it something: a gradient may not. `setting` is None for a tensor
    that is copied from the base.
    """

    entry: TensorEntry
    layer: Layer | None
    fitting: tuple[int, ...] = ()
    rules: tuple[int, ...] = ()
    setting: TensorSetting | None = None


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of the largest task: what it reads, and what strategy and steps take beside.

    What is read is mapped. The others are bounds, which a resolve keeps to.
    """

    tensor: str
    reads: int
    strategy: int
    steps: int


@dataclass(frozen=True, slots=True)
class Explanation:
    """What a recipe comes to for a base; contributions in canonical order, if known."""

    recipe: Recipe
    strategy: Strategy
    contributions: tuple[Party, ...]
    tensors: tuple[Explained, ...]
    notes: tuple[str, ...]
    memory: Memory | None


def explain(
    recipe: Recipe,
    base: Manifest,
    contributions: Iterable[Party] | None,
    labels: Sequence[str] | None = None,
) -> Explanation:
    """Return what a recipe comes to; without contributions, before any is known.

    `labels` are the selectors of the rules as a user wrote them.

    Raises:
        UpgradeNeededError: this version does not know the strategy, or a step.
        BadInputError: the recipe is not acceptable.
    """
    strategy = check_recipe(recipe)
    parties = tuple(sorted(contributions or (), key=lambda item: item.content))
    settings = Settings.of(recipe, (entry.name for entry in base.tensors), parties)
    entries = sorted(base.tensors, key=lambda entry: entry.name)
    tensors = tuple(_explained(settings, entry) for entry in entries)
    notes = _Notes(settings, strategy, tensors, labels or _selectors(recipe))
    return Explanation(
        recipe,
        strategy,
        parties,
        tensors,
        tuple(notes.all(known=contributions is not None)),
        _largest(recipe, strategy, tensors, len(parties)),
    )


def _explained(settings: Settings, entry: TensorEntry) -> Explained:
    place = settings.places[entry.name]
    if entry.dtype not in FLOAT_DTYPES:
        return Explained(entry, place.layer)
    rules = settings.recipe.rules
    fitting = tuple(
        i for i, rule in enumerate(rules) if parse_pattern(rule.tensors).fits(place)
    )
    giving = tuple(i for i in fitting if rules[i].values_at(place))
    setting = settings.of_tensor(entry.name)
    return Explained(entry, place.layer, fitting, giving, setting)


def _selectors(recipe: Recipe) -> list[str]:
    return [rule.models for rule in recipe.rules]


def _largest(
    recipe: Recipe, strategy: Strategy, tensors: Iterable[Explained], count: int
) -> Memory | None:
    merged = [(t.entry, t.setting) for t in tensors if t.setting is not None]
    if not merged:
        return None
    # The first of the largest, whatever the order of dtypes.
    entry, setting = max(merged, key=lambda item: item[0].items)
    values = Values(setting.parameters)
    out = ITEM_BYTES[recipe.output_dtype or entry.dtype]
    return Memory(
        entry.name,
        entry.size * (1 + count),
        strategy_bytes(strategy, values, entry.shape, count, out),
        steps_bytes(recipe, entry.items, count),
    )


@dataclass(frozen=True, slots=True)
class _Notes:
    """What is worth a remark: what is idle, and what a merge must have."""

    settings: Settings
    strategy: Strategy
    tensors: Sequence[Explained]
    labels: Sequence[str]

    def all(self, *, known: bool) -> Iterator[str]:
        recipe = self.settings.recipe
        for i, rule in enumerate(recipe.rules):
            fitting = [found.layer for found in self.tensors if i in found.fitting]
            name = f"rule {i + 1} ({rule.tensors!r})"
            yield from _of_rule(name, rule, fitting)
            if self._is_overruled(i):
                yield f"{name}: later rules replace all that it gives"
            if known and rule.models and not self._meets(rule):
                label = self.labels[i]
                yield f"rule {i + 1}: {label} selects no contribution that is visible"
        copied = sum(found.setting is None for found in self.tensors)
        if copied:
            yield f"{copied} of {len(self.tensors)} tensors are no floats: the base's own"
        yield from self._weightless()
        yield from self._of_budget()
        if self.settings.contributions:
            yield from self._refusals()
        if has_reduce(self.strategy, recipe):
            yield REDUCES
        if self.strategy.classification == "platform":
            yield PLATFORM

    def _meets(self, rule: Rule) -> bool:
        selector = parse_selector(rule.models)
        return any(selector.fits(item.who) for item in self.settings.contributions)

    def _is_overruled(self, rule: int) -> bool:
        """Tell whether later rules replace all that one gives, for whom it does."""
        giving = [found for found in self.tensors if rule in found.rules]
        return bool(giving) and all(self._is_replaced(rule, found) for found in giving)

    def _is_replaced(self, rule: int, found: Explained) -> bool:
        rules, place = (
            self.settings.recipe.rules,
            self.settings.places[found.entry.name],
        )
        left = set(rules[rule].values_at(place))
        for later in found.rules:
            if later > rule and rules[later].models in {"", rules[rule].models}:
                left -= rules[later].values_at(place).keys()
                if not left:
                    return True
        return False

    def _refusals(self) -> Iterator[str]:
        """Say what the strategy will refuse, found on tensors without items."""
        whole = self.settings.of_whole()
        needed = self.strategy.fewest(whole.values)
        there = sum(weight != 0 for weight in whole.weights)
        if needed > max(1, there):
            yield (
                f"a resolve is refused for now: {needed} contributions of weight above"
                f" zero are needed, and there are {there}"
            )
        elif not has_reduce(self.strategy, self.settings.recipe):
            yield from self._refused_tensors()

    def _refused_tensors(self) -> Iterator[str]:
        """Say what is refused of the first tensor that is, and of how many."""
        found: dict[object, str] = {}
        refused = []
        for item in self.tensors:
            if item.setting is None:
                continue
            key = item.setting, item.layer if self.strategy.by_layer else None
            if key not in found:
                found[key] = self._refusal(item, item.setting)
            if found[key]:
                refused.append(found[key])
        if refused:
            more = f" (and of {len(refused) - 1} more)" if len(refused) > 1 else ""
            yield f"a resolve is refused: {refused[0]}{more}"

    def _refusal(self, item: Explained, setting: TensorSetting) -> str:
        recipe, parties = self.settings.recipe, self.settings.contributions
        inputs = Inputs(
            tensor=item.entry.name,
            dtype=item.entry.dtype,
            items=0,
            base=b"",
            contributions=(b"",) * len(parties),
            contents=tuple(party.content for party in parties),
            weights=setting.weights,
            seed=b"",
            seed_scope=recipe.seed_scope,
            output_dtype="",
            values=Values(setting.parameters),
            own=tuple(setting.values_of(own) for own in setting.own),
            shape=(0, *item.entry.shape[1:]),
            layer=item.layer,
        )
        try:
            emit(self.strategy, recipe.pre, recipe.post, inputs)
        except ContractError as e:
            return f"{e}; {e.hint}" if e.hint else str(e)
        return ""

    def _of_budget(self) -> Iterator[str]:
        """Say what an I/O budget has to be, and whether it suffices."""
        recipe = self.settings.recipe
        if recipe.io_budget:
            entries = [found.entry for found in self.tensors]
            floor = floor_of(recipe, Manifest("base", b"", tuple(entries)))
            left = recipe.io_budget - floor
            yield (
                f"of the I/O budget the base takes {floor} bytes, task vectors {left}"
                if left >= 0
                else f"a resolve is refused: the I/O budget is below the {floor} bytes of"
                " the base"
            )

    def _weightless(self) -> Iterator[str]:
        """Say of how many tensors all weights are zero, where there is any weight."""
        found = [t.setting.weights for t in self.tensors if t.setting is not None]
        idle = sum(bool(weights) and not any(weights) for weights in found)
        if idle:
            yield f"all weights are zero for {idle} tensor{'s' * (idle > 1)}"


def _of_rule(name: str, rule: Rule, fitting: Sequence[Layer | None]) -> Iterator[str]:
    """Say what is idle in a rule that fits tensors of these layers."""
    if not fitting:
        yield f"{name} fits no tensor that is merged"
        return
    for parameter, text in rule.parameters:
        if gradient_of(text) is not None and not any(fitting):
            yield (
                f"{name}: {parameter} is a gradient, and no tensor that it fits is of a"
                " numbered layer"
            )
