"""What a recipe gives each tensor of a merge: weights and parameters of every contribution.

Owns the order in which they come: the recipe's, its rules, then what a contribution was
given by itself. Does not own rules (`crdtmerge.recipe`), nor what values mean.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from crdtmerge.digest import ContentId
from crdtmerge.manifest import Manifest
from crdtmerge.recipe import Parameters, Recipe, Setting
from crdtmerge.rules import Place, Who, places_of
from crdtmerge.strategies import Values, Whole


class Party(Protocol):
    """Who takes part, as settings see it: a `Contribution`, or what is known of one."""

    @property
    def content(self) -> ContentId:
        """Its content id."""

    @property
    def weight(self) -> int:
        """Its own weight, in units of 10**-9."""

    @property
    def parameters(self) -> Parameters:
        """Its own parameters, over the recipe's."""

    @property
    def who(self) -> Who:
        """It as selectors see it."""


@dataclass(frozen=True, slots=True)
class Contribution:
    """A visible contribution: what it is called, weighs, holds, and who offers it.

    `weight` is in units of 10**-9. `parameters` are its own, over the recipe's: a
    mergekit configuration may give some, a space never does. `evidence` is the digest of
    the evidence that counts, None for the manifest's: another one has not arrived.
    """

    content: ContentId
    weight: int
    manifest: Manifest
    authors: tuple[bytes, ...] = ()
    parameters: Parameters = ()
    tags: tuple[str, ...] = ()
    evidence: bytes | None = None

    @property
    def who(self) -> Who:
        """The contribution as selectors see it."""
        return Who(self.content, self.authors, self.tags)

    @property
    def evidence_digest(self) -> bytes:
        """The digest of the evidence that counts; empty if there is none."""
        here = self.manifest.evidence_digest
        return here if self.evidence is None else self.evidence


@dataclass(frozen=True, slots=True)
class TensorSetting:
    """What holds for one tensor; `weights` (units) and `own` in canonical order.

    `own` are the parameters in which each contribution differs from `parameters`.
    """

    parameters: Parameters
    weights: tuple[int, ...]
    own: tuple[Parameters, ...]

    def values_of(self, own: Parameters) -> Values:
        """Return all that holds for a contribution of such own parameters."""
        merged = dict(self.parameters) | dict(own)
        return Values(tuple(sorted(merged.items())))


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of all tensors, found when they are asked for."""

    recipe: Recipe
    contributions: Sequence[Party]
    places: dict[str, Place]
    _found: dict[str, TensorSetting] = field(default_factory=dict, repr=False)

    @classmethod
    def of(
        cls, recipe: Recipe, names: Iterable[str], contributions: Sequence[Party]
    ) -> "Settings":
        """Return the settings of a merge of tensors with these names."""
        return cls(recipe, contributions, dict(places_of(names)))

    def of_tensor(self, name: str) -> TensorSetting:
        """Return what holds for one tensor."""
        if name not in self._found:
            who = [c.who for c in self.contributions]
            setting = self.recipe.setting(self.places[name], who)
            self._found[name] = self._complete(setting)
        return self._found[name]

    def of_whole(self) -> Whole:
        """Return what holds for the whole model: what a reduce step sees."""
        who = [c.who for c in self.contributions]
        setting = self._complete(self.recipe.for_the_whole(who))
        return Whole(
            tuple(c.content for c in self.contributions),
            setting.weights,
            Values(setting.parameters),
            tuple(setting.values_of(own) for own in setting.own),
        )

    def _complete(self, setting: Setting) -> TensorSetting:
        """Put weights where no rule gives one, and own parameters over the rules'."""
        weights = zip(setting.weights, self.contributions, strict=True)
        own = zip(setting.own, self.contributions, strict=True)
        return TensorSetting(
            setting.parameters,
            tuple(c.weight if weight is None else weight for weight, c in weights),
            tuple(
                tuple(sorted((dict(ruled) | dict(c.parameters)).items()))
                for ruled, c in own
            ),
        )
