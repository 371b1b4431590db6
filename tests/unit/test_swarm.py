"""One blob from many sources: what each brings, and what is done about who does not."""

import pytest

from crdtmerge.sync.runs import Run
from crdtmerge.sync.sources import Fate
from crdtmerge.sync.swarm import (
    HEDGE_S,
    PROGRESS_S,
    RUN_FIRST,
    SOURCES_MAX,
    Ask,
    Step,
    Swarm,
)
from crdtmerge.sync.transfer import announce
from tests.swarms import (
    BLOB,
    COUNT,
    DATA,
    DIGESTS,
    LIES,
    Download,
    Hostile,
    Lacking,
    Peer,
    chunk,
)


def test_one_source_brings_all_and_nothing_twice() -> None:
    """The list and the first chunks come with one request; runs grow with the speed."""
    download = Download([Peer()]).run()
    assert download.data == DATA
    assert download.taken == download.asked == COUNT
    first, second, *_ = download.peers[0].asked
    assert first.chunk_list
    assert sum(run.count for run in first.runs) == RUN_FIRST
    assert not second.chunk_list
    assert sum(run.count for run in second.runs) > RUN_FIRST


def test_equal_sources_share_the_work() -> None:
    """Two take half of the time, eight much less; nothing comes twice."""
    alone = Download([Peer(pace=0.05)]).run().now
    pair = Download([Peer(pace=0.05), Peer(pace=0.05)]).run()
    many = Download([Peer(pace=0.05) for _ in range(8)]).run()
    assert pair.now < 0.65 * alone
    assert many.now < 0.45 * alone
    for download in (pair, many):
        assert download.data == DATA
        assert download.taken == COUNT
    assert all(peer.asked for peer in pair.peers)
    assert sum(bool(peer.asked) for peer in many.peers) >= COUNT // RUN_FIRST


def test_a_slow_source_is_robbed() -> None:
    """What it claimed comes from the quick one; it keeps the chunk that is on its way."""
    download = Download([Peer(pace=5.0), Peer(pace=0.01)]).run()
    assert download.data == DATA
    assert download.now < 10.0
    assert download.swarm.tally.stolen > 0
    assert not download.failures


def test_the_last_chunk_is_asked_of_a_second_source() -> None:
    """It does not wait for the slow one's deadline, and costs one chunk at most."""
    download = Download([Peer(pace=29.0), Peer(pace=0.01)]).run()
    assert download.data == DATA
    assert download.swarm.tally.hedged >= 1
    assert download.now < 4 * HEDGE_S + 2
    assert download.taken <= COUNT + download.swarm.tally.hedged


@pytest.mark.parametrize("after", range(4))
@pytest.mark.parametrize("what", LIES)
def test_a_liar_is_left_out_and_the_blob_comes(what: str, after: int) -> None:
    """From the honest one beside it, whatever the liar does; who only fails is no liar."""
    liar = Hostile(what=what, after=after)
    download = Download([liar, Peer(pace=0.2)]).run()
    assert download.data == DATA
    assert 1 not in download.accused()
    if what not in {"silent", "cut"}:
        assert download.accused() == {0}


def test_a_liar_is_never_asked_again() -> None:
    """One wrong chunk, or one false list, and it is out for this blob."""
    liar = Hostile(what="wrong", after=2)
    download = Download([liar, Peer(pace=0.5)]).run()
    assert download.accused() == {0}
    assert len(liar.asked) == 1
    assert download.taken <= COUNT + 1


def test_only_liars_end_a_download() -> None:
    """With nobody left to ask it is hopeless, at once."""
    download = Download([Hostile(what="wrong", after=2) for _ in range(3)]).run()
    assert not download.swarm.done
    assert download.swarm.hopeless
    assert download.accused() == {0, 1, 2}


def test_silence_ends_after_its_time() -> None:
    """A silent source alone is given up after the deadline, and not before."""
    download = Download([Hostile(what="silent", after=3)]).run()
    assert download.swarm.hopeless
    assert PROGRESS_S <= download.now < PROGRESS_S + 2
    assert download.failures[-1].fate is Fate.GONE
    assert download.swarm.tally.stalls == 1


def test_who_brings_a_chunk_now_and_then_is_let_be() -> None:
    """There is no deadline on the whole: the one source there is may take its time."""
    download = Download([Peer(pace=PROGRESS_S - 1)]).run()
    assert download.data == DATA
    assert download.now > COUNT * (PROGRESS_S - 2)


@pytest.mark.parametrize("fate", [Fate.LACKS, Fate.BUSY, Fate.GONE])
def test_who_does_not_have_it_now_is_no_liar(fate: Fate) -> None:
    """It is asked again, ever more seldom; the others bring the blob."""
    poor = Lacking(fate=fate)
    download = Download([poor, Peer(pace=1.0)]).run()
    assert download.data == DATA
    assert not download.accused()
    assert 3 <= len(poor.asked) <= 12
    assert Download([Lacking(fate=fate)]).run().swarm.hopeless


def test_who_comes_back_helps_again() -> None:
    """A source that went away for a while brings its part afterwards."""
    back = Peer(pace=0.1, leaves=0.5, returns=4.0)
    download = Download([back, Peer(pace=1.0)]).run()
    assert download.data == DATA
    assert download.now < 12.0
    assert not download.accused()


def test_a_cut_costs_no_chunk_that_was_here() -> None:
    """What was stored is not asked for again, by the same download or the next one."""
    cut = Peer(pace=0.1, leaves=1.05)
    first = Download([cut]).run()
    assert first.swarm.hopeless
    second = Download([Peer()], held=set(first.stored)).run()
    assert second.data == DATA
    assert second.taken == second.asked == COUNT - len(first.stored)
    assert first.taken + second.taken == COUNT


def test_a_resumed_one_asks_for_its_holes() -> None:
    """Many holes are asked for as they are, in as many runs as a request may name."""
    held = set(range(0, COUNT, 2))
    download = Download([Peer()], held=held).run()
    assert download.data == DATA
    assert download.taken == download.asked == COUNT - len(held)


def test_a_smaller_size_is_proved_by_the_list() -> None:
    """A manifest that says too much does not keep the blob out, nor accuse its source."""
    download = Download([Peer()], size=len(DATA) + 5_000_000).run()
    assert download.data == DATA
    assert not download.failures


def test_a_larger_size_is_refused_and_nobody_accused() -> None:
    """More than was signed is not taken: it might not fit."""
    download = Download([Peer()], size=len(DATA) - 1).run()
    assert download.swarm.hopeless
    assert not download.stored
    assert [f.fate for f in download.failures] == [Fate.LACKS]


def test_no_more_sources_than_stated() -> None:
    """The ninth is not asked."""
    peers = [Peer(pace=0.1) for _ in range(SOURCES_MAX + 1)]
    download = Download(list(peers)).run()
    assert download.data == DATA
    assert not peers[-1].asked


def test_nothing_is_asked_of_nobody() -> None:
    """Without a source there is no hope, and no step."""
    swarm = Swarm(BLOB, len(DATA))
    assert swarm.step(0.0) == []
    assert swarm.hopeless


def _asked(steps: list[Step]) -> list[Ask]:
    return [step for step in steps if isinstance(step, Ask)]


def test_chunks_that_are_being_checked_are_not_asked_for_again() -> None:
    """A reply may be over while its last chunks wait for the disk."""
    swarm = Swarm(BLOB, len(DATA), chunks=DIGESTS)
    swarm.add(b"one")
    swarm.begin(range(4))
    [ask] = _asked(swarm.step(0.0))
    swarm.opened(ask.number, 0.0)
    for message in (*announce(len(DATA), DIGESTS, want_chunk_list=False),):
        assert swarm.message(ask.number, message, 0.1) is None
    for index in range(4):
        assert swarm.message(ask.number, chunk(index), 0.2) is not None
    swarm.ended(ask.number, Fate.WELL, "", 0.3)
    assert _asked(swarm.step(0.3)) == []
    for index in range(3):
        swarm.stored(ask.number, index, 0.4)
    assert _asked(swarm.step(0.4)) == []
    swarm.bad(ask.number, "other bytes", 0.5)
    assert swarm.left == 1
    swarm.add(b"two")
    [again] = _asked(swarm.step(0.6))
    assert (again.source, again.wanted.runs) == (b"two", (Run(3, 1),))


def test_who_sent_the_list_waits_while_the_store_is_opened() -> None:
    """That may take long, if much of the blob is here and is hashed; it is our silence."""
    swarm = Swarm(BLOB, len(DATA), fresh=False)
    swarm.add(b"one")
    [ask] = _asked(swarm.step(0.0))
    swarm.opened(ask.number, 0.0)
    for message in announce(len(DATA), DIGESTS, want_chunk_list=True):
        swarm.message(ask.number, message, 0.1)
    assert swarm.chunks == DIGESTS
    swarm.waiting(ask.number)
    assert swarm.step(100.0) == []
