"""Who is no member of a space hears nothing of it: no record, no id, no root, no beat.

At the node's core, where every effect can be looked at; tests/attacks/test_neighbours has
the same over real streams.
"""

import pickle

from crdtmerge.bodies import RecordId, SpaceId, give_consent
from crdtmerge.sync.messages import (
    FeedRequest,
    Heartbeat,
    RecordsRequest,
    Rumour,
    SetMessage,
    SignedBytes,
    TrieRequest,
)
from nodes.effects import Close, Effect, MessageReceived, RecordsCommitted, Send, Ticked
from tests.unit.test_node import Home, author, transport

MEMBER, NEIGHBOUR = 1, 2


class Neighbours(Home):
    """A node with a private space, and another that a neighbour takes part in."""

    def __init__(self) -> None:
        super().__init__(MEMBER)
        self.other = self.found("other")
        self.admit(NEIGHBOUR, self.other)
        self.heard: list[Effect] = []

    def hear(self, effects: list[Effect]) -> None:
        """Keep what is said to the neighbour."""
        to = transport(NEIGHBOUR)
        self.heard += [e for e in effects if getattr(e, "peer", None) == to]

    @property
    def secrets(self) -> set[bytes]:
        """What names anything of the private space."""
        opset = self.spaces.opset(self.space)
        return {bytes(self.space), opset.root, opset.view.visible_root, *opset.signed}

    def check(self) -> None:
        """Check that nothing of it was said to the neighbour, in whatever message."""
        said = pickle.dumps([e for e in self.heard if isinstance(e, Send)])
        assert not [secret.hex() for secret in self.secrets if secret in said]


def test_a_neighbour_hears_nothing_of_a_private_space() -> None:
    """Beats, ticks, news, and answers to all that it can ask by name."""
    home = Neighbours()
    home.open(MEMBER, NEIGHBOUR)
    known: dict[SpaceId, set[RecordId]] = {}
    for round_ in range(12):
        added = home.say(home.offer(MEMBER, bytes([round_])))
        known.setdefault(home.space, set()).update(added)
        home.hear(home.do(RecordsCommitted(home.space, added), 1.0))
        home.hear(home.do(Ticked(), 5.0))
    opset = home.spaces.opset(home.space)
    generation = home.spaces.heartbeat(home.space).generation
    raw = [SignedBytes(s.record.data, s.signature) for s in opset.signed.values()]
    questions: list[SetMessage] = [
        Heartbeat(home.space, bytes(32), 0, bytes(16), 0),
        FeedRequest(home.space, generation, 0, 1),
        TrieRequest(home.space, ((),), 1),
        RecordsRequest(home.space, tuple(sorted(opset.signed)), 1),
        # SUBTLE: by id alone, in the space that it does share.
        RecordsRequest(home.other, tuple(sorted(opset.signed)), 1),
        Rumour(home.space, tuple(raw)),
    ]
    for question in questions:
        home.hear(home.do(MessageReceived(transport(NEIGHBOUR), question), 1.0))
    assert [e for e in home.heard if isinstance(e, Send)]
    # The one that asks by id names the ids itself, and hears that they are not there.
    home.heard = [e for e in home.heard if not _names_what_was_asked(e)]
    home.check()


def _names_what_was_asked(effect: Effect) -> bool:
    unsent = getattr(getattr(effect, "message", None), "unsent", ())
    records = getattr(getattr(effect, "message", None), "records", ())
    return bool(unsent) and not records


def test_the_node_of_an_ended_key_is_a_stranger() -> None:
    """Once the next key ended the old one, its node is cut off and hears no more."""
    home = Neighbours()
    home.open(MEMBER)
    old, new = author(MEMBER), author(77)
    consent = give_consent(new, home.space, old.public)
    batch = home.say(home.replica(MEMBER).name_successor(new.public, consent))
    home.do(RecordsCommitted(home.space, batch), 1.0)
    heads = home.replica(77).last_records(old.public)
    batch = home.say(home.replica(77).revoke(old.public, heads))
    effects = home.do(RecordsCommitted(home.space, batch), 1.0)
    assert [e.peer for e in effects if isinstance(e, Close)] == [transport(MEMBER)]
    later = home.do(Ticked(), 30.0)
    assert not [e for e in later if getattr(e, "peer", b"") == transport(MEMBER)]
