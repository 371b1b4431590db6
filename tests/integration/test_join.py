"""Joining with a ticket over a real join port: who gets in, who does not, what is kept."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from crdtmerge.bodies import Add, SpaceId, give_consent
from crdtmerge.errors import RefusedError, UnreachableError, WrongSpaceError
from crdtmerge.identity import AuthorId, verify
from crdtmerge.policy import Rank
from crdtmerge.record import SignedRecord, well_formed
from crdtmerge.replica import Replica
from crdtmerge.sync.messages import SignedBytes
from nodes import join as module
from nodes.client import open_join
from nodes.home import Home
from nodes.join import _Joiner, join
from nodes.join_messages import Announce, Answer, Challenge, JoinHello, JoinMessage
from nodes.runtime import Runtime
from nodes.spaces import Spaces
from nodes.ticket import Ticket
from tests.integration.living import (
    BASE,
    admit,
    found,
    homes,
    living,
    make_home,
    offer,
    replica,
    run,
    tensors,
)

SECRET = b"s" * 16
Say = Callable[[JoinMessage], Awaitable[None]]


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Home, Home]]:
    """A host and a joiner."""
    with homes(tmp_path, "host", "joiner") as (host, joiner):
        yield host, joiner


def ticket_of(runtime: Runtime, space: SpaceId, *, secret: bytes = SECRET) -> Ticket:
    """Hand out a ticket for `space` that names the node of `runtime`."""
    runtime.home.local.add_invite(space, SECRET)
    addresses = runtime.join_addresses
    return Ticket(space, BASE, secret, runtime.me, addresses, "living")


async def enter(ticket: Ticket, home: Home) -> Spaces:
    """Join, and return what the home holds afterwards."""
    spaces = Spaces(home.records, home.blobs)
    await join(ticket, home, spaces)
    return Spaces(home.records, home.blobs)


async def refused(
    ticket: Ticket, home: Home, error: type[Exception] = RefusedError
) -> None:
    """Check that the ticket does not let `home` in, and that it keeps nothing."""
    with pytest.raises(error):
        await enter(ticket, home)
    assert home.records.spaces() == []


def test_a_ticket_makes_a_member(pair: tuple[Home, Home]) -> None:
    """The joiner holds its grant and the host's address, the host the joiner's node."""
    host, joiner = pair
    space = found(host)

    async def joins() -> None:
        async with living(host) as node:
            spaces = await enter(ticket_of(node, space), joiner)
            view = spaces.view(space)
            assert view.ranks[joiner.author.public] == Rank.CONTRIBUTOR
            assert view.nodes[node.me] == node.addresses
            (known,) = joiner.local.peers(space)
            assert (known.node, known.addresses) == (node.me, node.addresses)
            assert joiner.node.public in node.spaces.view(space).nodes
            await node.submit(list)  # behind what the publishing brought
            assert joiner.node.public in node.members()

    run(joins())


@pytest.mark.parametrize("wrong", ["space", "other space", "secret", "revoked"])
def test_a_wrong_ticket_is_refused(pair: tuple[Home, Home], wrong: str) -> None:
    """The secret opens one door, as long as it was not revoked; no record is made."""
    host, joiner = pair
    space, other = found(host), found(host, "other")

    async def joins() -> None:
        async with living(host) as node:
            ticket = ticket_of(node, space)
            before = len(node.spaces.opset(space)), len(node.spaces.opset(other))
            match wrong:
                case "space":
                    ticket = replace(ticket, space=SpaceId(b"\x07" * 32))
                case "other space":
                    ticket = replace(ticket, space=other)
                case "secret":
                    ticket = replace(ticket, secret=b"t" * 16)
                case _:
                    assert host.local.revoke_invite(space, SECRET)
            await refused(ticket, joiner)
            after = len(node.spaces.opset(space)), len(node.spaces.opset(other))
            assert after == before

    run(joins())


def test_a_stranger_is_not_told_which_spaces_a_node_hosts(
    pair: tuple[Home, Home],
) -> None:
    """A space that is here and one that is not answer alike to who has no ticket."""
    host, joiner = pair
    space = found(host)

    async def heard_of(node: Runtime, asked: SpaceId) -> tuple[list[str], str]:
        ticket = replace(ticket_of(node, space), space=asked, secret=b"t" * 16)
        talk = _Joiner(ticket, joiner, Spaces(joiner.records, joiner.blobs)).talk
        heard: list[str] = []

        async def listens(incoming: AsyncIterator[JoinMessage], send: Say) -> None:
            async def noted() -> AsyncIterator[JoinMessage]:
                async for message in incoming:
                    heard.append(type(message).__name__)
                    yield message

            await talk(noted(), send)

        with pytest.raises(RefusedError) as refusal:
            await open_join(ticket.addresses[0], node.me, listens)
        return heard, str(refusal.value)

    async def joins() -> None:
        async with living(host) as node:
            here = await heard_of(node, space)
            elsewhere = await heard_of(node, SpaceId(b"\x07" * 32))
            assert here == elsewhere
            assert here[0] == ["Challenge"]

    run(joins())


def test_another_host_than_the_ticket_names_learns_nothing(
    pair: tuple[Home, Home],
) -> None:
    """The host proves itself by its key before a word is said."""
    host, joiner = pair
    space = found(host)

    async def joins() -> None:
        async with living(host) as node:
            ticket = replace(ticket_of(node, space), node=b"\x09" * 32)
            await refused(ticket, joiner, UnreachableError)

    run(joins())


def test_another_base_than_the_ticket_says_is_refused(pair: tuple[Home, Home]) -> None:
    """The joiner checked its own copy against the ticket: the space must agree."""
    host, joiner = pair
    space = found(host)

    async def joins() -> None:
        async with living(host) as node:
            ticket = replace(ticket_of(node, space), base=b"\x01" * 32)  # type: ignore[arg-type]
            await refused(ticket, joiner, WrongSpaceError)

    run(joins())


def test_a_host_that_may_not_grant_refuses(tmp_path: Path) -> None:
    """A ticket of a mere contributor opens nothing."""
    with homes(tmp_path, "owner", "host", "joiner") as (owner, host, joiner):
        space = found(owner)
        admit(owner, space, host)

        async def joins() -> None:
            async with living(host) as node:
                await refused(ticket_of(node, space), joiner)

        run(joins())


def test_who_is_a_member_gets_no_second_grant(pair: tuple[Home, Home]) -> None:
    """Joining twice, as after a crash in between, ends with the same records."""
    host, joiner = pair
    space = found(host)

    async def joins() -> None:
        async with living(host) as node:
            ticket = ticket_of(node, space)
            with pytest.raises(UnreachableError):
                await open_join(ticket.addresses[0], node.me, dying(ticket, joiner))
            assert joiner.records.spaces() == []
            before = len(node.spaces.opset(space))
            await enter(ticket, joiner)
            assert len(node.spaces.opset(space)) <= before + 1
            grants = node.spaces.view(space).ranks
            assert grants[joiner.author.public] == Rank.CONTRIBUTOR

    run(joins())


def test_a_named_successor_needs_no_grant(pair: tuple[Home, Home]) -> None:
    """A spare key comes in with a ticket, and has what the key before it had."""
    host, joiner = pair
    space = found(host)

    async def joins() -> None:
        async with living(host) as node:
            owner = Replica(node.spaces.opset(space), host.author)
            spare = joiner.author
            consent = give_consent(spare, space, host.author.public)
            node.spaces.publish(space, [owner.name_successor(spare.public, consent)])
            before = len(node.spaces.opset(space))
            spaces = await enter(ticket_of(node, space), joiner)
            assert len(node.spaces.opset(space)) <= before + 1  # its node, no grant
            assert spaces.view(space).ranks[spare.public] is Rank.OWNER

    run(joins())


def dying(
    ticket: Ticket, home: Home
) -> Callable[[AsyncIterator[JoinMessage], Say], Awaitable[None]]:
    """Return a joiner that goes away when it should announce itself."""
    joiner = _Joiner(ticket, home, Spaces(home.records, home.blobs))

    async def talk(incoming: AsyncIterator[JoinMessage], send: Say) -> None:
        async def until_announce(message: JoinMessage) -> None:
            if isinstance(message, Announce):
                raise UnreachableError("gone")
            await send(message)

        await joiner.talk(incoming, until_announce)

    return talk


def test_who_lost_its_home_goes_on_counting(pair: tuple[Home, Home]) -> None:
    """With the old keys and an empty store, no number is used twice: no fork."""
    host, joiner = pair
    space = found(host)

    async def joins() -> None:
        async with living(host) as node:
            ticket = ticket_of(node, space)
            first = await enter(ticket, joiner)
            made = replica(joiner, space).announce(joiner.node.public, ("there:1",))
            first.commit(space, [made])
            add = offer(joiner, space, tensors(b"x"))
            node.spaces.commit(space, [made, add])
            again = make_home(joiner.path.parent / "again" / joiner.path.name)
            try:
                assert again.author.public == joiner.author.public
                spaces = await enter(ticket, again)
                mine = Replica(spaces.opset(space), again.author)
                node.spaces.commit(
                    space, [mine.announce(again.node.public, ("new:1",))]
                )
            finally:
                again.close()
            numbers = Counter(
                record.author_seq
                for record in node.spaces.opset(space).records.values()
                if record.author == joiner.author.public
            )
            assert max(numbers.values()) == 1, numbers

    run(joins())


def test_a_banned_author_stays_out(pair: tuple[Home, Home]) -> None:
    """A ticket gives no rights back, and no record comes of trying."""
    host, joiner = pair
    space = found(host)
    admit(host, space, joiner)
    banned = replica(host, space).ban("author", joiner.author.public)
    host.records.append(space, [banned])

    async def joins() -> None:
        async with living(host) as node:
            before = len(node.spaces.opset(space))
            with pytest.raises(RefusedError):
                await enter(ticket_of(node, space), joiner)
            assert len(node.spaces.opset(space)) == before

    run(joins())


def test_an_answer_is_good_for_one_stream(pair: tuple[Home, Home]) -> None:
    """Who overheard it cannot use it again: each stream has a nonce of its own."""
    host, joiner = pair
    space = found(host)

    async def joins() -> None:
        async with living(host) as node:
            ticket = ticket_of(node, space)
            heard: list[JoinMessage] = []
            talk = _Joiner(ticket, joiner, Spaces(joiner.records, joiner.blobs)).talk

            async def overheard(
                incoming: AsyncIterator[JoinMessage], send: Say
            ) -> None:
                async def noted(message: JoinMessage) -> None:
                    heard.append(message)
                    await send(message)

                await talk(incoming, noted)

            await open_join(ticket.addresses[0], node.me, overheard)
            (answer,) = [m for m in heard if isinstance(m, Answer)]

            async def replays(incoming: AsyncIterator[JoinMessage], send: Say) -> None:
                await send(JoinHello(space))
                await anext(incoming)
                await send(answer)
                await anext(incoming)

            with pytest.raises(RefusedError):
                await open_join(ticket.addresses[0], node.me, replays)

    run(joins())


@pytest.mark.parametrize("what", ["an add", "another node", "another author"])
def test_a_joiner_announces_its_own_node_alone(
    pair: tuple[Home, Home], what: str
) -> None:
    """The door is for coming in: all else comes by sync, as it does from anybody."""
    host, joiner = pair
    space = found(host)

    async def joins() -> None:
        async with living(host) as node:
            ticket = ticket_of(node, space)
            talk = _Joiner(ticket, joiner, Spaces(joiner.records, joiner.blobs)).talk

            def other() -> SignedBytes:
                mine = Replica(node.spaces.opset(space), joiner.author)
                match what:
                    case "an add":
                        made = mine.contribute(tensors(b"x"), weight=1, note="")
                    case "another node":
                        made = mine.announce(b"\x05" * 32, ())
                    case _:
                        made = replica(host, space).announce(joiner.node.public, ())
                return SignedBytes(made.record.data, made.signature)

            async def forges(incoming: AsyncIterator[JoinMessage], send: Say) -> None:
                async def forged(message: JoinMessage) -> None:
                    if isinstance(message, Announce):
                        message = Announce((*message.records, other()))
                    await send(message)

                await talk(incoming, forged)

            with pytest.raises(RefusedError):
                await open_join(ticket.addresses[0], node.me, forges)
            assert joiner.records.spaces() == []
            view = node.spaces.view(space)
            assert set(view.nodes) == {node.me}
            records = node.spaces.opset(space).records.values()
            assert not any(isinstance(r.body, Add) for r in records)

    run(joins())


def test_many_join_at_once(tmp_path: Path) -> None:
    """Grants of one host have numbers of their own, however many it signs at once."""
    names = [f"joiner{i}" for i in range(6)]
    with homes(tmp_path, "host", *names) as (host, *joiners):
        space = found(host)

        async def joins() -> None:
            async with living(host) as node:
                ticket = ticket_of(node, space)
                await asyncio.gather(*(enter(ticket, joiner) for joiner in joiners))
                opset = node.spaces.opset(space)
                numbers = Counter(
                    (r.author, r.author_seq) for r in opset.records.values()
                )
                assert max(numbers.values()) == 1
                ranks = opset.view.ranks
                assert all(j.author.public in ranks for j in joiners)

        run(joins())


@pytest.mark.parametrize("wrong", ["secret", "author", "node"])
def test_no_signature_is_verified_before_the_secret(
    pair: tuple[Home, Home], monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    """A stranger cannot make us work: without the secret it costs a few hashes."""
    host, joiner = pair
    space = found(host)
    verified: list[bytes] = []

    def counting(key: bytes, *rest: Any) -> None:
        verified.append(key)
        verify(AuthorId(key), *rest)

    monkeypatch.setattr(module, "verify", counting)

    async def joins() -> None:
        async with living(host) as node:
            ticket = ticket_of(node, space)
            if wrong == "secret":
                ticket = replace(ticket, secret=b"t" * 16)
            strange = _Joiner(ticket, joiner, Spaces(joiner.records, joiner.blobs))
            honest = strange._answer

            def answer(nonce: bytes) -> Answer:
                made = honest(nonce)
                if wrong == "author":
                    return replace(made, author_signature=bytes(64))
                if wrong == "node":
                    return replace(made, node_signature=bytes(64))
                return made

            with pytest.raises((RefusedError, UnreachableError)):
                await open_join(node.join_addresses[0], node.me, _talk(strange, answer))

    run(joins())
    most = {"secret": 0, "author": 1, "node": 2}
    assert len(verified) == most[wrong]


def _talk(
    joiner: _Joiner, answer: Callable[[bytes], Answer]
) -> Callable[[AsyncIterator[JoinMessage], Say], Awaitable[None]]:
    """Return the joiner's side up to its answer, which may be another."""

    async def talk(incoming: AsyncIterator[JoinMessage], send: Say) -> None:
        await send(JoinHello(joiner.ticket.space))
        challenge = await anext(incoming)
        assert isinstance(challenge, Challenge)
        await send(answer(challenge.nonce))
        await anext(incoming)

    return talk


def test_a_host_that_hangs_up_makes_no_fork_of_who_joins(tmp_path: Path) -> None:
    """What it was told is not said again under the same number to the next host."""
    told: list[SignedRecord] = []
    with homes(tmp_path, "host", "mallet", "joiner") as (host, mallet, joiner):
        space = found(host)
        granted = replica(host, space).grant(mallet.author.public, Rank.MAINTAINER)
        mallet.records.append(space, [*host.records.load(space), granted])

        async def lured(ticket: Ticket) -> None:
            talk = _Joiner(ticket, joiner, Spaces(joiner.records, joiner.blobs)).talk

            async def until_told(
                incoming: AsyncIterator[JoinMessage], say: Say
            ) -> None:
                async def tell(message: JoinMessage) -> None:
                    if isinstance(message, Announce):
                        told.extend(
                            well_formed(r.data, r.signature) for r in message.records
                        )
                        raise UnreachableError("hung up")
                    await say(message)

                await talk(incoming, tell)

            with pytest.raises(UnreachableError):
                await open_join(ticket.addresses[0], ticket.node, until_told)

        async def joins() -> None:
            async with living(mallet) as node:
                for _ in range(2):
                    await lured(ticket_of(node, space))
            assert joiner.records.spaces() == []
            async with living(host) as node:
                opset = (await enter(ticket_of(node, space), joiner)).opset(space)
                await enter(ticket_of(node, space), joiner)
                ours = [*told, *opset.signed.values(), *host.records.load(space)]
                numbers = Counter(
                    r.author_seq
                    for r in {s.record.id: s.record for s in ours}.values()
                    if r.author == joiner.author.public
                )
                assert max(numbers.values()) == 1, numbers
                assert len(numbers) > 1
                assert told[0] == told[1]
                assert told[0].record.id in opset

        run(joins())
