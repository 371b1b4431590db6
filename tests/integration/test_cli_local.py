"""The command line on one machine, without a node: a session, refusals, output forms."""

import contextlib
import json
import os
import pty
import re
import resource
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from safetensors.torch import load_file as load_torch
from safetensors.torch import save_file as save_torch

from crdtmerge.strategies import STRATEGIES
from nodes import cli
from nodes.cli import executor
from nodes.home import open_home
from tests.homes import records_of, snapshot, write_model


@dataclass
class Terminal:
    """Runs commands in this process, on one home."""

    folder: Path
    capsys: pytest.CaptureFixture[str]

    @property
    def home(self) -> Path:
        """The home that commands use."""
        return self.folder / "home"

    def run(self, *words: object) -> tuple[int, str, str]:
        """Run one command; return its exit code, stdout and stderr."""
        self.capsys.readouterr()
        code = cli.run(["--home", str(self.home), *map(str, words)])
        found = self.capsys.readouterr()
        return code, found.out, found.err

    def json(self, *words: object) -> Any:
        """Run one command that must succeed, and return the JSON that it printed."""
        code, out, err = self.run(*words, "--json")
        assert (code, err) == (0, ""), err
        return json.loads(out)

    def model(self, name: str, seed: int, **changed: object) -> Path:
        """Write a fine-tune of the base."""
        near = self.folder / "base"
        return write_model(self.folder / name, seed, near=near, **changed)

    def refused(self, *words: object) -> dict[str, Any]:
        """Check that a command fails and leaves the home as it was; return why."""
        before = snapshot(self.home)
        code, out, err = self.run(*words, "--json")
        assert snapshot(self.home) == before
        assert out == ""
        error: dict[str, Any] = json.loads(err)["error"]
        assert set(error) == {"type", "message", "hint", "exit_code"}
        assert error["exit_code"] == code != 0
        return error


@pytest.fixture
def terminal(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Terminal:
    monkeypatch.delenv("CRDTMERGE_HOME", raising=False)
    monkeypatch.chdir(tmp_path)
    made = Terminal(tmp_path, capsys)
    write_model(tmp_path / "base", 0)
    assert made.run("init")[0] == 0
    words = ("space", "create", "digits", "--base", "base", "--strategy", "linear")
    assert made.run(*words)[0] == 0
    return made


def command(
    home: Path, *words: object, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run one command in a process of its own."""
    argv = [sys.executable, "-m", "nodes.cli", *map(str, words)]
    env = {**os.environ, "CRDTMERGE_HOME": str(home)}
    root = Path(__file__).parents[2]
    return subprocess.run(
        argv,
        env=env,
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        **options,
    )


def went_well(
    words: tuple[object, ...], done: subprocess.CompletedProcess[str]
) -> None:
    """Check that a command succeeded; its one note tells a founder to keep a spare key."""
    said = ["only owner"] if words[:2] == ("space", "create") else []
    notes = done.stderr.splitlines()
    assert (done.returncode, len(notes)) == (0, len(said)), (words, done.stderr)
    assert all(text in note for text, note in zip(said, notes, strict=True)), notes


# --- a session -------------------------------------------------------------------------


def test_a_first_session_ends_with_a_verified_model(tmp_path: Path) -> None:
    """Every step in a process of its own, as a user types them."""
    home, out = tmp_path / "home", tmp_path / "out"
    base = write_model(tmp_path / "base", 0)
    tunes = [write_model(tmp_path / f"t{i}", i, near=base) for i in (1, 2)]
    steps: list[tuple[object, ...]] = [
        ("init", "--no-passphrase"),
        ("space", "create", "digits", "--base", base, "--strategy", "ties"),
        ("contribute", tunes[0], "--space", "digits", "--note", "mine"),
        ("contribute", tunes[1], "--weight", "0.5"),
        ("resolve", "--space", "digits", "--out", out),
        ("verify", out),
        ("status",),
    ]
    printed = []
    for words in steps:
        done = command(home, *words)
        went_well(words, done)
        printed.append(done.stdout)
    resolution = json.loads((out / "resolution.json").read_text())
    digest = resolution["model_digest"]
    assert all(digest in text for text in printed[4:6])
    assert "recomputed" in printed[5]
    assert "ties/1" in printed[6]
    assert "mine" in printed[6]


def test_two_homes_with_one_author_each_have_ids_of_their_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`init` draws fresh keys; `whoami` prints them again."""
    first = Terminal(tmp_path / "a", capsys)
    second = Terminal(tmp_path / "b", capsys)
    made = [terminal.json("init", "--no-passphrase") for terminal in (first, second)]
    ids = {facts[key] for facts in made for key in ("author", "node")}
    assert len(ids) == 4
    assert {**first.json("whoami"), "notes": []} == made[0]


# --- the form of the output ------------------------------------------------------------


def test_json_of_each_command_has_its_fields(terminal: Terminal) -> None:
    """Scripts rely on these names."""
    tune = terminal.model("tune", 1)
    made = terminal.json("contribute", tune, "--note", "hello")
    assert {"content", "record", "new", "weight", "notes", "space"} <= set(made)
    assert len(made["content"]) == 64
    status = terminal.json("status")
    assert set(status) == {
        "home",
        "author",
        "node",
        "encrypted",
        "agent",
        "running",
        "addresses",
        "join_addresses",
        "peers",
        "changed_files",
        "upkeep",
        "spaces",
    }
    (space,) = status["spaces"]
    assert set(space) == {
        "id",
        "name",
        "mode",
        "base",
        "rank",
        "rightless",
        "left",
        "record_root",
        "records",
        "visible_root",
        "merge_id",
        "recipe",
        "recipe_conflict",
        "contributions",
        "banned",
        "compacted",
        "unknown_critical",
        "missing_blobs",
        "missing_bytes",
        "doubt",
        "forked",
        "faulty",
        "attested",
        "forks",
        "pending",
        "quarantined",
        "waiting",
    }
    (found,) = space["contributions"]
    assert found == {
        "content": made["content"],
        "weight": "1",
        "authors": [status["author"]],
        "notes": ["hello"],
        "tags": [],
        "complete": True,
        "beyond_quota": False,
        "evidence": [],
        "adds": [made["record"]],
    }
    resolved = terminal.json("resolve", "--out", "out")
    assert {
        "out",
        "model_digest",
        "merge_id",
        "visible_root",
        "contributions",
        "tensors",
        "bytes",
    } <= set(resolved)
    assert resolved["merge_id"] == space["merge_id"]
    verified = terminal.json("verify", "out")
    assert verified["recomputed"] is True
    assert verified["model_digest"] == resolved["model_digest"]
    (listed,) = terminal.json("space", "list")["spaces"]
    assert (listed["name"], listed["contributions"]) == ("digits", 1)
    removed = terminal.json("remove", made["content"][:12])
    assert removed["adds"] == [made["record"]]


def test_strategies_are_described_for_machines(terminal: Terminal) -> None:
    """A list of objects with name, aliases, class and parameters with both defaults."""
    found = terminal.json("strategies")
    names = {item["name"] for item in found}
    assert {"linear", "ties", "dare_ties", "metagpt"} <= names
    for item in found:
        assert {"name", "aliases", "class", "parameters"} <= set(item)
        for parameter in item["parameters"]:
            assert {"name", "default", "mergekit_default"} <= set(parameter)
    (ties,) = terminal.json("strategies", "ties")
    assert ties["name"] == "ties"
    assert terminal.run("strategies", "ties")[1].startswith("ties/1 (portable)")


def test_strategies_are_listed_in_groups_with_a_line_for_each(
    terminal: Terminal,
) -> None:
    """By what they merge; aliases stand beside the summary."""
    code, out, err = terminal.run("strategies")
    assert (code, err) == (0, "")
    blocks = [block.splitlines() for block in out.split("\n\n")[1:]]
    under = {title: [line.split()[0] for line in lines] for title, *lines in blocks}
    assert "linear/1" in under["of whole models, no base is needed:"]
    assert "ties/1" in under["of changes to a base:"]
    listed = [name for names in under.values() for name in names]
    assert sorted(listed) == sorted(STRATEGIES)
    assert "Weighted average of the contributions (also weight_average, soup)\n" in out


def test_a_strategy_shows_all_that_it_declares(terminal: Terminal) -> None:
    """What it needs, draws and takes, and of parameters type, defaults and range."""
    lines = terminal.run("strategies", "dare")[1].splitlines()
    facts = dict(line.split(None, 1) for line in lines[4:12])
    assert facts == {
        "version": "1, of crdtmerge",
        "base": "needed",
        "evidence": "none",
        "models": "any number",
        "order": "changes nothing",
        "draws": "from the seed",
        "scope": "each tensor alone",
        "memory": "8 B an item",
    }
    head, p = (re.split(r"  +", line) for line in lines[13:15])
    assert head[:6] == ["PARAMETER", "TYPE", "DEFAULT", "MERGEKIT", "RANGE", "PER"]
    assert p[:6] == ["p", "number", "0.9", "0", "0 to 0.999999999", "tensor, model"]
    shown = terminal.run("strategies", "nuslerp")[1]
    assert "base      not needed; with one it is another formula" in shown
    assert "order     part of the method" in shown
    assert "20 B an item + 16 B an item and contribution" in shown
    assert "whole model" in terminal.run("strategies", "metagpt")[1]


def test_a_digest_is_of_one_strategy(terminal: Terminal) -> None:
    """The same for a name, an alias and JSON; without a name it is a wrong use."""
    _, digest, _ = terminal.run("strategies", "linear", "--digest")
    assert len(bytes.fromhex(digest)) == 32
    assert terminal.json("strategies", "soup", "--digest") == {
        "full_name": "linear/1",
        "digest": digest.strip(),
    }
    assert terminal.run("strategies", "--digest")[0] == 2


def test_options_of_the_program_stand_before_or_after_the_command(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--home` and `--json` at either place; the option wins over the variable."""
    author = terminal.json("whoami")["author"]
    other = terminal.folder / "other"
    monkeypatch.setenv("CRDTMERGE_HOME", str(other))
    assert cli.run(["whoami", "--home", str(terminal.home), "--json"]) == 0
    assert json.loads(terminal.capsys.readouterr().out)["author"] == author
    assert cli.run(["--json", "init"]) == 0
    assert json.loads(terminal.capsys.readouterr().out)["home"] == str(other)
    assert cli.run(["--home", "nowhere", "whoami", "--home", str(other)]) == 0


def test_people_are_told_what_is_wrong_and_what_to_do(terminal: Terminal) -> None:
    """Two lines on stderr, nothing on stdout."""
    code, out, err = terminal.run("resolve", "--out", "out", "--strategy", "tis")
    assert (code, out) == (3, "")
    error, hint = err.splitlines()
    assert error.startswith("error: ")
    assert hint.startswith("hint: did you mean 'ties'?")


def test_a_note_cannot_command_the_terminal(terminal: Terminal) -> None:
    """Notes come from others: escapes are replaced; JSON escapes them anyway."""
    note = "\x1b[2Jgone\r\nfake line"
    terminal.json("contribute", terminal.model("tune", 1), "--note", note)
    _, out, _ = terminal.run("status")
    assert "\x1b" not in out
    assert "[2Jgone fake line" in out
    (space,) = terminal.json("status")["spaces"]
    assert space["contributions"][0]["notes"] == [note]


def test_remarks_go_to_stderr(terminal: Terminal) -> None:
    """What one should know stands beside the answer, not in it."""
    tune = terminal.model("tune", 1)
    terminal.run("contribute", tune)
    code, out, err = terminal.run("contribute", tune)
    assert code == 0
    assert "unchanged" in out
    assert err.startswith("note: ")


def test_help_needs_none_of_the_heavy_libraries() -> None:
    """`--help` answers at once: numpy, grpc and cryptography are imported late."""
    argv = [sys.executable, "-X", "importtime", "-m", "nodes.cli", "--help"]
    root = Path(__file__).parents[2]
    done = subprocess.run(
        argv, cwd=root, capture_output=True, text=True, check=True, timeout=60
    )
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert not loaded & {"numpy", "grpc", "cryptography", "blake3", "msgpack", "rich"}
    assert "contribute" in done.stdout


def test_the_version_is_printed(terminal: Terminal) -> None:
    """One line."""
    code, out, _ = terminal.run("--version")
    assert code == 0
    assert out.startswith("crdtmerge ")


# --- refusals --------------------------------------------------------------------------


def test_a_second_init_is_refused(terminal: Terminal) -> None:
    """Keys are never overwritten."""
    assert terminal.refused("init")["exit_code"] == 5


def test_without_a_home_one_is_told_to_make_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 4 and the command to run."""
    terminal = Terminal(tmp_path, capsys)
    for words in (("status",), ("contribute", "x"), ("node", "run")):
        code, _, err = terminal.run(*words)
        assert (code, "crdtmerge init" in err) == (4, True)


@pytest.mark.parametrize(
    "words",
    [
        ("dance",),
        ("resolve",),
        ("space", "create", "x"),
        ("resolve", "--out", "out", "--threads", "0"),
        ("resolve", "--out", "out", "--param", "density"),
        ("resolve", "--out", "out", "--param", "a=1", "--param", "a=2"),
        ("node", "run", "--listen", "nowhere"),
    ],
)
def test_wrong_usage_ends_with_two(terminal: Terminal, words: tuple[str, ...]) -> None:
    """Also as JSON; nothing is changed."""
    assert terminal.refused(*words)["exit_code"] == 2


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (3, ("space", "create", "x", "--base", "base", "--strategy", "tis")),
        (3, ("space", "create", "x", "--base", "base", "--param", "densty=1")),
        (3, ("space", "create", "x", "--base", "base", "--mode", "closed")),
        (3, ("space", "create", "x", "--base", "nowhere")),
        (5, ("space", "create", "digits", "--base", "base")),
        (3, ("space", "join", "crdtmerge1aaaa", "--base", "base")),
        (4, ("space", "ticket")),
        (4, ("contribute", "base", "--space", "other")),
        (3, ("contribute", "nowhere")),
        (3, ("contribute", "base", "--weight", "heavy")),
        (4, ("remove", "abcdef")),
        (3, ("remove", "xyz")),
        (4, ("ban", "0" * 64)),
        (4, ("resolve", "--out", "out")),
        (3, ("resolve", "--out", "out", "--strategy", "ties", "--param", "density=2")),
        (4, ("resolve", "--out", "out", "--without", "abcdef")),
        (4, ("verify", "base")),
        (3, ("strategies", "tis")),
    ],
)
def test_bad_input_has_its_exit_code(
    terminal: Terminal, code: int, words: tuple[str, ...]
) -> None:
    """One clear message, one code, and the home as it was."""
    error = terminal.refused(*words)
    assert (error["exit_code"], "\n" in error["message"]) == (code, False)
    assert not (terminal.folder / "out").exists()


def _cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-5])


def _cut_header(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:20])


def _lie_about_a_shape(file: Path) -> None:
    data = file.read_bytes()
    assert b"[17,5]" in data
    file.write_bytes(data.replace(b"[17,5]", b"[18,5]"))


def _lie_about_the_header(file: Path) -> None:
    data = file.read_bytes()
    file.write_bytes((2**40).to_bytes(8, "little") + data[8:])


def _add_bytes(file: Path) -> None:
    file.write_bytes(file.read_bytes() + b"more")


@pytest.mark.parametrize(
    "spoil", [_cut, _cut_header, _lie_about_a_shape, _lie_about_the_header, _add_bytes]
)
def test_a_lying_file_is_refused(
    terminal: Terminal, spoil: Callable[[Path], None]
) -> None:
    """As a contribution and as a base; the message names the file."""
    tune = terminal.model("tune", 1)
    spoil(tune / "model.safetensors")
    for words in (("contribute", tune), ("space", "create", "x", "--base", tune)):
        error = terminal.refused(*words)
        assert error["exit_code"] == 3
        assert "model.safetensors" in error["message"]


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30])
def test_values_that_no_merge_can_use_are_refused(
    terminal: Terminal, value: float
) -> None:
    """NaN, infinity and what leaves the headroom; the tensor is named."""
    bias = np.full(5, value, np.float32)
    error = terminal.refused("contribute", terminal.model("tune", 1, layer_bias=bias))
    assert error["exit_code"] == 3
    assert "layer.bias" in error["message"]


def test_models_of_8_bit_floats_are_merged(tmp_path: Path) -> None:
    """From base to a verified model that torch reads: each item the nearest to the mean."""
    home, out, dtype = tmp_path / "home", tmp_path / "out", torch.float8_e4m3fn
    drawn = torch.randn(3, 400, generator=torch.Generator().manual_seed(3)).to(dtype)
    for name, row in zip(("base", "one", "two"), drawn, strict=True):
        (tmp_path / name).mkdir()
        save_torch({"w": row.contiguous()}, tmp_path / name / "model.safetensors")
    for words in (
        ("init", "--no-passphrase"),
        ("space", "create", "s", "--base", tmp_path / "base", "--strategy", "linear"),
        ("contribute", tmp_path / "one"),
        ("contribute", tmp_path / "two"),
        ("resolve", "--out", out),
        ("verify", out),
    ):
        went_well(words, command(home, *words))
    merged = load_torch(out / "model.safetensors")["w"]
    mean = (drawn[1].double() + drawn[2].double()) / 2
    assert merged.dtype == dtype
    grid = torch.arange(127, dtype=torch.uint8).view(dtype).double()
    distance = (mean.abs()[:, None] - grid).abs().min(dim=1).values
    assert torch.equal((merged.double() - mean).abs(), distance)


def test_quantised_models_with_scales_are_refused(terminal: Terminal) -> None:
    """As base and as contribution: exit code 3, and nothing is stored."""
    weight = torch.ones(4).to(torch.float8_e4m3fn)
    tensors = {"w.weight": weight, "w.weight_scale_inv": torch.ones(1)}
    path = terminal.folder / "quantised"
    path.mkdir()
    save_torch(tensors, path / "model.safetensors")
    for words in (("contribute", path), ("space", "create", "q", "--base", path)):
        error = terminal.refused(*words)
        assert error["exit_code"] == 3
        assert "weight_scale_inv" in error["message"]
        assert "dequantise" in error["hint"]


def test_a_shape_that_does_not_match_the_base_is_refused(terminal: Terminal) -> None:
    """Both shapes stand in the message."""
    bias = np.zeros(6, np.float32)
    error = terminal.refused("contribute", terminal.model("tune", 1, layer_bias=bias))
    assert error["exit_code"] == 3
    assert "[6]" in error["message"]
    assert "[5]" in error["message"]


def test_a_file_that_cannot_grow_leaves_the_home_as_it_was(terminal: Terminal) -> None:
    """A real refusal of the system, as a full disk gives it: exit code 6."""
    big = terminal.folder / "big"
    big.mkdir()
    base = {"a": np.zeros(1 << 20, np.float32), "b": np.ones(1 << 21, np.float32)}
    save_file(base, big / "model.safetensors")
    terminal.json("space", "create", "big", "--base", big)
    tune = terminal.folder / "tune"
    tune.mkdir()
    save_file({k: v + 0.5 for k, v in base.items()}, tune / "model.safetensors")
    before = snapshot(terminal.home)

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (6 << 20, 6 << 20))

    done = command(
        terminal.home, "contribute", tune, "--space", "big", preexec_fn=limit
    )
    assert done.returncode == 6, done.stderr
    assert done.stderr.startswith("error: ")
    assert snapshot(terminal.home) == before


def test_a_home_that_is_busy_is_said_to_be(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading goes on; writing waits, then says who holds the home: exit code 5."""
    monkeypatch.setattr(executor, "ATTEMPTS", 2)
    tune = terminal.model("tune", 1)
    with open_home(terminal.home, write=True):
        error = terminal.refused("contribute", tune)
        assert error["exit_code"] == 5
        assert str(os.getpid()) in error["message"]
        assert terminal.json("status")["spaces"]


def test_a_socket_left_by_a_killed_node_is_no_hindrance(terminal: Terminal) -> None:
    """Nobody listens there, so the command works by itself."""
    path = terminal.home / "control.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as left:
        left.bind(str(path))
    assert path.exists()
    assert terminal.json("contribute", terminal.model("tune", 1))["new"]
    assert terminal.json("status")["running"] is False


# --- what is nobody's fault, or ours ---------------------------------------------------


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (KeyboardInterrupt(), 130, ""),
        (OSError(28, "No space left on device", "x"), 6, "disk is full"),
        (ZeroDivisionError("oops"), 1, "this is a bug"),
    ],
)
def test_every_way_to_fail_has_its_exit_code(
    terminal: Terminal,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    code: int,
    said: str,
) -> None:
    """Ctrl-C, the machine, and a bug of ours with its traceback."""

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("nodes.operations.verbs.VERBS", {"whoami": fail})
    found, out, err = terminal.run("whoami")
    assert (found, out) == (code, "")
    assert said in err
    assert ("Traceback" in err) == (code == 1)


def test_an_interrupted_command_says_what_becomes_of_the_work(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was noted while Ctrl-C passed is printed, as JSON too."""

    def stop(*_: object) -> None:
        error = KeyboardInterrupt()
        error.add_note("run it again to go on")
        raise error

    monkeypatch.setattr("nodes.operations.verbs.VERBS", {"whoami": stop})
    assert terminal.run("whoami") == (130, "", "hint: run it again to go on\n")
    code, out, err = terminal.run("whoami", "--json")
    said = json.loads(err)["error"]
    assert (code, out, said["type"]) == (130, "", "Interrupted")
    assert said["hint"] == "run it again to go on"


def test_refused_commands_sign_nothing(terminal: Terminal) -> None:
    """After all these refusals a good command is the next record of its author."""
    before = records_of(terminal.home)
    terminal.refused("contribute", "nowhere")
    terminal.refused("ban", "f" * 64)
    terminal.json("contribute", terminal.model("tune", 1))
    after = records_of(terminal.home)
    ((count, _),), ((more, _),) = before.values(), after.values()
    assert more == count + 1


def test_progress_is_drawn_on_a_terminal_alone(terminal: Terminal) -> None:
    """A pipe gets none of it; on a terminal the bars say what is being done."""
    tune = terminal.model("tune", 1)
    theirs, ours = pty.openpty()
    argv = [sys.executable, "-m", "nodes.cli", "--home", str(terminal.home)]
    done = subprocess.run(
        [*argv, "contribute", str(tune), "--json"],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=ours,
        check=True,
        timeout=60,
    )
    os.close(ours)
    drawn = b""
    with contextlib.suppress(OSError):  # Linux ends a terminal so
        while piece := os.read(theirs, 4096):
            drawn += piece
    os.close(theirs)
    assert b"storing" in drawn
    assert json.loads(done.stdout)["new"] is True


def test_a_reader_that_stops_early_is_no_error(terminal: Terminal) -> None:
    """`crdtmerge ... | head -1` prints no traceback."""
    line = f"{sys.executable} -m nodes.cli strategies --json | head -1"
    root = Path(__file__).parents[2]
    done = subprocess.run(
        ["/bin/sh", "-c", line],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert (done.stdout, done.stderr) == ("[\n", "")
