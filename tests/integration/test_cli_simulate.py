"""`crdtmerge simulate`: found by its entry point, and honest about what it finds."""

import json
import subprocess
import sys

import pytest

from nodes import cli
from nodes.cli import added
from simulations.checking.checkers import NotConvergedError
from simulations.faults import FAULTS
from simulations.stories import swarm as story
from simulations.stories.scenarios import SCENARIOS

SWARM = ["simulate", "swarm", "--nodes", "4", "--rounds", "5", "--seed", "3"]


def _json(capsys: pytest.CaptureFixture[str], *words: str) -> object:
    capsys.readouterr()
    code = cli.run([*words, "--json"])
    found = capsys.readouterr()
    assert (code, found.err) == (0, ""), found.err
    return json.loads(found.out)


def test_a_swarm_is_printed_with_all_that_it_came_to(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The figures, the digests, and the faults that are part of the repro."""
    facts = _json(capsys, *SWARM, "--fault", "loss=0.25")
    assert isinstance(facts, dict)
    assert (facts["seed"], facts["nodes"], facts["agreed"]) == (3, 4, True)
    assert facts["faults"]["loss"] == 0.25
    figures = "rounds messages bytes injected crashes"
    assert facts.keys() >= set(figures.split())
    digests = "record_root visible_root merge_id model_digest log_digest"
    assert all(len(bytes.fromhex(facts[name])) == 32 for name in digests.split())


def test_the_command_that_is_printed_repeats_the_run(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Seed and arguments are the whole repro: they give every figure again."""
    facts = _json(capsys, *SWARM, "--fault", "loss=0.123", "--delay", "0.7")
    assert isinstance(facts, dict)
    program, *words = facts["command"].split()
    assert program == "crdtmerge"
    assert _json(capsys, *words) == facts


def test_people_get_a_short_table(capsys: pytest.CaptureFixture[str]) -> None:
    """One fact a line; the digests whole, since they are there to be compared."""
    assert cli.run(SWARM) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) < 20
    assert any(line.startswith("log digest") for line in lines)


def test_stories_are_listed_and_run_by_name(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What the list names can be run."""
    listed = _json(capsys, "simulate", "--list")
    assert isinstance(listed, list)
    assert [item["name"] for item in listed] == ["swarm", *SCENARIOS]
    assert all(item["story"] for item in listed)
    name = "everyone-contributes"
    ran = _json(capsys, "simulate", name, "--nodes", "4", "--seed", "2")
    assert isinstance(ran, dict)
    assert ran["command"] == f"crdtmerge simulate {name} --nodes 4 --seed 2"


def test_many_seeds_are_counted_together(capsys: pytest.CaptureFixture[str]) -> None:
    """Runs, events, each kind of fault, rounds; and a digest of all of it."""
    facts = _json(capsys, *SWARM, "--seeds", "2", "--jobs", "1")
    assert isinstance(facts, dict)
    assert (facts["runs"], facts["failed"], facts["agreed"]) == (2, 0, True)
    assert list(facts["injected"]) == list(FAULTS)
    assert facts["rounds"].keys() == {"p50", "p99", "max"}
    one = _json(capsys, *SWARM)
    other = _json(capsys, *SWARM[:-1], "4")
    assert isinstance(one, dict)
    assert isinstance(other, dict)
    assert facts["events"] == one["events"] + other["events"]
    assert cli.run([*SWARM, "--seeds", "2", "--jobs", "1"]) == 0
    assert "2 from seed 3; 0 failed" in capsys.readouterr().out


def test_a_broken_promise_is_printed_with_its_repro(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The exit status is 1, and the least that fails is there with its command."""

    def never(*_args: object, **_more: object) -> None:
        raise NotConvergedError("seed 3: after 0 rounds, 2 different roots")

    monkeypatch.setattr(story, "settle", never)
    assert cli.run([*SWARM, "--jobs", "1", "--json"]) == 1
    found = capsys.readouterr()
    assert found.err == ""
    facts = json.loads(found.out)
    assert (facts["agreed"], facts["failed"]) == (False, 1)
    (failure,) = facts["failures"]
    assert failure["error"] == "NotConvergedError"
    assert failure["command"].startswith("crdtmerge simulate swarm --nodes 4 --seed 3")
    assert facts["least"]["repeats"]
    assert facts["least"]["strikes"] == []
    assert "--nodes 2 --seed 3 --rounds 1 --fault none" in facts["least"]["command"]
    assert facts["commit"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["swarm", "--nodes", "1"], "2 to 128"),
        (["swarm", "--nodes", "129"], "2 to 128"),
        (["swarm", "--seed", "-1"], "seed is -1"),
        (["swarm", "--fault", "loss=1.5"], "loss is 1.5"),
        (["swarm", "--rounds", "0"], "1 to 1000"),
        (["swarm", "--only", "loss"], "leaves no strike"),
        (["swarm", "--delay", "1"], "say the faults too"),
        (["swarm", "--seeds", "0"], "seeds is 0"),
        (["swarm", "--jobs", "0"], "jobs is 0"),
        (["nope"], "no scenario 'nope'"),
        (["islands-heal", "--nodes", "3"], "4 to 128"),
        (["islands-heal", "--fault", "loss=0.1"], "only the swarm"),
    ],
)
def test_bad_input_is_refused_with_its_range(
    capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    """Exit code 3, and what would do."""
    assert cli.run(["simulate", *words]) == 3
    assert said in capsys.readouterr().err


def test_help_lists_simulate_without_importing_it() -> None:
    """The program answers at once, and never needs the simulator to run."""
    code = (
        "import sys; from nodes import cli; assert cli.run(['--help']) == 0;"
        "assert not [m for m in sys.modules if m.startswith('simulations')]"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert "simulate" in ran.stdout


def test_no_package_is_looked_through_for_our_own_commands(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Finding added commands costs time, which only those who want one spend."""
    looked: list[bool] = []

    def look() -> dict[str, object]:
        looked.append(True)
        return {}

    monkeypatch.setattr(added, "_added", look)
    assert cli.run(["strategies"]) == 0
    assert not looked
    assert cli.run(["--help"]) == 0
    assert looked
