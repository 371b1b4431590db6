"""Lies in a repair: a peer that shows tries of its own making, and records that are none.

A repair walks the peer's trie where the feed does not explain a difference. What the peer
shows there is believed about nothing but what to ask for next.
"""

from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from typing import Any, Final

import pytest

from crdtmerge.digest import Domain, digest
from crdtmerge.errors import CrdtMergeError, MalformedMessageError, MalformedRecordError
from crdtmerge.sync.compare import EMPTY
from crdtmerge.sync.messages import (
    CLUE_BYTES,
    SALT_BYTES,
    SECTIONS_MAX,
    SPEAKS_COMPARE,
    Clues,
    CompareReply,
    CompareRequest,
    Heartbeat,
    Ids,
    Message,
    RecordsReply,
    RecordsRequest,
    Section,
    SetMessage,
    SignedBytes,
    TrieInner,
    TrieLeaf,
    TrieReply,
    TrieRequest,
)
from crdtmerge.sync.session import FEED_WITHOUT_CURSOR_MAX
from crdtmerge.trie import DEPTH_MAX, Leaf, Prefix
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


def section_of(node: TrieInner | TrieLeaf) -> Section:
    """Return what a comparison shows of such a node."""
    if isinstance(node, TrieLeaf):
        return Ids(node.prefix, node.items)
    empty = Leaf(len(node.prefix) + 1, ()).hash
    clues = (EMPTY if h == empty else h[:CLUE_BYTES] for h in node.hashes)
    return Clues(node.prefix, tuple(clues))


def places(sections: tuple[Section, ...]) -> Iterator[Prefix]:
    """Yield where the answer to a comparison may be."""
    for section in sections:
        if isinstance(section, Ids):
            yield section.prefix
        else:
            yield from ((*section.prefix, step) for step in range(16))


def showing(
    space: bytes, node_of: NodeOf, records: tuple[SignedBytes, ...] = ()
) -> Callable[[SetMessage], SetMessage | None]:
    """Return what answers each question of a repair: nodes, and these records."""

    def answer(message: SetMessage) -> SetMessage | None:
        match message:
            case TrieRequest(prefixes=prefixes, number=number):
                nodes = tuple(node_of(prefix) for prefix in prefixes[:256])
                return TrieReply(space, nodes, number)
            case CompareRequest(sections=sections, number=number):
                shown = sections[:16]
                found = tuple(section_of(node_of(p)) for p in places(shown))
                return CompareReply(space, found, len(shown), number)
            case RecordsRequest(ids=ids, number=number):
                return RecordsReply(space, records, () if records else ids, number)
            case _:
                return None

    return answer


def repaired(
    answer: Callable[[Any], Message | None], features: int
) -> Callable[[Siege], Any]:
    """Return the attack of a peer that lets itself be repaired from.

    It tells where it stands once more when it was asked for records.
    """

    async def attack(siege: Siege) -> None:
        asked: list[str] = []

        async def talk(incoming: AsyncIterator[Message], say: Say) -> None:
            await say(replace(HELLO, features=features))
            beat = Heartbeat(siege.space, MADE_UP[1], 10**6, b"repaired from me", 10**6)
            await say(beat)
            async for message in incoming:
                asked.append(type(message).__name__)
                reply = answer(message)
                if reply is not None:
                    await say(reply)
                if isinstance(message, RecordsRequest):
                    await say(replace(beat, answered=message.number))

        await siege.talks(CARL, talk)
        way = "CompareRequest" if features & SPEAKS_COMPARE else "TrieRequest"
        assert way in asked

    return attack


def trees() -> Iterator[tuple[str, NodeOf]]:
    """Yield tries that nobody can have."""
    yield "of ids that name nothing", leaf
    yield "of ids that lie elsewhere", lambda p: strewn(p) if p else inner(p)
    yield "without end", one_path


@pytest.mark.parametrize("features", [0, SPEAKS_COMPARE])
@pytest.mark.parametrize("name", [name for name, _ in trees()])
def test_made_up_trie(large: Fortress, name: str, features: int) -> None:
    """A path of it ends where ids cannot share more, and an id at what it names."""
    answer = showing(large.space, dict(trees())[name])
    large.withstands(MalformedMessageError, repaired(answer, features))


def test_covers_nothing_of_a_comparison(large: Fortress) -> None:
    """An answer that answers nothing would be asked for again without end."""

    def answer(message: SetMessage) -> SetMessage | None:
        if isinstance(message, CompareRequest):
            return CompareReply(large.space, (), SECTIONS_MAX, message.number)
        return None

    large.withstands(MalformedMessageError, repaired(answer, SPEAKS_COMPARE))


def asks_for(*sections: Section) -> Callable[[Siege], Any]:
    """Return the attack of a peer that shows what is no trie, and waits for an answer."""

    async def attack(siege: Siege) -> None:
        covered: list[int] = []

        async def talk(incoming: AsyncIterator[Message], say: Say) -> None:
            await say(replace(HELLO, features=SPEAKS_COMPARE))
            await say(CompareRequest(siege.space, bytes(SALT_BYTES), sections, 1))
            async for message in incoming:
                if isinstance(message, CompareReply):
                    covered.append(message.covered)
                    return

        await siege.talks(CARL, talk)
        assert covered[0] > 0

    return attack


def test_large_comparisons(large: Fortress) -> None:
    """However much is shown, also the same again, an answer is one message's fill."""
    below = [Clues((n % 16,), (b"none",) * 16) for n in range(1_000)]
    large.withstands(None, asks_for(*below))


def test_deepest_comparisons(large: Fortress) -> None:
    """A prefix may be as long as a digest, and is answered like any other."""
    deep = (0,) * DEPTH_MAX
    large.withstands(None, asks_for(Clues(deep, (EMPTY,) * 16), Ids(deep, ())))


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
    answer = showing(large.space, leaf, (lie,))
    large.withstands(error, repaired(answer, SPEAKS_COMPARE))


def test_repair_with_other_records(large: Fortress) -> None:
    """Known records in place of those that were asked for are no answer."""
    known = sent(*list(large.pen.known.values())[:3])
    answer = showing(large.space, leaf, known)
    large.withstands(MalformedMessageError, repaired(answer, SPEAKS_COMPARE))
