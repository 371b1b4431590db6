"""Authors that used a number twice: noticed here, shown to everybody.

Owns which forks are to be shown, by whom first, and how many at a time. Does not own the
proof (`crdtmerge.forks`), who signs it (`operations`), nor what a home does that forked
itself (`doubts`, `anchor`).
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from threading import Lock
from typing import Final

from crdtmerge.bodies import Ban, SpaceId
from crdtmerge.digest import Domain, digest
from crdtmerge.errors import LocalError, MachineError
from crdtmerge.forks import Fork, prove_fork
from crdtmerge.identity import AuthorId
from crdtmerge.orset import OpSet, Pair

from .spaces import Spaces

NOTICED_MAX: Final = 64
"""Forks of one space that wait to be shown; the others are noticed again later."""
SHOWN_PER_TURN: Final = 1
"""Forks that are shown at a time in one space: in an open one, keys cost nothing."""
WAIT_TURNS_MAX: Final = 30
"""How long a node lets others go first."""

_log: Final = logging.getLogger(__name__)


@dataclass(slots=True)
class _Noticed:
    """A fork that no record shows yet, and for how many turns others may still do so."""

    pair: Pair
    turns: int

    @property
    def number(self) -> int:
        return self.pair[0].record.author_seq


@dataclass(slots=True)
class _Look:
    """What was noticed in one space, and in which set it was looked for last."""

    opset: OpSet | None = None
    noticed: dict[AuthorId, _Noticed] = field(default_factory=dict)
    unsaid: OpSet | None = None


class Forks:
    """The forks of one node's spaces. Safe for several threads."""

    def __init__(
        self,
        spaces: Spaces,
        me: AuthorId,
        publish: Callable[[SpaceId, Fork], object],
    ) -> None:
        """Look in `spaces`; `publish` signs what is shown.

        It may refuse with a LocalError: then nothing is shown until the set changes. That
        the disk failed is passed on.
        """
        self.noticed = 0
        self._spaces = spaces
        self._me = me
        self._publish = publish
        self._lock = Lock()
        self._looks: dict[SpaceId, _Look] = {}

    def refused(self, space: SpaceId, forks: Mapping[AuthorId, Pair]) -> None:
        """Take note of forks of which one record was refused."""
        with self._lock:
            opset = self._spaces.opset(space)
            self._notice(opset, self._looks.setdefault(space, _Look()), forks)

    def turn(self) -> None:
        """Look at sets that changed, and show what is due: once a second is enough."""
        for space in self._spaces.all():
            opset = self._spaces.opset(space)
            with self._lock:
                look = self._looks.setdefault(space, _Look())
                if opset is not look.opset:
                    look.opset = opset
                    self._notice(opset, look, opset.forked)
                    self._forget(opset, look)
                due = self._due(look) if look.unsaid is not opset else []
            for pair in due:
                self._show(opset, look, pair)

    def _notice(
        self, opset: OpSet, look: _Look, forks: Mapping[AuthorId, Pair]
    ) -> None:
        for author, pair in sorted(forks.items()):
            known = look.noticed.get(author)
            number = pair[0].record.author_seq
            if self._needless(opset, author, number):
                continue
            if known is None and len(look.noticed) < NOTICED_MAX:
                self.noticed += 1
                name, where = author.hex()[:12], opset.space.hex()[:12]
                _log.warning(
                    "space %s: author %s signed two records of number %d",
                    *(where, name, number),
                )
                turns = _turns(opset, self._me, pair)
                look.noticed[author] = _Noticed(pair, turns)
            elif known is not None and number < known.number:
                look.noticed[author] = _Noticed(pair, known.turns)

    def _needless(self, opset: OpSet, author: AuthorId, number: int) -> bool:
        """Tell whether a fork is not for us to show, or would change nothing."""
        shown = opset.view.forks.get(author)
        if author == self._me or (shown and shown.author_seq <= number):
            return True
        bans = opset.view.bans.values()
        return any(Ban("author", author) == ban for ban in bans)

    def _forget(self, opset: OpSet, look: _Look) -> None:
        """Leave out what somebody has shown since."""
        look.noticed = {
            author: noticed
            for author, noticed in look.noticed.items()
            if not self._needless(opset, author, noticed.number)
        }

    def _due(self, look: _Look) -> list[Pair]:
        for noticed in look.noticed.values():
            noticed.turns -= 1
        due = sorted(a for a, noticed in look.noticed.items() if noticed.turns < 0)
        return [look.noticed[author].pair for author in due[:SHOWN_PER_TURN]]

    def _show(self, opset: OpSet, look: _Look, pair: Pair) -> None:
        try:
            self._publish(opset.space, fork_of(pair))
        except MachineError:
            raise
        except LocalError as e:
            _log.warning("a fork is not told of: %s", e)
            with self._lock:
                look.unsaid = opset


def fork_of(pair: Pair) -> Fork:
    """Return the proof that an author signed both."""
    record = pair[0].record
    signed = [(s.record.data, s.signature) for s in pair]
    return prove_fork(record.space_id, record.author, record.author_seq, signed)


def _turns(opset: OpSet, me: AuthorId, pair: Pair) -> int:
    """Return how many turns this node lets others go first.

    Each fork has an order of authors of its own, which all nodes know, so that one of them
    shows it and the others hear of that in time. Who is away is waited for but a turn.
    """
    seed = b"".join(s.record.id for s in pair)

    def place(author: AuthorId) -> bytes:
        return digest(Domain.FORK_TURN, seed + author)

    able = opset.view.ranks.keys() - opset.view.rightless
    before = sum(place(author) < place(me) for author in able)
    return min(before, WAIT_TURNS_MAX)
