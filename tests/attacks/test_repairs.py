"""Lies in a repair: a peer that shows tries of its own making, and records that are none.

A repair walks the peer's trie where the feed does not explain a difference. What the peer
shows there is believed about nothing but what to ask for next.
"""

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Final

import pytest

from crdtmerge.digest import Domain, digest
from crdtmerge.errors import CrdtMergeError, MalformedMessageError, MalformedRecordError
from crdtmerge.sync.messages import (
    Heartbeat,
    Message,
    RecordsReply,
    RecordsRequest,
    SetMessage,
    SignedBytes,
    TrieInner,
    TrieLeaf,
    TrieReply,
    TrieRequest,
)
from crdtmerge.sync.session import FEED_WITHOUT_CURSOR_MAX
from crdtmerge.trie import Leaf, Prefix
from tests.attacks.fortress import Fortress
from tests.attacks.siege import HELLO, Say, Siege, sent
from tests.properties.cast import CARL, CLEO, CONTENTS, add_of, unknown

MADE_UP: Final = tuple(digest(Domain.SEED, bytes([n])) for n in range(16))
NodeOf = Callable[[Prefix], TrieInner | TrieLeaf]


@pytest.fixture(name="large")
def fixture_large(fortress: Fortress) -> Fortress:
    """A set so large that a repair is the cheapest way."""
    for _ in range(FEED_WITHOUT_CURSOR_MAX):
        fortress.say(CLEO, unknown("junk"))
    fortress.keep()
    return fortress


def items_below(prefix: Prefix) -> tuple[bytes, ...]:
    """Return digests that start with these nibbles, as a leaf's must."""
    padded = (*prefix, *(0,) * (len(prefix) % 2))
    head = bytes(a << 4 | b for a, b in zip(padded[::2], padded[1::2], strict=True))
    rest = (digest(Domain.SEED, head + bytes([n])) for n in range(16))
    items = (head + tail[len(head) :] for tail in rest)
    return tuple(sorted(i for i in items if _starts(i, prefix)))


def _starts(item: bytes, prefix: Prefix) -> bool:
    nibbles = [n for byte in item for n in (byte >> 4, byte & 15)]
    return tuple(nibbles[: len(prefix)]) == prefix


def inner(prefix: Prefix) -> TrieInner:
    """Return a node with sixteen children that were made up."""
    return TrieInner(prefix, MADE_UP)


def one_path(prefix: Prefix) -> TrieInner:
    """Return a node of which one child is not empty: a path without end."""
    empty = Leaf(len(prefix) + 1, ()).hash
    return TrieInner(prefix, (MADE_UP[0], *(empty,) * 15))


def leaf(prefix: Prefix) -> TrieLeaf:
    """Return a leaf of ids that were made up."""
    return TrieLeaf(prefix, items_below(prefix))


def strewn(prefix: Prefix) -> TrieLeaf:
    """Return a leaf whose ids lie elsewhere."""
    return TrieLeaf(prefix, tuple(sorted(MADE_UP))) if prefix else leaf(prefix)


def showing(
    space: bytes, node_of: NodeOf, records: tuple[SignedBytes, ...] = ()
) -> Callable[[SetMessage], SetMessage | None]:
    """Return what answers each question of a repair: nodes, and these records."""

    def answer(message: SetMessage) -> SetMessage | None:
        match message:
            case TrieRequest(prefixes=prefixes, number=number):
                nodes = tuple(node_of(prefix) for prefix in prefixes[:256])
                return TrieReply(space, nodes, number)
            case RecordsRequest(ids=ids, number=number):
                return RecordsReply(space, records, () if records else ids, number)
            case _:
                return None

    return answer


def repaired(answer: Callable[[Any], Message | None]) -> Callable[[Siege], Any]:
    """Return the attack of a peer that lets itself be repaired from."""

    async def attack(siege: Siege) -> None:
        asked: list[str] = []

        async def talk(incoming: AsyncIterator[Message], say: Say) -> None:
            await say(HELLO)
            beat = Heartbeat(siege.space, MADE_UP[1], 10**6, b"repaired from me", 10**6)
            await say(beat)
            async for message in incoming:
                asked.append(type(message).__name__)
                reply = answer(message)
                if reply is not None:
                    await say(reply)

        await siege.talks(CARL, talk)
        assert "TrieRequest" in asked

    return attack


def trees() -> Iterator[tuple[str, NodeOf]]:
    """Yield tries that nobody can have."""
    yield "of ids that name nothing", leaf
    yield "of ids that lie elsewhere", lambda p: strewn(p) if p else inner(p)
    yield "without end", one_path


@pytest.mark.parametrize("name", [name for name, _ in trees()])
def test_made_up_trie(large: Fortress, name: str) -> None:
    """A path of it ends where ids cannot share more, and an id at what it names."""
    answer = showing(large.space, dict(trees())[name])
    large.withstands(MalformedMessageError, repaired(answer))


def lies(fortress: Fortress) -> dict[str, tuple[SignedBytes, type[CrdtMergeError]]]:
    """Return what a peer sends instead of what was asked for."""
    junk = SignedBytes(b"\x90", bytes(64))
    true = fortress.next(CLEO, add_of(CONTENTS[0]))
    torn = SignedBytes(true.record.data[:-1], true.signature)
    return {
        "no record": (junk, MalformedRecordError),
        "half a record": (torn, MalformedRecordError),
    }


@pytest.mark.parametrize("name", ["no record", "half a record"])
def test_answer_of_a_repair_that_is_none(large: Fortress, name: str) -> None:
    """What comes for an id is checked as what comes by any other way."""
    lie, error = lies(large)[name]
    large.withstands(error, repaired(showing(large.space, leaf, (lie,))))


def test_repair_with_other_records(large: Fortress) -> None:
    """Known records in place of those that were asked for are no answer."""
    known = sent(*list(large.pen.known.values())[:3])
    answer = showing(large.space, leaf, known)
    large.withstands(MalformedMessageError, repaired(answer))
