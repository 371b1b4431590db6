"""The newer verbs on one machine, without a node: words, JSON, refusals, completion."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.homes import snapshot
from tests.integration.test_cli_local import Terminal, terminal

__all__ = ["terminal"]

STRANGER = "ab" * 32
ROOT = Path(__file__).parents[2]


def said(terminal: Terminal, *words: object) -> str:
    """Run one command that must succeed; return what people read."""
    code, out, err = terminal.run(*words)
    assert code == 0, err
    return out


def test_a_space_is_governed_from_the_command_line(terminal: Terminal) -> None:
    """Grant, ban, lift, revoke, recipe: each says what it did, and the log has it all."""
    content = terminal.json("contribute", terminal.model("tune", 1))["content"]
    grant = ("space", "grant", STRANGER, "--rank", "maintainer", "--weight-cap", "2")
    assert "granted abababababab maintainer (weight 2" in said(terminal, *grant)
    assert "unchanged" in said(terminal, *grant)
    assert "1 contribution fewer" in said(terminal, "ban", content[:8])
    assert "lifted the ban" in said(terminal, "ban", "--lift", content[:8])
    assert "revoked author" in said(terminal, "space", "revoke", STRANGER[:6])
    assert "stays revoked" in said(terminal, "space", "revoke", STRANGER)
    members = said(terminal, "space", "members")
    assert "(you)" in members
    assert "revoked by" in members
    assert "rights back" in said(terminal, "space", "revoke", "--lift", STRANGER[:6])
    rule = ("--rule", "*bias:density=0.5", "--output-dtype", "bf16")
    text = said(terminal, "recipe", "set", "ties", "--param", "density=.3", *rule)
    assert "ties/1 density=0.3" in text
    text = said(terminal, "recipe", "show")
    assert "rule 1: *bias: density=0.5" in text
    assert "BF16" in text
    lines = said(terminal, "log").splitlines()
    kinds = [line.split()[2] for line in lines[1:]]
    assert sorted(kinds) == sorted(
        [
            *("genesis", "recipe", "add", "grant", "ban"),
            *("lift", "revoke", "lift", "recipe"),
        ]
    )
    assert "lifted" in "\n".join(lines)
    assert "8 records before these" in said(terminal, "log", "--limit", "1")


def test_json_of_each_verb_has_its_fields(terminal: Terminal) -> None:
    """Scripts rely on these names."""
    content = terminal.json("contribute", terminal.model("tune", 1))["content"]
    shapes: list[tuple[tuple[str, ...], set[str]]] = [
        (
            ("space", "grant", STRANGER, "--rank", "reader"),
            {"space", "author", "record", "new", "rank", "weight_cap", "records_max"}
            | {"bytes_max", "pending", "notes"},
        ),
        (
            ("space", "revoke", STRANGER),
            {"space", "author", "record", "new", "accepted", "kept", "hidden"}
            | {"pending", "notes"},
        ),
        (
            ("space", "revoke", "--lift", STRANGER),
            {"space", "author", "revocations", "records", "shown", "pending"}
            | {"notes"},
        ),
        (("space", "members"), {"space", "name", "members", "pending"}),
        (
            ("space", "forks"),
            {"space", "name", "quarantine", "forks", "published", "notes"},
        ),
        (
            ("recipe", "set", "ties"),
            {"space", "record", "new", "recipe", "replaced", "merge_id", "notes"},
        ),
        (
            ("recipe", "show"),
            {"space", "name", "recipe", "record", "conflict", "heads", "yaml"}
            | {"notes"},
        ),
        (
            ("recipe", "check"),
            {"space", "recipe", "class", "contributions", "groups", "tensors"}
            | {"memory", "notes"},
        ),
        (
            ("check", content),
            {"space", "content", "usable", "reason", "proven", "read_bytes"}
            | {"missing_bytes", "record", "new", "notes"},
        ),
        (
            ("inspect",),
            {"space", "base", "reports", "compared", "left_out", "tensors"}
            | {"read_bytes", "notes"},
        ),
        (("log",), {"space", "name", "total", "records"}),
        (
            ("store", "show"),
            {
                "own",
                "referenced",
                "packed",
                "partial",
                "stale",
                "leftover",
                "pins",
                "sums",
            }
            | {"unneeded", "unknown_manifests", "free_bytes", "quota_bytes", "notes"},
        ),
        (
            ("store", "gc", "--dry-run"),
            {"dry_run", "grace", "count", "bytes", "went", "stays", "stays_count"}
            | {"stays_bytes", "needed", "pins", "in_the_way", "sums", "notes"},
        ),
        (
            ("store", "fsck"),
            {
                "blobs",
                "bytes",
                "damaged",
                "leftovers",
                "tables",
                "wanted",
                "sound",
                "notes",
            },
        ),
        (
            ("store", "pin", content),
            {"space", "content", "note", "blobs", "missing", "unknown", "pinned"}
            | {"notes"},
        ),
        (("store", "unpin", content), {"space", "content", "pinned", "notes"}),
        (("peers", "list"), {"running", "peers", "notes"}),
        (
            ("fetch",),
            {"spaces", "contributions", "fetched_bytes", "compared", "notes"},
        ),
        (
            ("wait", "--converged"),
            {"space", "name", "converged", "record_root", "visible_root", "merge_id"}
            | {"contributions", "agree", "peers", "not_connected", "notes"},
        ),
    ]
    for words, fields in shapes:
        code, out, err = terminal.run(*words, "--json")
        assert code == 0, (words, err)
        assert set(json.loads(out)) == fields, words
    (member, _) = terminal.json("space", "members")["members"]
    assert {"author", "you", "rank", "state", "since", "nodes"} <= set(member)
    record = terminal.json("log")["records"][0]
    assert {"record", "kind", "author", "says", "effect", "state"} <= set(record)


USAGE: tuple[tuple[str, ...], ...] = (
    ("space", "grant", STRANGER),
    ("space", "grant"),
    ("space", "revoke", STRANGER, "--lift", "--from-start"),
    ("space", "revoke", STRANGER, "--lift", "--keep", "abcd"),
    ("recipe", "set"),
    ("recipe", "set", "ties", "--param", "density"),
    ("recipe", "set", "ties", "--rule", "density=1"),
    ("recipe", "set", "ties", "--rule", ":density=1"),
    ("recipe", "set", "ties", "--rule", "*:density"),
    ("recipe", "set", "ties", "--rule", "*:=1"),
    ("log", "--limit", "0"),
    ("log", "--limit", "many"),
    ("wait",),
    ("wait", "--converged", "--peers", "-1"),
    ("wait", "--converged", "--timeout", "soon"),
    ("peers", "add", "abcd"),
    ("fetch", "--patience", "x"),
    ("check",),
)
BAD: tuple[tuple[tuple[str, ...], int], ...] = (
    (("space", "grant", "zz", "--rank", "reader"), 3),
    (("space", "grant", STRANGER, "--rank", "reader", "--bytes", "many"), 3),
    (("space", "revoke", STRANGER, "--from-start", "--keep", "abcd"), 4),
    (("wait", "--converged", "--timeout", "0"), 3),
    (("wait", "--converged", "--timeout", "nan"), 3),
    (("wait", "--converged", "--peers", "1", "--timeout", "0.2"), 7),
    (("fetch", "--patience", "-1"), 3),
    (("fetch", "zzzz"), 3),
    (("peers", "add", "abcd", "a:1"), 4),
    (("recipe", "set", "ties", "--seed-scope", "all"), 3),
    (("log", "--space", "nope"), 4),
    (("check", "abcdef"), 4),
    (("check", "abcdef", "--dry-run"), 4),
    (("check", "no id"), 3),
)


def test_wrong_usage_is_told_and_changes_nothing(terminal: Terminal) -> None:
    """Exit code 2, as JSON too."""
    for words in USAGE:
        error = terminal.refused(*words)
        assert (error["exit_code"], error["type"]) == (2, "UsageError"), words


def test_bad_input_is_told_and_changes_nothing(terminal: Terminal) -> None:
    """Where nothing runs; a wait or fetch that starts a node leaves no trace either."""
    for words, code in BAD:
        assert terminal.refused(*words)["exit_code"] == code, words
    assert not (terminal.home / "control.sock").exists()


# --- completion ------------------------------------------------------------------------


def completed(terminal: Terminal, line: str) -> list[str]:
    """Return what bash would be offered for a line that is being typed."""
    env = {
        **os.environ,
        "CRDTMERGE_HOME": str(terminal.home),
        "_CRDTMERGE_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(line.split(" ")) - 1),
    }
    done = subprocess.run(
        [sys.executable, "-m", "nodes.cli"],
        env=env,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stderr == ""
    return done.stdout.split()


def test_values_are_completed(terminal: Terminal) -> None:
    """Spaces, strategies, contributions and authors of the home that the line names."""
    tune = terminal.model("tune", 1)
    content = terminal.json("contribute", tune, "--tag", "math")["content"]
    author = terminal.json("whoami")["author"]
    before = snapshot(terminal.home)
    trials = {
        "crdtmerge rec": ["recipe"],
        "crdtmerge log --space d": ["digits"],
        "crdtmerge recipe set tie": ["ties"],
        "crdtmerge recipe set ties --pre tri": ["trim"],
        "crdtmerge recipe set ties --output-dtype F8": ["F8_E4M3", "F8_E5M2"],
        "crdtmerge recipe set ties --missing b": ["base"],
        "crdtmerge resolve --out x --shard-size 5": ["50GB", "5GB"],
        "crdtmerge contribute x --tag m": ["math"],
        f"crdtmerge remove {content[:3]}": [content[:12]],
        f"crdtmerge remove {content[:20]}": [content],
        f"crdtmerge check {content[:3]}": [content[:12]],
        f"crdtmerge space revoke {author[:4]}": [author[:12]],
        f"crdtmerge --home {terminal.home} fetch {content[:2]}": [content[:12]],
        f"crdtmerge fetch --home {terminal.folder} {content[:2]}": [],
    }
    for line, offered in trials.items():
        assert completed(terminal, line) == offered, line
    assert snapshot(terminal.home) == before


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_completion_script_is_printed_and_installed(
    tmp_path: Path, shell: str
) -> None:
    """For the shell that asks; it calls this program by its name."""
    env: dict[str, Any] = {
        **os.environ,
        "HOME": str(tmp_path),
        "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1",
    }
    for option in ("--show-completion", "--install-completion"):
        done = subprocess.run(
            [sys.executable, "-m", "nodes.cli", option, shell],
            env=env,
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        if option == "--show-completion":
            assert "_CRDTMERGE_COMPLETE" in done.stdout
    written = [path.read_text() for path in tmp_path.rglob("*") if path.is_file()]
    assert any("crdtmerge" in text for text in written)
