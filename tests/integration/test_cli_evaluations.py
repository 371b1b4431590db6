"""Evaluations from the command line: two running nodes, one merge by what members say."""

import io
import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.integration.test_cli_local import Terminal, terminal
from tests.integration.test_cli_node import DEADLINE_S, Person, folder, people

__all__ = ["folder", "people", "terminal"]

ON = ("--metric", "accuracy", "--data", "digits-v1")
READING = ("--param", "source=evaluations", "--param", "metric=accuracy")
SPACE = ("--space", "live")


def merge_id(person: Person) -> str:
    (space,) = person.json("status", *SPACE)["spaces"]
    found: str = space["merge_id"]
    return found


def test_two_nodes_merge_by_what_was_evaluated_on_one(
    people: tuple[Person, Person], folder: Path
) -> None:
    """What one says, its node signs and gossips; both make equal bytes of it."""
    first, second = people
    second.start()
    first.json("space", "create", "live", "--base", folder / "base")
    ticket = first.json("space", "ticket", *SPACE)["ticket"]
    second.json("space", "join", ticket, "--base", folder / "base")
    ids = [
        person.json("contribute", folder / f"tune{n}", *SPACE)["content"]
        for n, person in enumerate(people, start=1)
    ]
    for person in people:
        person.wait(2, "live")
    first.json("recipe", "set", "mwa", *READING, "--param", "by=score", *SPACE)
    said = [
        first.json("evaluation", "add", ids[0][:10], *ON, "--result", "0.25"),
        first.json("evaluation", "add", ids[1], *ON, "--result", "0.75"),
    ]
    assert all(one["another_merge"] for one in said)
    made = both(people, folder, "a", said[-1]["merge_id"])
    records = sorted(one["evaluations"][0]["record"] for one in said)
    assert made["evaluations"] == records
    listed = second.json("evaluation", "list", *SPACE)["evaluations"]
    assert sorted(one["record"] for one in listed if one["read"]) == records
    # A later word of another member is another merge, on both.
    later = second.json("evaluation", "add", ids[0], *ON, "--result", "0.75")
    again = both(people, folder, "b", later["merge_id"])
    assert len(again["evaluations"]) == 3
    assert again["model_digest"] != made["model_digest"]
    # The same by losses, with a strategy that reads those.
    words = ("--param", "source=evaluations", "--param", "metric=loss")
    asked = first.json("recipe", "set", "lm_cocktail", *words, *SPACE)
    arrived(second, asked["merge_id"])
    loss = ("--metric", "loss", "--data", "digits-v1", "--result")
    for content, value in zip(ids, ("0.5", "1.5"), strict=True):
        last = second.json("evaluation", "add", content, *loss, value)
    assert len(both(people, folder, "c", last["merge_id"])["evaluations"]) == 2


def arrived(person: Person, expected: str) -> None:
    """Wait until a node would make the merge of this id."""
    for _ in range(int(DEADLINE_S / 0.2)):
        if merge_id(person) == expected:
            return
        time.sleep(0.2)
    raise AssertionError("what was evaluated did not arrive")


def both(people: tuple[Person, Person], folder: Path, name: str, expected: str) -> Any:
    """Resolve on both once they agree; return what resolution.json says, the same."""
    found = []
    for n, person in enumerate(people):
        arrived(person, expected)
        out = folder / f"{name}{n}"
        person.json("resolve", "--out", out, *SPACE)
        assert person.json("verify", out)["recomputed"] is True
        found.append(
            [
                (out / file).read_bytes()
                for file in ("model.safetensors", "resolution.json")
            ]
        )
    assert found[0] == found[1]
    return json.loads(found[0][1])


def test_several_come_from_a_file_or_stdin(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Numbers stay as they are written; one that is wrong, and nothing is said."""
    content = terminal.json("contribute", terminal.model("tune", 1))["content"]
    one = {"subject": content, "metric": "accuracy", "data": "digits-v1"}
    file = terminal.folder / "said.json"
    file.write_text(json.dumps([{**one, "result": 0.1}, {**one, "result": "x"}]))
    assert terminal.refused("evaluation", "add", "--from", file)["exit_code"] == 3
    items = [{**one, "data": data, "result": 0.123456789} for data in ("a", "b")]
    file.write_text(json.dumps(items))
    said = terminal.json("evaluation", "add", "--from", file)
    assert [e["result"] for e in said["evaluations"]] == ["0.123456789"] * 2
    text = json.dumps([{**one, "result": -3, "note": "from a pipe"}])
    stdin = io.TextIOWrapper(io.BytesIO(text.encode()))
    monkeypatch.setattr(sys, "stdin", stdin)
    said = terminal.json("evaluation", "add", "--from", "-")
    assert said["evaluations"][0]["result"] == "-3"
    for bad in ("{", "{}", "[NaN]", "[" * 100_000, "[1]", '[{"subject": 1}]'):
        file.write_text(bad)
        error = terminal.refused("evaluation", "add", "--from", file)
        assert (error["type"], error["exit_code"]) == ("BadInputError", 3), bad
    absent = terminal.refused("evaluation", "add", "--from", file.with_suffix(".no"))
    assert "No such file" in absent["message"]


def test_people_read_who_said_what(terminal: Terminal) -> None:
    """One line each, whether the recipe reads it, and the medians."""
    content = terminal.json("contribute", terminal.model("tune", 1))["content"]
    assert "no such evaluation" in terminal.run("evaluation", "list")[1]
    words = ("evaluation", "add", content[:8], *ON, "--result")
    _, out, _ = terminal.run(*words, ".50", "--note", "by\nhand")
    said = f"content {content[:12]}: accuracy 0.5 on digits-v1 (by hand)\n"
    assert out == f"evaluated {said}"
    _, out, err = terminal.run(*words, "0.5", "--note", "by\nhand")
    assert (out, err) == (f"unchanged: {said}", "note: you said the same before\n")
    terminal.json("recipe", "set", "mwa", *READING, "--param", "by=score")
    assert "the recipe reads it: merge id" in terminal.run(*words, "-0.25")[1]
    _, out, _ = terminal.run("evaluation", "list", "--metric", "accuracy")
    lines = out.splitlines()
    assert any("-0.25" in line and "read by the recipe" in line for line in lines)
    assert any("0.5 " in line and "said again since" in line for line in lines)
    assert lines[-1].split() == [
        *(content[:12], "accuracy", "digits-v1", "-0.25", "1", "author")
    ]


def test_what_is_asked_for_by_halves_is_refused(terminal: Terminal) -> None:
    """Each option that is missing, and a file beside words."""
    for words in (
        (),
        ("abcd", "--metric", "m", "--data", "d"),
        ("abcd", "--metric", "m", "--result", "1"),
        ("abcd", "--data", "d", "--result", "1"),
        ("abcd", "--from", "x.json"),
        ("--note", "", "--from", "x.json"),
    ):
        assert terminal.refused("evaluation", "add", *words)["type"] == "UsageError"


def test_what_evaluations_made_is_verified_and_audited(terminal: Terminal) -> None:
    """By the records that resolution.json names, though one was replaced since."""
    models = [terminal.model(f"tune{n}", n) for n in (1, 2)]
    ids = [terminal.json("contribute", model)["content"] for model in models]
    terminal.json("recipe", "set", "mwa", *READING, "--param", "by=score")
    out = terminal.folder / "out"
    lacking = terminal.refused("resolve", "--out", out)
    assert "no evaluation tells" in lacking["message"]
    assert "evaluation add" in lacking["hint"]
    for content, value in zip(ids, ("0.25", "0.75"), strict=True):
        terminal.json("evaluation", "add", content, *ON, "--result", value)
    terminal.json("resolve", "--out", out)
    terminal.json("evaluation", "add", ids[0], *ON, "--result", "0.75")
    found = terminal.json("verify", out)
    assert (found["recomputed"], found["current"]) == (True, False)
    assert terminal.json("audit", out, "--share", "100%")["ok"] is True
    file = out / "resolution.json"
    said = json.loads(file.read_text())
    file.write_text(json.dumps({**said, "evaluations": said["evaluations"][:1]}))
    for verb in ("verify", "audit"):
        error = terminal.refused(verb, out)
        assert (error["type"], error["exit_code"]) == ("VerificationError", 8)
        assert "merge id" in error["message"]
