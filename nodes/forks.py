"""Authors that used a number twice: noticed here, shown to everybody.

Owns which forks are to be shown, by whom first, and how many at a time. Does not own the
proof (`crdtmerge.forks`), who signs it (`operations`), nor what a home does that forked
itself (`doubts`, `anchor`).
"""

import logging
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from threading import Lock
from typing import Final

from crdtmerge.bodies import SpaceId
from crdtmerge.digest import Domain, digest
from crdtmerge.errors import LocalError, MachineError
from crdtmerge.forks import Fork, prove_fork
from crdtmerge.identity import AuthorId
from crdtmerge.orset import Forked, OpSet, Pair
from crdtmerge.policy import ShownFork, View

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
        return _number(self.pair)


@dataclass(slots=True)
class _Look:
    """What was noticed in one space, and in which set it was looked for last."""

    opset: OpSet | None = None
    noticed: dict[AuthorId, _Noticed] = field(default_factory=dict)
    unsaid: OpSet | None = None


@dataclass(frozen=True, slots=True)
class _Known:
    """What makes it needless to show a fork: looked up once for all of a set."""

    shown: Mapping[AuthorId, list[ShownFork]]
    silent: AbstractSet[AuthorId]

    @classmethod
    def of(cls, view: View, me: AuthorId) -> "_Known":
        shown: dict[AuthorId, list[ShownFork]] = {}
        for fork in view.forks:
            shown.setdefault(fork.author, []).append(fork)
        bans = view.bans.values()
        banned = {AuthorId(ban.target) for ban in bans if ban.subject == "author"}
        return cls(shown, (banned & view.rightless) | {me})

    def needless(self, author: AuthorId, pair: Pair) -> bool:
        """Tell whether a fork is not for us to show, or would change nothing."""
        number = _number(pair)
        return author in self.silent or any(
            fork.author_seq == number or (fork.author_seq < number and not fork.lifted)
            for fork in self.shown.get(author, ())
        )


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

    def refused(self, space: SpaceId, forks: Forked) -> None:
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

    def _notice(self, opset: OpSet, look: _Look, forks: Forked) -> None:
        """Take note of the lowest number of each author that is to be shown."""
        known = _Known.of(opset.view, self._me)
        for author, pairs in sorted(forks.items()):
            due = (p for p in pairs if not known.needless(author, p))
            pair = next(due, None)
            waits = look.noticed.get(author)
            if pair is None or (waits and waits.number <= _number(pair)):
                continue
            if waits is not None:
                look.noticed[author] = _Noticed(pair, waits.turns)
            elif len(look.noticed) < NOTICED_MAX:
                look.noticed[author] = _Noticed(pair, _turns(opset, self._me, pair))
                self.noticed += 1
                _log.warning(
                    "space %s: author %s signed two records of number %d",
                    *(opset.space.hex()[:12], author.hex()[:12], _number(pair)),
                )

    def _forget(self, opset: OpSet, look: _Look) -> None:
        """Leave out what somebody has shown since."""
        known = _Known.of(opset.view, self._me)
        look.noticed = {
            author: noticed
            for author, noticed in look.noticed.items()
            if not known.needless(author, noticed.pair)
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


def _number(pair: Pair) -> int:
    return pair[0].record.author_seq


def _turns(opset: OpSet, me: AuthorId, pair: Pair) -> int:
    """Return how many turns this node lets others go first.

    Each fork has an order of authors of its own, which all nodes know, so that one of them
    shows it and the others hear of that in time. Who is away is waited for but a turn.
    """
    forked = pair[0].record
    seed = forked.author + forked.author_seq.to_bytes(8, "little")

    def place(author: AuthorId) -> bytes:
        return digest(Domain.FORK_TURN, seed + author)

    able = opset.view.ranks.keys() - opset.view.rightless
    able -= opset.view.quarantined.keys() | {forked.author}
    before = sum(place(author) < place(me) for author in able)
    return min(before, WAIT_TURNS_MAX)
