"""Texts of peers on somebody's terminal: they are shown, and command nothing."""

import subprocess
import sys
from dataclasses import replace
from typing import Final

import pytest

from crdtmerge.bodies import Genesis
from crdtmerge.errors import MalformedMessageError, MalformedRecordError
from crdtmerge.sync.messages import Hello, SignedBytes
from tests.attacks.fortress import Fortress, add_of, model
from tests.attacks.siege import framed
from tests.attacks.test_forged_records import fields_of, packed
from tests.properties.cast import CARL, CLEO, genesis

COMMANDS: Final = (
    "\x1b[2J\x1b]0;owned\x07\u202edesrever\r\nerror: all is lost [red]x[/]"
)
CONTROL: Final = ("\x1b", "\x07", "\u202e", "\r", "\nerror: all is lost")


@pytest.mark.parametrize("verb", ["log", "status"])
def test_note_that_commands_a_terminal(fortress: Fortress, verb: str) -> None:
    """A note may hold any text: what is printed of it moves no cursor and fakes no line."""
    manifest = model(b"a note beside it")
    fortress.say(CLEO, replace(add_of(manifest), note=COMMANDS))
    fortress.keep()
    before = fortress.state
    fortress.home.close()
    command = [sys.executable, "-m", "nodes.cli", "--home", str(fortress.home.path)]
    done = subprocess.run(
        [*command, verb], capture_output=True, text=True, check=True, timeout=60
    )
    said = done.stdout + done.stderr
    assert manifest.content_id.hex()[:8] in said or verb == "status"
    for text in CONTROL:
        assert text not in said
    assert fortress.state.roots == before.roots


@pytest.mark.parametrize("agent", ["\x1b[2J", "a\nb", "\u202e", "x" * 129])
def test_agent_that_commands_a_terminal(fortress: Fortress, agent: str) -> None:
    """What a node calls itself is printable, and short, or no message."""
    lie = framed(Hello(1, agent))
    fortress.withstands(MalformedMessageError, lambda siege: siege.sends(CARL, lie))


@pytest.mark.parametrize("name", ["\x1b[2J", "a\nb", "\u202eb", " a", ""])
def test_space_whose_name_commands_a_terminal(fortress: Fortress, name: str) -> None:
    """A space has a printable name, or no genesis."""
    fields = fields_of(genesis("open"))
    assert fields[6] == Genesis.KIND
    fields[8][0] = name
    lie = SignedBytes(packed(fields), bytes(64))
    with fortress.refuses(MalformedRecordError):
        fortress.spaces().receive(fortress.space, [lie])
