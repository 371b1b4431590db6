"""A peer pays before its message costs anything; who owes waits, and nobody else does."""

import random
from dataclasses import replace
from typing import Any

import pytest

from crdtmerge.errors import BadInputError
from crdtmerge.sync.messages import (
    IDS_MAX,
    MESSAGE_BYTES_MAX,
    PREFIXES_MAX,
    FeedReply,
    FeedRequest,
    Heartbeat,
    Hello,
    Message,
    RecordsRequest,
    Rumour,
    SignedBytes,
    TrieRequest,
)
from nodes.effects import (
    Close,
    MessageReceived,
    Pause,
    PeerClosed,
    PeerOpened,
    QuotasChanged,
    Send,
    Ticked,
)
from nodes.node import Node
from nodes.quotas import (
    LEAST,
    NAMES,
    PROOF_UNITS,
    Accounts,
    Bucket,
    Price,
    Quotas,
    price_of,
)
from tests.unit.peers import raw
from tests.unit.test_node import Home, only, transport

RECEIVED_S = 0.2e-3
"""What a record takes of a core to verify and keep, at best; its signature is 0.14 ms."""
FLOODER, OTHER = transport(1), transport(2)
TIGHT = Quotas(
    peer_cost=512,
    peer_records=160,
    peer_bytes=32 << 10,
    peer_questions=1,
    author_rate=0,
    burst_s=0.1,
)
"""The smallest limits, with next to nothing saved up."""


# --- buckets ---------------------------------------------------------------------------


def test_a_bucket_gives_its_burst_and_then_its_rate() -> None:
    """Who rested has the burst at once; after that every unit takes its time."""
    bucket = Bucket(10, burst_s=3)
    bucket.take(30, now=0)
    assert bucket.wait(0) == 0
    bucket.take(5, now=0)
    assert bucket.wait(0) == 0.5
    assert bucket.wait(0.5) == 0
    bucket.take(10, now=0.5)
    assert bucket.wait(0.5) == 1


def test_a_bucket_saves_no_more_than_its_burst() -> None:
    """A year of rest is worth as much as a few seconds of it."""
    bucket = Bucket(10, burst_s=3)
    assert bucket.level(1e9) == 30
    assert bucket.full(1e9)


def test_what_is_dearer_than_a_bucket_passes_and_leaves_a_debt() -> None:
    """Nothing is too large for ever: the debt is paid, and the next one passes."""
    bucket = Bucket(1, burst_s=1)
    bucket.take(100, now=0)
    assert bucket.wait(0) == 99
    assert bucket.wait(99) == 0


def test_time_that_stands_still_or_goes_back_pays_nothing() -> None:
    """A clock that jumps back gives no credit twice."""
    bucket = Bucket(10, burst_s=1)
    bucket.take(20, now=5)
    assert bucket.wait(5) == bucket.wait(1) == 1
    assert bucket.wait(5.5) == 0.5


def test_a_rate_of_zero_is_without_limit() -> None:
    """No amount is a debt then."""
    bucket = Bucket(0, burst_s=1)
    bucket.take(1e12, now=0)
    assert bucket.wait(0) == 0
    assert bucket.full(0)


# --- prices ----------------------------------------------------------------------------


def test_each_record_costs_a_signature_and_what_is_hashed() -> None:
    """A unit a record, and one more for each 512 bytes, as long as no more is known."""
    small, large = (
        SignedBytes(bytes(256), bytes(64)),
        SignedBytes(bytes(64 << 10), bytes(64)),
    )
    assert price_of(Rumour(bytes(32), (small, small))).units == 3
    assert price_of(Rumour(bytes(32), (large,))).units == 129
    assert price_of(Rumour(bytes(32), (small,) * 7)).records == 7


@pytest.mark.parametrize(
    "question",
    [
        FeedRequest(bytes(32), bytes(16), 0, 1),
        TrieRequest(bytes(32), ((),), 1),
        RecordsRequest(bytes(32), (bytes(32),), 1),
    ],
)
def test_questions_count_as_such(question: Message) -> None:
    """What we must look up costs us, too."""
    assert price_of(question).questions == 1
    assert price_of(question).units > 1


def test_a_beat_costs_next_to_nothing() -> None:
    """Peers beat every second for ever."""
    beat = Heartbeat(bytes(32), bytes(32), 0, bytes(16), 0)
    assert price_of(beat) == Price(1, 256)
    assert price_of(Hello(1, "t")) == Price(1, 256)


def test_the_largest_messages_are_paid_for_in_half_a_minute_by_the_smallest_limits() -> (
    None
):
    """An honest peer must not take our silence for death, whatever the user sets."""
    record = SignedBytes(bytes(160), bytes(64))
    count = MESSAGE_BYTES_MAX // (160 + 64)
    largest = (
        FeedReply(bytes(32), bytes(16), count, False, (record,) * count),
        FeedReply(
            bytes(32), bytes(16), 16, False, (SignedBytes(bytes(1 << 16), b""),) * 16
        ),
        TrieRequest(bytes(32), ((),) * PREFIXES_MAX),
        RecordsRequest(bytes(32), (bytes(32),) * IDS_MAX),
    )
    for message in largest:
        accounts = Accounts(TIGHT)
        accounts.pay(FLOODER, price_of(message), 0)
        assert accounts.pause(FLOODER, 0) <= 33
    faults = MESSAGE_BYTES_MAX // 4600  # of which most have that many bytes
    accounts = Accounts(TIGHT)
    accounts.pay(FLOODER, Price(0, 0, faults), 0)
    accounts.settle(FLOODER, 0, faults * PROOF_UNITS, 0)
    assert accounts.pause(FLOODER, 0) <= 36


def test_a_million_records_pass_as_fast_as_they_can_be_verified() -> None:
    """A new node catches up with a large space from one peer, and never lets it wait."""
    record = SignedBytes(bytes(190), bytes(64))
    count = MESSAGE_BYTES_MAX // (190 + 64 + 16)
    reply = FeedReply(bytes(32), bytes(16), count, True, (record,) * count)
    accounts, now, waited = Accounts(Quotas()), 0.0, 0.0
    for _ in range(1_000_000 // count):
        accounts.pay(FLOODER, price_of(reply), now)
        pause = accounts.pause(FLOODER, now)
        waited += pause
        now += pause + count * RECEIVED_S
    assert waited == 0
    assert now < 1_000_000 * RECEIVED_S


def test_limits_that_would_stop_honest_peers_are_refused() -> None:
    """The error names the quota and its least value; 0 is without limit."""
    for name in NAMES:
        for value in (0, LEAST[name]):
            changed: dict[str, Any] = {name: value}
            assert getattr(replace(Quotas(), **changed), name) == value
    with pytest.raises(BadInputError, match=r"peer-records is 1, not at least 160"):
        Quotas(peer_records=1)
    with pytest.raises(BadInputError, match="author-bytes"):
        Quotas(author_bytes=-1)


# --- the node --------------------------------------------------------------------------


def _home(quotas: Quotas) -> Home:
    home = Home(members=2)
    home.node = Node(home.node.me, home.spaces, random.Random(7), "t", quotas=quotas)
    home.open(1, 2)
    home.now += 1000
    return home


def _questions(home: Home, count: int) -> list[float]:
    """Ask often; return the pauses."""
    pauses = []
    for number in range(1, count + 1):
        asked = TrieRequest(home.space, ((),), number)
        effects = home.do(MessageReceived(FLOODER, asked))
        pauses += [pause.seconds for pause in only(effects, Pause)]
        assert len(only(effects, Send)) == 1  # every one of them is answered
    return pauses


def test_endless_questions_are_answered_at_their_rate() -> None:
    """The first is free, the others are a second of not being read each."""
    home = _home(TIGHT)
    assert _questions(home, 4) == [1, 2, 3]


def test_pauses_are_for_who_owes_alone() -> None:
    """While one peer is left alone the other is read from as ever."""
    home = _home(TIGHT)
    assert _questions(home, 3)
    asked = TrieRequest(home.space, ((),), 1)
    effects = home.do(MessageReceived(OTHER, asked))
    assert only(effects, Send)
    assert not only(effects, Pause)


def test_a_new_stream_does_not_pay_an_old_debt() -> None:
    """Who hangs up and calls again is left alone for the rest of the time."""
    home = _home(TIGHT)
    _questions(home, 11)
    home.do(PeerClosed(FLOODER))
    home.do(Ticked(), after=4)
    (pause,) = only(home.do(PeerOpened(FLOODER)), Pause)
    assert pause == Pause(FLOODER, 6)


def test_debts_are_forgotten_once_they_are_paid() -> None:
    """What a node keeps of peers is bounded by those who used something lately."""
    home = _home(TIGHT)
    _questions(home, 3)
    home.do(Ticked(), after=60)
    assert len(home.node.accounts) == 0
    assert not only(home.do(PeerOpened(FLOODER)), Pause)


def test_a_forger_pays_for_what_it_made_us_verify() -> None:
    """It is parted with, and what that cost stands against it when it comes back."""
    home = _home(replace(TIGHT, peer_cost=512, burst_s=0.01))
    said = raw(home.replica(2).announce(transport(2), ("peer2:2",)))
    bad = replace(said, signature=bytes(64))
    effects = home.do(MessageReceived(FLOODER, Rumour(home.space, (bad,) * 9)))
    assert only(effects, Close)
    assert home.node.accounts.pause(FLOODER, home.now) > 0


def test_what_is_known_already_costs_no_signature() -> None:
    """Three peers push the same news: only the first of them made us verify it."""
    home = _home(Quotas())
    said = home.replica(2).announce(transport(2), ("peer2:2",))
    news = Rumour(home.space, (raw(said),))
    before = home.node.accounts.units
    home.do(MessageReceived(FLOODER, news))
    first = home.node.accounts.units - before
    home.do(MessageReceived(OTHER, news))
    assert first > 1
    assert home.node.accounts.units - before == first


def test_other_quotas_hold_at_once() -> None:
    """Without limit nobody owes anything, not even what it owed before."""
    home = _home(TIGHT)
    _questions(home, 3)
    home.do(QuotasChanged(Quotas(peer_questions=0)))
    assert not only(home.do(PeerOpened(FLOODER)), Pause)
    asked = [TrieRequest(home.space, ((),), n) for n in range(1, 50)]
    for question in asked:
        assert not only(home.do(MessageReceived(FLOODER, question)), Pause)


def test_pauses_and_what_peers_cost_are_counted() -> None:
    """Metrics show that somebody floods, and that it is held back."""
    home = _home(TIGHT)
    _questions(home, 3)
    assert home.node.accounts.pauses == 2
    assert home.node.accounts.paused_seconds == 3
    assert home.node.accounts.units > 3
