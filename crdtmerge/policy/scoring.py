"""Which evaluations count, and which of them a recipe reads.

Owns the rule of the last word: of one author (all keys of one identity) the last evaluation
of one subject, metric and data counts. Does not own which records take effect (`standing`),
nor what a strategy asks for (`strategies.scores`).

Any rank may score: nobody is made to believe it. That a result is true cannot be checked
without the data; what one author's word can do is the strategy's matter.
"""

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from crdtmerge.bodies import Evaluation, RecordId
from crdtmerge.digest import ContentId
from crdtmerge.identity import AuthorId
from crdtmerge.recipe import Recipe
from crdtmerge.record import Record

if TYPE_CHECKING:
    from crdtmerge.strategies import Score


@dataclass(frozen=True, slots=True)
class Evaluated:
    """An evaluation that counts: the record, whose it is, and what it says.

    `author` is the first key of the identity that signed: a second key is no second voice.
    """

    record: RecordId
    author: AuthorId
    said: Evaluation

    @property
    def score(self) -> "Score":
        """What a strategy sees of it, where it is of a contribution."""
        from crdtmerge.strategies import Score

        said = self.said
        content = ContentId(said.target)
        return Score(content, said.metric, said.data, said.result, self.author)


def evaluations_of(
    chains: Mapping[AuthorId, tuple[AuthorId, ...]], effective: Iterable[Record]
) -> tuple[Evaluated, ...]:
    """Return the last words among effective records, by record id."""
    last: dict[tuple[AuthorId, str, bytes, str, str], Record] = {}
    for record in effective:
        said = record.body
        if isinstance(said, Evaluation):
            who = chains[record.author][0]
            place = who, said.subject, said.target, said.metric, said.data
            before = last.get(place)
            if before is None or _age(chains, record) > _age(chains, before):
                last[place] = record
    return tuple(
        Evaluated(record.id, chains[record.author][0], record.body)
        for record in sorted(last.values(), key=lambda record: record.id)
        if isinstance(record.body, Evaluation)
    )


def read_by(
    recipe: Recipe, counting: Iterable[Evaluated], visible: Container[bytes]
) -> tuple[Evaluated, ...]:
    """Return those that the recipe's strategy reads: of contributions that are visible."""
    of_content = [
        one
        for one in counting
        if one.said.subject == "content" and one.said.target in visible
    ]
    if not of_content:  # strategies take long to load, and are not asked in vain
        return ()
    from crdtmerge.strategies.scores import scores_asked

    asked = scores_asked(recipe)
    if asked is None:
        return ()
    return tuple(o for o in of_content if asked.fits(o.said.metric, o.said.data))


def _age(
    chains: Mapping[AuthorId, tuple[AuthorId, ...]], record: Record
) -> tuple[int, int, RecordId]:
    """Return how late the author said it: later keys of an identity came later."""
    place = chains[record.author].index(record.author)
    return place, record.author_seq, record.id
