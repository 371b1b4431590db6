"""The peers of the demo: four homes, four nodes, driven as a user would drive them.

Owns the peers' private folders, the command line given to each, and waiting until gossip
has done its work. Does not own processes (`processes`) nor the order of events (`story`).

Everything goes through the real command line in processes of its own. A peer is told
nothing of another peer's folders: what it knows beyond the base came over the network.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from crdtmerge.errors import CrdtMergeError

from .processes import Children, Finished

COMMAND_SECONDS: Final = 60.0
"""How long one command may take, on a machine that is busy with other things."""

POLL_SECONDS: Final = 0.5
POLLS_MAX: Final = 60
STALLED_POLLS_MAX: Final = 30
"""Deadlines count polls, not seconds: on a busy machine a poll takes longer, and so may
gossip. The second one bounds how long nothing at all may change."""

LOG_LINES_SHOWN: Final = 12

Say = Callable[[str], None]


class DemoError(CrdtMergeError):
    """A step of the demo went wrong; the message says which, and what was printed."""


@dataclass(frozen=True, slots=True)
class Peer:
    """One participant and the private folder that holds all that is theirs."""

    name: str
    folder: Path

    @property
    def log(self) -> Path:
        """What this peer's node prints."""
        return self.folder / "node.log"


@dataclass(frozen=True, slots=True)
class View:
    """What one peer's `status` shows of the space."""

    record_root: str
    merge_id: str | None
    missing: int
    contents: frozenset[str]
    incomplete: int

    @classmethod
    def of(cls, status: Mapping[str, Any]) -> "View":
        """Return the view of the only space in the JSON that `status` printed."""
        (space,) = status["spaces"]
        contributions = space["contributions"]
        return cls(
            record_root=space["record_root"],
            merge_id=space["merge_id"],
            missing=space["missing_blobs"],
            contents=frozenset(item["content"] for item in contributions),
            incomplete=sum(not item["complete"] for item in contributions),
        )

    def holds(self, contents: frozenset[str]) -> bool:
        """Return whether exactly these contributions count, and all bytes are here."""
        whole = not self.missing and not self.incomplete
        return whole and self.contents == contents and self.merge_id is not None


class Cluster:
    """The peers and their processes."""

    def __init__(self, folder: Path, children: Children, say: Say) -> None:
        self.folder = folder
        self._children = children
        self._say = say
        self._nodes: dict[Peer, subprocess.Popen[str]] = {}

    def add_peer(self, name: str) -> Peer:
        """Make the private folder of a peer."""
        peer = Peer(name, self.folder / name)
        peer.folder.mkdir()
        return peer

    # --- commands -----------------------------------------------------------------------

    def run(self, peer: Peer, *arguments: str, quiet: bool = False) -> str:
        """Run one command as `peer` and return what it printed."""
        return self.run_each({peer: arguments}, quiet=quiet)[peer]

    def run_each(
        self, commands: Mapping[Peer, Sequence[str]], *, quiet: bool = False
    ) -> dict[Peer, str]:
        """Run one command for each of several peers, all at the same time.

        Raises:
            DemoError: one of them failed.
        """
        running = {}
        for peer, arguments in commands.items():
            if not quiet:
                self._say(f"    {peer.name}$ crdtmerge {_shown(arguments)}")
            running[peer] = self._children.command(
                _argv(arguments), peer.folder, _environment(peer)
            )
        return {
            peer: self._output(peer, commands[peer], process)
            for peer, process in running.items()
        }

    def json_each(
        self, commands: Mapping[Peer, Sequence[str]], *, quiet: bool = False
    ) -> dict[Peer, Any]:
        """Run commands with `--json` and return the value that each printed.

        Raises:
            DemoError: one of them failed, or printed something else.
        """
        asked = {peer: (*given, "--json") for peer, given in commands.items()}
        printed = self.run_each(asked, quiet=quiet)
        return {
            peer: self._parsed(peer, asked[peer], text)
            for peer, text in printed.items()
        }

    def _output(
        self, peer: Peer, arguments: Sequence[str], process: subprocess.Popen[str]
    ) -> str:
        what = f"`crdtmerge {_shown(arguments)}` of {peer.name}"
        try:
            done: Finished = self._children.finish(process, COMMAND_SECONDS)
        except TimeoutError as e:
            raise DemoError(f"{what} gave {e}{self.logs()}") from e
        if done.code:
            printed = _tail(done.err or done.out)
            raise DemoError(f"{what} ended with {done.code}:{printed}{self.logs()}")
        return done.out.strip()

    def _parsed(self, peer: Peer, arguments: Sequence[str], text: str) -> Any:
        try:
            return json.loads(text)
        except ValueError as e:
            what = f"`crdtmerge {_shown(arguments)}` of {peer.name}"
            raise DemoError(f"{what} printed no JSON:{_tail(text)}") from e

    # --- nodes --------------------------------------------------------------------------

    def start_nodes(self, peers: Iterable[Peer]) -> None:
        """Run the node of each peer, and return once all of them listen."""
        arguments = ("node", "run", "--listen", "127.0.0.1:0", "--json")
        started = list(peers)
        for peer in started:
            self._say(f"    {peer.name}$ crdtmerge {_shown(arguments)} &")
            self._nodes[peer] = self._children.spawn(
                _argv(arguments), peer.folder, _environment(peer), peer.log
            )
        for _ in range(POLLS_MAX):
            self._check_nodes()
            if all(_listens(_text(peer.log)) for peer in started):
                return
            time.sleep(POLL_SECONDS)
        raise DemoError(f"a node did not start to listen{self.logs()}")

    def _check_nodes(self) -> None:
        for peer, process in self._nodes.items():
            if process.poll() is not None:
                code = process.returncode
                message = f"the node of {peer.name} ended with {code}{self.logs()}"
                raise DemoError(message)

    def logs(self) -> str:
        """Return the last lines of every node's log, ready to append to a message."""
        return "".join(
            f"\n  log of {peer.name}'s node:{_tail(_text(peer.log))}"
            for peer in self._nodes
        )

    # --- waiting ------------------------------------------------------------------------

    def wait_for(self, contents: Iterable[str]) -> dict[Peer, View]:
        """Wait until every peer has exactly these contributions, and the same records.

        Raises:
            DemoError: a node ended, or nothing changed for too long.
        """
        wanted = frozenset(contents)
        seen: list[dict[Peer, View]] = []
        while len(seen) < POLLS_MAX:
            seen.append(self._views())
            if _settled(seen[-1], wanted):
                return seen[-1]
            recent = seen[-STALLED_POLLS_MAX:]
            if len(recent) == STALLED_POLLS_MAX and recent.count(recent[0]) == len(
                recent
            ):
                break
            time.sleep(POLL_SECONDS)
        shown = "".join(
            f"\n  {peer.name}: {len(view.contents)} of {len(wanted)} contributions,"
            f" {view.missing} blobs missing, merge id {str(view.merge_id)[:12]},"
            f" record root {view.record_root[:12]}"
            for peer, view in seen[-1].items()
        )
        raise DemoError(f"the peers did not come to agree:{shown}{self.logs()}")

    def _views(self) -> dict[Peer, View]:
        self._check_nodes()
        asked = dict.fromkeys(self._nodes, ("status",))
        found = self.json_each(asked, quiet=True)
        try:
            return {peer: View.of(status) for peer, status in found.items()}
        except (KeyError, TypeError, ValueError) as e:
            raise DemoError(
                f"`crdtmerge status --json` lacks what we need: {e!r}"
            ) from e


def _settled(views: Mapping[Peer, View], wanted: frozenset[str]) -> bool:
    """Return whether all hold what is wanted, and no record is still on its way."""
    there = all(view.holds(wanted) for view in views.values())
    states = {(view.record_root, view.merge_id) for view in views.values()}
    return there and len(states) == 1


def _argv(arguments: Sequence[str]) -> list[str]:
    """Return the command as a user types it, with the script of this very Python."""
    script = Path(sys.executable).with_name("crdtmerge")
    start = [str(script)] if script.is_file() else [sys.executable, "-m", "nodes.cli"]
    return [*start, *arguments]


def _environment(peer: Peer) -> dict[str, str]:
    """Return our environment with the peer's own home, and plain text on the way out."""
    private = {"CRDTMERGE_HOME": str(peer.folder / "home"), "NO_COLOR": "1"}
    return {**os.environ, **private, "PYTHONUNBUFFERED": "1"}


def _shown(arguments: Sequence[str]) -> str:
    """Return arguments as they are read best: a ticket is long, a digest too."""
    return " ".join(
        word if len(word) <= 40 else f"{word[:12]}..." for word in arguments
    )


def _listens(log: str) -> bool:
    """Return whether a node has printed the one JSON line that says where it listens."""
    return any(line.startswith('{"') for line in log.splitlines())


def _text(path: Path) -> str:
    return path.read_text("utf-8", "replace") if path.exists() else ""


def _tail(text: str) -> str:
    lines = text.strip().splitlines()[-LOG_LINES_SHOWN:]
    return "".join(f"\n    {line}" for line in lines) or " (nothing)"
