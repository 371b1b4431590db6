"""One vocabulary for several models, and which row each model has for each of its ids.

Owns the three ways to choose a vocabulary (the base's, a model's, the union), and the rule
for tokens that a model lacks. Does not own tokenizers' files (`tokenizer` reads them,
`tokenizer_output` makes them), nor the tensors whose rows they are (`alignment`).

The words and the rule for a missing token are those of mergekit 0.1.5 (Arcee AI,
https://github.com/arcee-ai/mergekit): a model that has the token keeps its row; else the
base's row, if it has one; else that of the only model that has one; else their average.
Where no model has a row mergekit writes zeros; here it is the mean of the table, which
neither wins nor loses among logits.

Union: the base's ids stay; the tokens of the others follow, model after model by their
vocabularies, within one by id. mergekit's order changes from run to run.
"""

import json
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from crdtmerge.errors import BadInputError
from crdtmerge.formats.tokenizer import TOKENS_MAX, Vocabulary

Rows: TypeAlias = NDArray[np.int64]

MEAN: Final = -1
"""In place of a model: the mean of the rows that the table has from models."""
ZERO: Final = -2
AVERAGE: Final = -3
"""The average of several models' rows."""

MULTIPLE_MAX: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class Member:
    """A model: its name in messages, its vocabulary, and the rows of its embedding."""

    name: str
    vocabulary: Vocabulary
    rows: int

    def row(self, token: str) -> int | None:
        """Return the row of a token, None if there is none."""
        found = self.vocabulary.ids.get(token)
        return found if found is not None and found < self.rows else None


@dataclass(frozen=True, slots=True)
class Rule:
    """What is asked for one token.

    `model` is the place of the member whose row it takes, `row` that row; or ZERO. With
    `force` all models take it, also those that have the token.
    """

    model: int
    row: int = 0
    force: bool = False


@dataclass(frozen=True, slots=True)
class Merged:
    """The vocabulary of the output.

    `owner` is the place of the member whose ids it keeps; `more` are (place, token) of
    what follows them, in the order of their ids; `fresh` are tokens that nobody had.
    `rows` is the size of the tables.
    """

    owner: int
    ids: Mapping[str, int]
    rows: int
    more: tuple[tuple[int, str], ...] = ()
    fresh: tuple[str, ...] = ()

    @property
    def is_owners(self) -> bool:
        """Tell whether it is the owner's own vocabulary, with nothing added."""
        return not self.more and not self.fresh


@dataclass(frozen=True, slots=True)
class RowMap:
    """Where each row of a table comes from, (rows,) int64 each.

    `models` has a member's place, MEAN, ZERO or AVERAGE; `rows` the row there. `averages`
    has the (member, row) that an averaged row is made of.
    """

    models: Rows
    rows: Rows
    averages: Mapping[int, tuple[tuple[int, int], ...]] = field(default_factory=dict)

    def is_start_of(self, place: int) -> bool:
        """Tell whether these are the first rows of one member's table, as they are."""
        same = np.array_equal(self.rows, np.arange(len(self.rows)))
        return same and bool(np.all(self.models == place))


def merged(
    members: Sequence[Member],
    owner: int,
    *,
    union: bool,
    tokens: Iterable[str] = (),
    multiple: int = 1,
) -> Merged:
    """Return the output's vocabulary: the owner's, or the union that begins with it.

    `tokens` are added if they are not in it; rows are filled up to a `multiple`.
    """
    own = members[owner]
    ids = dict(own.vocabulary.ids)
    more: list[tuple[int, str]] = []
    last = own.vocabulary.size
    if union:
        for place in _ordered(members, owner):
            theirs = members[place].vocabulary.ids
            for token in sorted(theirs, key=theirs.__getitem__):
                if token not in ids:
                    ids[token] = last + len(more)
                    more.append((place, token))
    last += len(more)
    fresh = [token for token in dict.fromkeys(tokens) if token not in ids]
    ids |= {token: last + i for i, token in enumerate(fresh)}
    size = last + len(fresh)
    if size > TOKENS_MAX:
        raise BadInputError(f"{size} tokens are above the limit of {TOKENS_MAX}")
    rows = -(-max(own.rows, size) // multiple) * multiple
    return Merged(owner, ids, rows, tuple(more), tuple(fresh))


def _ordered(members: Sequence[Member], owner: int) -> list[int]:
    """Return the others in an order that depends on their vocabularies alone."""

    def key(place: int) -> str:
        ids = members[place].vocabulary.ids
        return json.dumps(sorted((i, token) for token, i in ids.items()))

    places = [place for place in range(len(members)) if place != owner]
    return sorted(places, key=key) if len(places) > 1 else places


def row_map(
    members: Sequence[Member],
    place: int,
    output: Merged,
    base: int | None,
    rules: Mapping[str, Rule],
    *,
    near: Container[int] = (),
) -> RowMap:
    """Return the rows of one member's tables in the vocabulary of the output.

    `base` is the place of the base_model, None if models are merged without one. Those
    `near` are merged with this one, and stand in for it before others.
    """
    own, owner = members[place], members[output.owner]
    rows = np.arange(output.rows, dtype=np.int64)
    same = own.vocabulary.ids == owner.vocabulary.ids and output.is_owners
    if same and own.rows >= output.rows and not rules:
        return RowMap(np.full(output.rows, place, np.int64), rows)
    models = np.full(output.rows, MEAN, np.int64)
    _fill_gaps(models, members, place, output)
    averages: dict[int, tuple[tuple[int, int], ...]] = {}
    for token, number in output.ids.items():
        rule, row = rules.get(token), own.row(token)
        if row is not None and not (rule and rule.force):
            models[number], rows[number] = place, row
            continue
        donors = (
            [(rule.model, rule.row)] if rule else _donors(members, base, near, token)
        )
        models[number], rows[number] = donors[0] if donors else (MEAN, 0)
        if len(donors) > 1:
            models[number], averages[number] = AVERAGE, tuple(donors)
    return RowMap(models, rows, averages)


def _donors(
    members: Sequence[Member], base: int | None, near: Container[int], token: str
) -> list[tuple[int, int]]:
    """Return who stands in for a model that lacks a token: the base, else all that may."""
    found = [
        (place, row)
        for place, member in enumerate(members)
        if (row := member.row(token)) is not None
    ]
    found = [item for item in found if item[0] in near] or found
    return [item for item in found if item[0] == base] or found


def _fill_gaps(
    models: Rows, members: Sequence[Member], place: int, output: Merged
) -> None:
    """Give ids without a token the model's own row there, or else the owner's.

    Tables are often larger than vocabularies. A row of the model's own is taken if it has
    no token there either; most often all of them are alike.
    """
    own, owner = members[place], members[output.owner]
    free = np.ones(output.rows, bool)
    free[list(output.ids.values())] = False
    theirs = free.copy()
    theirs[owner.rows :] = False
    models[theirs] = output.owner
    mine = free
    mine[own.rows :] = False
    taken = [i for i in own.vocabulary.ids.values() if i < len(mine)]
    mine[taken] = False
    models[mine] = place
