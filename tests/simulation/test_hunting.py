"""A seed that fails is found, and made as small as it can be; it comes again from that."""

import re
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import replace

import pytest

from crdtmerge.errors import BadInputError, UnknownNameError
from docs.make_faults import PAGE, Piece, faults_page, kept, together
from nodes import cli
from simulations.checking.checkers import NotConvergedError
from simulations.cluster import Cluster
from simulations.disks.power_loss import Loss
from simulations.faults import CALM, FAULTS, ROUGH, Only, only_options, told_only
from simulations.hunting.attempts import Failure, Result, attempt
from simulations.hunting.hunt import Hunt, hunt
from simulations.hunting.shrinking import Search
from simulations.hunting.tally import Tally, rank
from simulations.hunting.workers import workers
from simulations.outcome import Outcome
from simulations.runs import ALL, SWARM, Run, stories
from simulations.stories import swarm as story
from simulations.stories.scenarios import SCENARIOS
from simulations.world import KILLED, Machine, World

ROUNDS = 12
SMALL = Run(SWARM, 1, 4, ROUNDS, ROUGH)
PLANTED = Hunt((replace(SMALL, seed=0),), 40, until_failure=True)


@pytest.fixture
def twice_crashed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plant a bug: whoever crashes for the second time loses a record that counts."""
    crash = World.crash

    def forgetful(self: Cluster, machine: Machine, loss: Loss = KILLED) -> None:
        crash(self, machine, loss)
        if machine.life == 2:
            lost = self.replica(self.owner).ban("content", bytes(32))
            self.ledger[lost.record.id] = lost

    monkeypatch.setattr(World, "crash", forgetful)


# --- the least -------------------------------------------------------------------------


@pytest.mark.usefixtures("twice_crashed")
def test_dozens_of_strikes_shrink_to_the_two_that_it_takes() -> None:
    """Rounds, nodes, kinds and strikes go; what is left repeats the same log."""
    found = hunt(PLANTED)
    failure, search = found.tally.failures[0], found.search
    assert search is not None
    assert len(failure.strikes) > 50
    least = search.least
    assert {strike.name for strike in least.strikes} == {"crash"}
    # A third may be needed: who is down is not drawn, so other hits are others'.
    assert 2 <= len(least.strikes) <= 4
    assert len({strike.subject for strike in least.strikes}) < len(least.strikes)
    assert (least.sign, found.repeats) == (failure.sign, True)
    assert (least.run.nodes, least.run.rounds) < (4, ROUNDS)
    assert least.run.faults == ROUGH.of(ROUGH.delay, crash=ROUGH["crash"])
    assert search.done <= search.budget


@pytest.mark.usefixtures("twice_crashed")
def test_the_command_that_is_printed_repeats_the_least(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Given to the program again, its words give the same log and the same strikes."""
    first = [
        "simulate",
        "swarm",
        "--nodes",
        "4",
        "--rounds",
        "12",
        "--seeds",
        "40",
        "--until-failure",
    ]
    options = shlex.split(ROUGH.options())
    assert cli.run([*first, *options, "--jobs", "1"]) == 1
    said = capsys.readouterr().out
    (line,) = [s for s in said.splitlines() if s.startswith("  crdtmerge simulate ")]
    assert "--only crash:" in line
    (digest,) = [
        s.split()[s.split().index("log") + 1][:-1]
        for s in said.splitlines()
        if ", log " in s
    ]
    words = line.split()[1:]
    assert cli.run([*words, "--jobs", "1", "--shrink", "0"]) == 1
    again = capsys.readouterr().out
    assert "FAILED" in again
    run = Run(
        SWARM,
        int(words[words.index("--seed") + 1]),
        int(words[words.index("--nodes") + 1]),
        int(words[words.index("--rounds") + 1]),
        ROUGH.of(ROUGH.delay, crash=ROUGH["crash"]),
        told_only([words[words.index("--only") + 1]]),
    )
    assert attempt(run).log_digest == digest


def test_a_failure_that_needs_no_fault_has_none_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What no strike brings about is shown without any."""

    def never(*_args: object, **_more: object) -> None:
        raise NotConvergedError("seed 1: after 0 rounds, 2 different roots")

    monkeypatch.setattr(story, "settle", never)
    failure = attempt(SMALL)
    assert isinstance(failure, Failure)
    with workers(1) as attempts:
        search = Search(attempts, failure)
        search.go()
    assert (search.least.strikes, search.least.run.faults) == ((), CALM.but(0.2))
    assert (search.least.run.nodes, search.least.run.rounds) == (2, 1)


def test_another_failure_is_not_taken_for_it() -> None:
    """A lesser run that fails otherwise shows another bug, and the budget is kept."""
    asked: list[Run] = []

    def other(runs: Iterable[Run]) -> Iterator[Result]:
        for run in runs:
            asked.append(run)
            yield Failure(run, "OSError", "another", "another", "")

    failure = Failure(SMALL, "OSError", "this", "this", "")
    search = Search(other, failure, budget=5)
    search.go()
    assert search.least == failure
    assert (search.done, len(asked), search.whole) == (5, 5, False)
    assert len({run.command for run in asked}) == 5


# --- many seeds ------------------------------------------------------------------------


def test_many_processes_find_what_one_finds() -> None:
    """In the order of the seeds, and to the bit."""
    runs = (replace(SMALL, rounds=4),)
    one, two = (hunt(Hunt(runs, 3, jobs=jobs)) for jobs in (1, 2))
    assert one.tally.facts() == two.tally.facts()
    assert one.tally.runs == 3
    assert one.tally.digest != Tally().digest


@pytest.mark.usefixtures("twice_crashed")
def test_until_failure_ends_with_the_first() -> None:
    """Those before it held; without it all seeds are run, and counted."""
    plan = replace(PLANTED, shrinking=0)
    found = hunt(plan)
    assert (found.tally.failed, found.search) == (1, None)
    (failure,) = found.tally.failures
    assert failure.run.seed == found.tally.runs - 1
    both = hunt(replace(plan, seeds=found.tally.runs + 1, until_failure=False))
    assert both.tally.runs == found.tally.runs + 1
    assert both.tally.failures[0] == failure


def test_ctrl_c_keeps_what_was_done(capsys: pytest.CaptureFixture[str]) -> None:
    """The runs so far are counted, and the rest is not run."""
    seen: list[int] = []

    def told(_work: str, done: int, _total: int) -> None:
        seen.append(done)
        if done == 2:
            raise KeyboardInterrupt

    found = hunt(Hunt((replace(SMALL, rounds=2),), None, until_failure=True), told)
    assert (found.interrupted, found.tally.runs, seen) == (True, 2, [1, 2])


def test_all_is_every_story_of_each_seed() -> None:
    """Seed by seed, the swarm last."""
    names = stories(ALL)
    assert names == (*SCENARIOS, SWARM)
    plan = Hunt(tuple(Run(name, 5) for name in names), 2)
    asked = [(run.seed, run.story) for run in plan.runs()]
    assert asked == [(seed, name) for seed in (5, 6) for name in names]


def test_ranks_are_of_what_was_seen() -> None:
    """The least value that the share does not exceed: no value in between."""
    values = [float(n) for n in range(1, 101)]
    assert [rank(values, share) for share in (0.5, 0.99, 1.0)] == [50, 99, 100]
    assert rank([7.0], 0.5) == 7.0
    assert rank([], 0.5) == 0.0


# --- one run ---------------------------------------------------------------------------


def test_a_run_is_what_its_command_says() -> None:
    """With the faults that the seed draws written out, it is the same run."""
    drawn = Run(SWARM, 3, 4, 4)
    once, pinned = attempt(drawn), attempt(drawn.pinned())
    assert isinstance(once, Outcome)
    assert once == pinned
    assert drawn.pinned().command == once.command


def test_strikes_can_be_left_out_of_a_story_too() -> None:
    """Its command says so."""
    outcome = Run("islands-heal", 1, 4, only={}).perform()
    assert outcome.command == "islands-heal --nodes 4 --seed 1 --only none"


@pytest.mark.parametrize(
    "only",
    [{}, {"loss": frozenset({1, 5}), "crash": frozenset({2})}],
)
def test_only_is_read_as_it_is_written(only: Only) -> None:
    """On a command line and back."""
    words = only_options(only).replace("--only ", "").split()
    assert told_only(words) == only


@pytest.mark.parametrize(
    "option", ["loss", "loss:", "loss:0", "loss:1,,2", "loss:x", "x:1"]
)
def test_what_leaves_no_strike_is_refused(option: str) -> None:
    """With an example, or the kinds that there are."""
    with pytest.raises(BadInputError, match=option.partition(":")[0]):
        told_only([option])


def test_a_story_that_there_is_not_is_refused() -> None:
    """And so are faults for a story that has its own."""
    with pytest.raises(UnknownNameError, match="no scenario 'nope'"):
        Run("nope").check()
    with pytest.raises(BadInputError, match="islands-heal"):
        Run("islands-heal", faults=ROUGH).check()


def test_the_page_of_faults_is_that_of_the_counted_run() -> None:
    """All forty, with what each came to; `make docs` writes it again."""
    page = faults_page()
    assert page == PAGE.read_text()
    rows = [line for line in page.splitlines() if re.match(r"\| [0-9]+ \| `", line)]
    assert len(rows) == len(FAULTS) == 40


def _piece(seed: int, commit: str = "c", failed: tuple[int, ...] = ()) -> Piece:
    printed = {
        "command": f"crdtmerge simulate swarm --nodes 8 --seed {seed} --seeds 10",
        "story": ["swarm"],
        "seed": seed,
        "runs": 10,
        "failed": len(failed),
        "events": 100 + seed,
        "wall_seconds": 2.0,
        "rounds": {"max": 5.0 + seed},
        "failures": [{"seed": n, "trace": "long"} for n in failed],
        "least": {},
        **dict.fromkeys(("python", "machine", "processors", "jobs"), "one"),
        "commit": commit,
    }
    return kept(printed)


def test_pieces_of_one_count_are_told_as_one() -> None:
    """What follows another is added to it, with its failures; nothing else is."""
    pieces = [_piece(0, failed=(3,)), _piece(10), _piece(20, failed=(21, 22))]
    (whole,) = together(pieces)
    assert (whole["seed"], whole["runs"], whole["failed"]) == (0, 30, 3)
    assert (whole["events"], whole["wall_seconds"]) == (330, 6.0)
    assert (whole["failed_seeds"], whole["rounds"]["max"]) == ([3, 21, 22], 25.0)
    assert len(together([_piece(0), _piece(20)])) == 2, "ten seeds lack"
    assert len(together([_piece(0), _piece(10, commit="d")])) == 2, "other code"
