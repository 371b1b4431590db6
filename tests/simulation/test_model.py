"""The model of many peers: near to real cores where both run, and the same from a seed."""

import itertools
import json
from collections.abc import Callable

import numpy as np
import pytest

from nodes.neighbours import CHOSEN, MESH_MAX
from simulations.model import command, members
from simulations.model.calibration import NEWS, Calibration, calibrate
from simulations.model.check import check
from simulations.model.graph import PEERS_MIN, draw_graph
from simulations.model.prediction import predict
from simulations.model.spread import (
    BEAT,
    KINDS,
    RECORDS,
    REPLY,
    RUMOUR,
    make_gossip,
)

PEERS = 100


def counting() -> Callable[[], float]:
    """Return a timer by which every second question takes a microsecond."""
    ticks = itertools.count()
    return lambda: next(ticks) * 1e-6


@pytest.fixture(scope="module")
def costs() -> Calibration:
    """What a small town takes, by a timer that only counts."""
    return calibrate(30, 4, 1, counting())


def test_the_model_is_near_to_a_hundred_real_cores(costs: Calibration) -> None:
    """Rounds within a third of one, messages and bytes within a tenth, without loss."""
    checked = check(PEERS, 0.0, 8, 3, costs)
    model, cores, errors = checked.model, checked.simulated, checked.errors()
    assert abs(model.half - cores.half) < 0.1
    assert abs(model.all - cores.all) < 1 / 3
    assert abs(errors["streams"]) < 0.02
    assert abs(errors["messages"]) < 0.1
    assert abs(errors["bytes"]) < 0.1


@pytest.mark.slow
@pytest.mark.parametrize("loss", [0.0, 0.3])
def test_the_model_is_near_to_more_real_cores(costs: Calibration, loss: float) -> None:
    """With a third of all messages lost it is less near: half as many rounds again."""
    checked = check(300, loss, 15, 4, costs)
    assert abs(checked.errors()["most"]) < 0.3 + loss
    assert abs(checked.errors()["messages"]) < 0.1 + loss


def test_the_same_seed_gives_the_same_prediction(costs: Calibration) -> None:
    """Nothing but the arguments decides what the model says."""
    once, again, other = (predict(PEERS, 0.1, 1, seed, costs) for seed in (5, 5, 6))
    assert once == again
    assert once.messages != other.messages


def test_news_takes_longer_the_more_is_lost(costs: Calibration) -> None:
    """Rounds until 99 of a hundred have it grow with loss; so do those until all have."""
    found = [predict(PEERS, loss, 6, 1, costs) for loss in (0.0, 0.2, 0.4)]
    for fewer, more in itertools.pairwise(found):
        assert more.most > fewer.most
        assert more.all > fewer.all


def test_news_takes_longer_among_more_but_hardly(costs: Calibration) -> None:
    """A hundred times the peers take less than three times the rounds."""
    few, many = (predict(peers, 0.0, 2, 2, costs) for peers in (100, 10_000))
    assert few.half < many.half < 3 * few.half
    assert few.all < many.all < 3 * few.all


def test_every_peer_has_the_record_once() -> None:
    """Records are held once each, and pushed to three by each who has one anew."""
    gossip = make_gossip(PEERS, 0.0, 1)
    told = [gossip.tell() for _ in range(3)]
    assert gossip.held.tolist() == [3] * PEERS
    assert [one.sent[RUMOUR] for one in told] == [3 * PEERS] * 3
    assert all(one.half <= one.most <= one.all < one.periods for one in told)
    assert all(one.sent[RECORDS] >= one.sent[REPLY] - PEERS for one in told)


def test_idling_takes_an_exchange_a_period_and_little_else() -> None:
    """A heartbeat a peer and period; the rest comes from streams that begin anew."""
    sent = make_gossip(2000, 0.0, 1).idle(10)
    assert sent[BEAT] == pytest.approx(1.07 * 20_000, rel=0.03)
    assert sum(sent[kind] for kind in KINDS) == pytest.approx(1.13 * 20_000, rel=0.03)


@pytest.mark.parametrize("peers", [PEERS_MIN, MESH_MAX + 1, MESH_MAX + 2, 500])
def test_a_graph_has_each_stream_once_and_from_both_sides(peers: int) -> None:
    """Edges have a way back, none leads to its own beginning, and no two are the same."""
    graph = draw_graph(peers, np.random.default_rng(1))
    sources = np.repeat(np.arange(peers), graph.degrees())
    edges = np.arange(len(sources))
    assert (graph.back[graph.back] == edges).all()
    assert (graph.ends[graph.back] == sources).all()
    assert (graph.ends != sources).all()
    assert len(np.unique(sources * peers + graph.ends)) == len(edges)
    if graph.partial:
        assert (graph.chosen == CHOSEN).all()
        assert graph.degrees().mean() == 2 * CHOSEN
    else:
        assert (graph.degrees() == peers - 1).all()


def test_a_graph_of_too_few_is_refused() -> None:
    """Who tells three others besides the one who told it must have so many."""
    with pytest.raises(ValueError, match="fewer than"):
        draw_graph(PEERS_MIN - 1, np.random.default_rng(1))


def test_costs_are_those_of_real_frames(costs: Calibration) -> None:
    """Sizes come from the wire, and what brings news costs what it costs beside."""
    assert 60 < costs.bytes[BEAT] < 120
    assert costs.bytes[RUMOUR] > costs.record_bytes > 200
    assert {BEAT, RUMOUR, RUMOUR + NEWS} <= costs.seconds.keys()
    assert costs.idle.messages == pytest.approx(1, rel=0.05)
    assert costs.idle.seconds > 0


def test_the_command_prints_what_it_found(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both forms say the assumptions, the check and what members cost."""
    monkeypatch.setattr(members, "SIZES", (20, 60))
    monkeypatch.setattr(command, "CALIBRATION_RECORDS", 3)
    words = ["--peers", "200", "--loss", "0", "--records", "1", "--calibrate", "12"]
    words += ["--check", "12", "--check-records", "1", "--about", "Somewhere."]
    assert command.main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["predictions"][0]["peers"] == 200
    assert found["check"][0]["errors"].keys() >= {"all", "messages"}
    assert [row["members"] for row in found["members"]["measured"]] == [20, 60]
    assert len(found["assumptions"]) > 5
    assert command.main(words) == 0
    said = capsys.readouterr().out
    assert "python -m simulations model --peers 200" in said
    assert "Somewhere." in said
    assert all(one in said for one in found["assumptions"])


@pytest.mark.parametrize(
    "words",
    [["--peers", "5"], ["--check", "5"], ["--loss", "0.9"], ["--records", "0"]],
)
def test_the_command_refuses_what_is_out_of_range(words: list[str]) -> None:
    """Before anything is measured."""
    with pytest.raises(SystemExit):
        command.main(words)
