"""Members whose rights ended while they were connected, or while they were away."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from crdtmerge.bodies import Ban, Revoke
from crdtmerge.errors import RefusedError, UnreachableError
from crdtmerge.sync.messages import Heartbeat, Message, Rumour
from crdtmerge.sync.runs import Run
from crdtmerge.sync.transfer import Wanted
from tests.attacks.fortress import Fortress, model
from tests.attacks.guard import within_memory
from tests.attacks.siege import HELLO, Say, Siege, sent
from tests.integration.living import until
from tests.properties.cast import CARL, CLEO, CONTENTS, OWNERS, add_of


async def banned(siege: Siege) -> None:
    """Let the keeper of the fortress ban CARL, as its user would."""
    call, asked = siege.node.operations.call, {"id": CARL.public.hex(), "author": True}
    await asyncio.to_thread(call, "ban", asked, lambda _: None)


def test_removed_member_on_an_open_stream(fortress: Fortress) -> None:
    """Its stream is cut, its channel serves it no more, and no new one comes about."""
    fortress.contribute(CLEO, b"for members")
    late = fortress.next(CARL, add_of(CONTENTS[0]))
    blob = model(b"for members").tensors[0].blob

    async def scenario(siege: Siege) -> None:
        async with siege.client(CARL) as client:

            async def talk(incoming: AsyncIterator[Message], say: Say) -> None:
                await say(HELLO)
                await anext(incoming)
                await banned(siege)
                await until(lambda: not siege.node.connected(), "the end of the stream")
                await say(Rumour(fortress.space, sent(late)))
                await anext(incoming)

            before_ban = siege.ids
            with pytest.raises((RefusedError, UnreachableError)):
                await client.open_stream(talk)
            await siege.settled()
            assert len(siege.ids) == len(before_ban) + 1
            before, root = fortress.state, siege.root
            with within_memory():
                for _ in range(2):
                    with pytest.raises(RefusedError, match="not a member"):
                        await client.open_stream(talk)
                    wanted = Wanted(True, (Run(0, 9),))
                    with pytest.raises(RefusedError, match="not a member"):
                        await anext(client.fetch(fortress.space, blob, wanted))
                async with siege.client(CARL) as again:
                    with pytest.raises(UnreachableError):
                        await again.open_stream(talk)
            assert (fortress.state, siege.root) == (before, root)
            assert late.record.id not in siege.ids

    fortress.runs(scenario)


def test_message_under_way_when_a_member_is_removed(fortress: Fortress) -> None:
    """What it says in the same moment comes in as a record, and means nothing."""
    late = fortress.next(CARL, add_of(CONTENTS[0]))

    async def attack(siege: Siege) -> None:
        await siege.spreads(CARL, late)

    fortress.takes([late], attack)
    fortress.say(OWNERS[0], Ban("author", CARL.public))
    fortress.keep()
    view = fortress.spaces().view(fortress.space)
    assert CONTENTS[0] not in {v.content for v in view.visible}


@pytest.mark.parametrize("how", ["revoked", "banned"])
def test_stale_member_returns(fortress: Fortress, how: str) -> None:
    """Who was away for long brings old records and lost rights: nothing comes back.

    There is no compaction yet: every record is kept, so what returns is known, or is
    judged by what happened meanwhile.
    """
    kept = fortress.contribute(CARL, b"from before")
    gone = fortress.contribute(CARL, b"removed since")
    fortress.pen.remove(CARL, gone.record.id)
    old = list(fortress.pen.known.values())
    if how == "revoked":
        last = fortress.pen.last[CARL.public]
        fortress.say(OWNERS[0], Revoke(CARL.public, (last.id,)))
    else:
        fortress.say(OWNERS[0], Ban("author", CARL.public))
    fortress.keep()
    view = fortress.spaces().view(fortress.space)
    # On its own it went on, and a friend with rights brings what it made.
    while_away = [fortress.pen.write(CARL, add_of(c)) for c in CONTENTS[:2]]
    bring = [*old, *while_away]
    fortress.takes(while_away, lambda siege: siege.feeds(CLEO, *bring))
    after = fortress.spaces().view(fortress.space)
    assert (after.visible, after.ranks) == (view.visible, view.ranks)
    shown = {add for v in after.visible for add in v.adds}
    assert (kept.record.id in shown) == (how == "revoked")
    assert gone.record.id not in shown


def test_stale_root_is_no_rollback(fortress: Fortress) -> None:
    """A peer that shows an older set gets what it lacks, and takes nothing away."""
    beats = [
        Heartbeat(fortress.space, bytes([n]) * 32, n, b"an older feed  .", n)
        for n in range(5)
    ]

    async def attack(siege: Siege) -> None:
        await siege.says(CLEO, *beats)

    fortress.withstands(None, attack)
