"""Floods of true records: they wait, nobody else does, and nothing of them is lost."""

import time

from crdtmerge.bodies import Ban, Unknown
from crdtmerge.errors import NotAdmissibleError
from nodes.effects import QuotasChanged
from nodes.quotas import Quotas
from tests.attacks.fortress import Fortress
from tests.attacks.guard import within_memory
from tests.attacks.siege import Siege
from tests.integration.living import until
from tests.properties.cast import CARL, CLEO, CONTENTS, OWNERS, READER, add_of, write

TIGHT = Quotas(author_rate=2.0, burst_s=16.0)
FLOOD = 200
PATIENCE_S = 20.0
"""Long for a busy machine; what is taken at its rate takes more than a minute."""


def test_flooding_to_quota(fortress: Fortress) -> None:
    """One author says more than its share: the rest waits where it is.

    Another author's record and an owner's ban come at once, in the same moment.
    """
    flood = [fortress.pen.write(CLEO, Unknown("junk", [n])) for n in range(FLOOD)]
    news = fortress.next(READER, Unknown("news", [0]))
    ban = fortress.next(OWNERS[0], Ban("author", CLEO.public))

    async def scenario(siege: Siege) -> None:
        await siege.node.submit(lambda: [QuotasChanged(TIGHT)])
        before, junk = siege.ids, {signed.record.id for signed in flood}
        began = time.monotonic()
        with within_memory():
            await siege.feeds(CARL, *flood)
            await siege.feeds(CARL, news, ban)
        assert time.monotonic() - began < PATIENCE_S
        assert {news.record.id, ban.record.id} <= siege.ids
        assert len((siege.ids - before) & junk) < FLOOD // 2
        await siege.node.submit(lambda: [QuotasChanged(Quotas())])
        await siege.feeds(CARL, *flood)
        assert siege.ids - before == junk | {news.record.id, ban.record.id}
        assert siege.errors == []
        await siege.settled()

    fortress.runs(scenario)


def test_flood_of_a_peer_delays_itself_alone(fortress: Fortress) -> None:
    """Who sends more than its peer's share is read later; another peer is read now."""
    junk = [fortress.pen.write(CLEO, Unknown("junk", [n])) for n in range(FLOOD)]
    news = fortress.next(READER, add_of(CONTENTS[0]))
    note = fortress.next(READER, Unknown("news", [0]))

    async def attack(siege: Siege) -> None:
        tight = Quotas(peer_records=160.0, burst_s=1.0)
        await siege.node.submit(lambda: [QuotasChanged(tight)])
        await siege.spreads(CARL, *junk[: FLOOD // 2])
        began = time.monotonic()
        await siege.feeds(READER, note)
        assert time.monotonic() - began < PATIENCE_S
        await siege.spreads(CLEO, *junk[FLOOD // 2 :])
        await until(lambda: junk[-1].record.id in siege.ids, "the rest of the flood")

    fortress.takes([*junk, note], attack)
    fortress.withstands(NotAdmissibleError, lambda s: s.feeds(CARL, news))


def test_flood_above_the_grant(fortress: Fortress) -> None:
    """A grant bounds how many records its holder can ever make."""
    grant, last = fortress.pen.grants[CLEO.public], fortress.pen.last[CLEO.public]
    at = write(CLEO, grant, Unknown("junk", []), after=last, seq=1000)
    above = [
        write(CLEO, grant, Unknown("junk", [n]), after=at.record, seq=1001 + n)
        for n in range(50)
    ]
    fortress.takes([at], lambda siege: siege.feeds(CARL, at))
    fortress.withstands(NotAdmissibleError, lambda s: s.feeds(CARL, *above))
