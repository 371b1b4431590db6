"""Two sessions over the worst link there is: anything may be lost, doubled, overtaken.

The link is driven action by action, so that a failure shrinks to the few that matter. No
order of events may make an honest side refuse the other, take a record that nobody signed,
or stay without what the other has once messages arrive again.
"""

from dataclasses import dataclass, field, replace

from hypothesis import given
from hypothesis import strategies as st

from crdtmerge.bodies import SpaceId
from crdtmerge.errors import UnansweredError
from crdtmerge.sync.messages import FEATURES, SPEAKS_ATTESTATIONS, Hello, Message
from crdtmerge.sync.pulls import UNANSWERED_MAX, Cursor, Learned
from crdtmerge.sync.session import FEED_WITHOUT_CURSOR_MAX, Session
from nodes.convert import decode, encode
from nodes.spaces import Spaces
from tests.unit.peers import SPACE, note, notes, session, spaces_with

MANY = FEED_WITHOUT_CURSOR_MAX + 10
BEATS_MAX = 8
"""Beats of both sides that must do once nothing is lost: two bring a question that was
lost again, three doubts lead to a repair."""

Action = tuple[str, int]
actions = st.lists(
    st.tuples(
        st.sampled_from(["beat", "deliver", "deliver", "lose", "double", "say"]),
        st.integers(0, 30),
    ),
    max_size=60,
)


@dataclass
class Link:
    """Two sides, and the frames under way, which arrive in any order or never."""

    spaces: tuple[Spaces, Spaces]
    features: int = FEATURES
    cursors: tuple[dict[SpaceId, Cursor], ...] = field(default_factory=lambda: ({}, {}))
    sides: list[Session] = field(default_factory=list)
    under_way: list[tuple[int, bytes]] = field(default_factory=list)
    said: int = 0

    def open(self) -> None:
        """Open a stream; what was under way on the one before is gone."""
        self.under_way.clear()
        self.sides = [
            session(spaces, cursors)
            for spaces, cursors in zip(self.spaces, self.cursors, strict=True)
        ]
        for number, side in enumerate(self.sides):
            self._send(number, side.open())

    def act(self, action: str, number: int) -> None:
        """Let one thing happen."""
        side = number % 2
        if action == "beat":
            self._send(side, self.sides[side].heartbeats())
        elif action == "say":
            self.said += 1
            self.spaces[side].commit(SPACE, [note(10_000 + self.said)])
        elif self.under_way:
            at = number % len(self.under_way)
            if action != "double":
                receiver, frame = self.under_way.pop(at)
            else:
                receiver, frame = self.under_way[at]
            if action != "lose":
                self._arrive(receiver, frame)

    def drain(self) -> None:
        """Deliver all that is under way, and what follows from it."""
        while self.under_way:
            self._arrive(*self.under_way.pop(0))

    def _arrive(self, receiver: int, frame: bytes) -> None:
        try:
            self._send(receiver, self.sides[receiver].handle(decode(frame)))
        except UnansweredError:
            self.open()  # as a node does, which dials again

    def _send(self, sender: int, items: list[Message | Learned]) -> None:
        for item in items:
            if isinstance(item, Hello):
                hello = replace(item, features=self.features)
                self.under_way.append((1 - sender, encode(hello)))
            elif not isinstance(item, Learned):
                self.under_way.append((1 - sender, encode(item)))

    @property
    def equal(self) -> bool:
        """Tell whether both have the same records."""
        left, right = (spaces.trie(SPACE).root for spaces in self.spaces)
        return left == right


@given(
    st.sampled_from([(5, 5), (0, 9), (MANY, MANY + 3), (MANY, 2)]),
    st.integers(0, 8),
    st.sampled_from([FEATURES, SPEAKS_ATTESTATIONS]),
    actions,
)
def test_no_link_makes_an_honest_peer_a_liar(
    sizes: tuple[int, int], shift: int, features: int, happened: list[Action]
) -> None:
    """Whatever a link does, both sides stay safe, and agree once it lets them."""
    left = spaces_with("a", notes(range(1, 1 + sizes[0])))
    right = spaces_with("b", notes(range(1 + shift, 1 + shift + sizes[1])))
    union = set(left.trie(SPACE)) | set(right.trie(SPACE))
    link = Link((left, right), features)
    link.open()
    for action, number in happened:
        link.act(action, number)
    union |= {note(10_000 + n).record.id for n in range(1, link.said + 1)}
    for _ in range(BEATS_MAX):
        link.drain()
        if link.equal:
            break
        link.act("beat", 0)
        link.act("beat", 1)
    assert set(left.trie(SPACE)) == set(right.trie(SPACE)) == union


def test_a_link_on_which_one_side_is_never_heard_is_opened_anew() -> None:
    """It is given up after a while, and a new stream brings everything."""
    link = Link((spaces_with("a", notes(range(1, 9))), spaces_with("b", ())))
    link.open()
    link.drain()
    link.act("say", 0)
    first = link.sides
    for _ in range(2 * UNANSWERED_MAX):
        link.act("beat", 0)
        while link.under_way and link.sides is first:
            receiver, _ = link.under_way[0]
            link.act("deliver" if receiver == 1 else "lose", 0)
    assert link.sides is not first
    link.drain()
    assert link.equal
