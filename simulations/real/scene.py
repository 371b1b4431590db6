"""The real world of a story: members whose nodes are processes, on this machine.

Owns doing to them what the story says, and waiting until they agree. Does not own the
network (`wires`, `proxy`), the disks (`disks`), nor what must hold (`checks`).
"""

import json
import random
import threading
import time
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGKILL
from typing import Any, Final

from crdtmerge.errors import ConflictError, NoRoomError
from simulations.checking.checkers import NotConvergedError

from . import checks, tally
from .members import DEADLINE_S, Answer, Members, contents
from .models import write_model
from .places import Places
from .process import Launch
from .stage import Figures

TICK_S: Final = 1.0
"""One heartbeat of a node, and so one round."""
POLL_S: Final = 0.1
PATIENCE_S: Final = 120.0
"""So long nothing may change while nodes do not agree: the longest back-off, twice."""
SPAN_S: Final = 0.03
"""From the first sign of a contribution to its end, until one was seen to be shorter."""
SPAN_GROWTH: Final = 1.5
SIGN_S: Final = 0.001
UNINSPECTED: Final = {"uninspected": True}
"""What inspection would remark is nobody's concern here, and it takes its time."""
SETTING: Final = ("--strategy", "linear")
RESOLVE: Final = ("--backend", "reference", "--threads", "1")
"""Nothing is compiled for a few numbers."""


@dataclass
class Said:
    """What was acknowledged, and what came of it."""

    records: set[str] = field(default_factory=set)
    visible: dict[str, list[str]] = field(default_factory=dict)
    """Contents by the member that contributed them."""

    def contents(self) -> frozenset[str]:
        """Return all that must be visible."""
        return frozenset(c for own in self.visible.values() for c in own)


class Scene(Members):
    """A real world; `set_up` founds its space, and `end` ends all that it started."""

    def __init__(
        self, folder: Path, names: tuple[str, ...], places: Places, seed: int
    ) -> None:
        """Know the members and where they are; nothing runs yet."""
        super().__init__(folder)
        self.names = names
        self.places = places
        self.rng = random.Random(seed)
        self.programs: dict[str, Path] = {}
        """Who runs another version, and where that is."""
        self.said = Said()
        self._span = SPAN_S
        self._began = 0.0
        self.done = Counter[str]()
        self._models = 0
        self._pending: dict[str, Path] = {}
        self._counted: Counter[str] = Counter()
        self._before: Counter[str] = Counter()
        self._counted_at: dict[str, Counter[str]] = {}
        self._carried_before: tuple[int, int] | None = None
        self._pauses: list[threading.Timer] = []

    def launching(self, name: str) -> Launch:
        """Return how what `name` runs is started: there, with a hash seed of its own."""
        return Launch(
            behind=self.places.enter(name),
            program=self.programs.get(name),
            environment={"PYTHONHASHSEED": str(self.names.index(name) + 1)},
        )

    def set_up(self) -> None:
        """Make the homes, found the space, let all join and meet."""
        base = str(write_model(self.folder / "base", 0, large=self.places.roomy))
        for name in self.names:
            self.run_here(name, "init", "--no-passphrase")
        first, *others = self.names
        self.run_here(first, "space", "create", "real", "--base", base, *SETTING)
        self._start(first)
        tickets = {name: self._ticket(first) for name in others}
        self.run_each(
            *((n, "space", "join", t, "--base", base) for n, t in tickets.items())
        )
        for name in others:
            self.launch(name, *self.places.listen(name))
        for name in others:
            self.await_ready(name)
        self._await(lambda seen: not checks.disagreement(seen))
        self._before = self._count()
        self._carried_before = self.places.carried()
        self._began = time.monotonic()

    def _ticket(self, host: str) -> str:
        if host in self.programs:
            return str(self.run(host, "space", "ticket")["ticket"])
        return str(self.ask(host, "space_ticket")["ticket"])

    def _start(self, name: str) -> None:
        self.start(name, *self.places.listen(name))

    # --- what members do ----------------------------------------------------------------

    def _new_model(self) -> Path:
        self._models += 1
        folder = self.folder / "models" / str(self._models)
        return write_model(folder, self._models, large=self.places.roomy)

    def contribute(self, name: str) -> None:
        """Let a member contribute a new model, which is acknowledged."""
        self._contribute(name, self._new_model())

    def _contribute(self, name: str, model: Path) -> None:
        if name in self.programs:
            answer = self.run(name, "contribute", str(model))
        else:
            answer = self.ask(name, "contribute", path=str(model), **UNINSPECTED)
        self._acknowledge(name, answer)

    def _acknowledge(self, name: str, answer: Answer) -> None:
        if answer["record"] is not None:
            self.said.records.add(answer["record"])
        own = self.said.visible.setdefault(name, [])
        if answer["content"] not in own:
            own.append(answer["content"])

    def refuse_contribution(self, name: str) -> None:
        """Let a member try to contribute on a full disk, whether its node runs or not."""
        model = str(self._new_model())
        said = ConflictError.__name__
        while (
            said == ConflictError.__name__
        ):  # the node ended as it was asked: ask again
            command = self.begin(name, "contribute", model, "--no-inspect")
            printed, told = command.communicate(timeout=DEADLINE_S)
            if command.returncode == 0:
                raise NotConvergedError(
                    f"{name} acknowledged on a full disk: {printed}"
                )
            said = json.loads(told)["error"]["type"]
        if said != NoRoomError.__name__:
            raise NotConvergedError(
                f"{name} refused for {said}, and not for lack of room"
            )
        self.done["contributions refused"] += 1

    def remove_one(self, name: str) -> None:
        """Let a member remove the first of its contributions."""
        content = self.said.visible[name].pop(0)
        self.ask(name, "remove", id=content)

    def rest(self, rounds: float) -> None:
        """Let heartbeats pass, and pauses end."""
        time.sleep(rounds * TICK_S)
        for timer in self._pauses:
            timer.join()
        self._pauses.clear()

    def expect_apart(self, one: str, other: str) -> None:
        """Check that two members do not hold the same records."""
        if self.status(one)["record_root"] == self.status(other)["record_root"]:
            raise NotConvergedError(f"news crossed from {one} to {other}, or back")

    # --- processes ----------------------------------------------------------------------

    def kill(self, name: str) -> None:
        """SIGKILL the node of a member."""
        self._counted += self._count_of(name)
        self.stop(name, SIGKILL)
        self.done["killed"] += 1

    def kill_amid(self, name: str) -> None:
        """SIGKILL it at a random moment amid what a command asks of it."""
        # Else what it fetches from others would be taken for a sign of what it is asked.
        self._await(lambda seen: not checks.disagreement(seen))
        model, counted = self._new_model(), self._count_of(name)
        before = self._touched(name)
        command = self.begin(name, "contribute", str(model), "--no-inspect")
        while self._touched(name) == before and command.poll() is None:
            time.sleep(SIGN_S)
        delay = self.rng.uniform(0, self._span)
        time.sleep(delay)
        self.stop(name, SIGKILL)
        printed, said = command.communicate(timeout=DEADLINE_S)
        self._counted += counted
        self.done["killed"] += 1
        # Half of the deaths or so are to come before the answer, on any machine.
        self._span = delay if command.returncode == 0 else SPAN_GROWTH * self._span
        if command.returncode == 0:
            answer = json.loads(printed)
            self._acknowledge(name, answer)
            if answer["record"] not in checks.records_on_disk(self.folder / name):
                raise NotConvergedError(f"{name} lost what it acknowledged: {said}")
        elif json.loads(said)["error"]["type"] == ConflictError.__name__:
            self.done["killed before the answer"] += 1
            self._pending[name] = model
        else:
            raise NotConvergedError(f"{name} could not contribute: {said}")

    def _touched(self, name: str) -> list[int]:
        """Return what changes as soon as a home writes a blob, wherever that is."""
        folders = ("blobs", "partial", "temporary")
        return [(self.folder / name / f).stat().st_mtime_ns for f in folders]

    def revive(self, name: str) -> None:
        """Start it again; what was not acknowledged is contributed again."""
        self._start(name)
        if name in self._pending:
            self._contribute(name, self._pending.pop(name))

    def pause(self, name: str, rounds: float) -> None:
        """SIGSTOP, and SIGCONT so many heartbeats later."""
        node = self.nodes[name]
        node.pause()
        self.done["paused"] += 1
        self._pauses.append(threading.Timer(rounds * TICK_S, node.go_on))
        self._pauses[-1].start()

    def upgrade(self, name: str) -> None:
        """End it in order, and start today's version."""
        code = self.stop(name)
        if code != 0:
            raise NotConvergedError(f"the version before ended with {code}")
        self.programs.pop(name, None)
        self.done["upgraded"] += 1
        self._start(name)

    # --- networks and disks -------------------------------------------------------------

    def part(self, island: Collection[str]) -> None:
        """Let nothing pass between these and the others."""
        self.places.wired.part(island)
        self.done["networks cut in two"] += 1

    def silence(self, senders: Collection[str]) -> None:
        """Lose what these send to the others."""
        others = [name for name in self.names if name not in senders]
        self.places.wired.cut(senders, others)
        self.done["networks silenced"] += 1

    def leave_only(self, middle: str) -> None:
        """Let everybody reach this member and nobody else."""
        others = [name for name in self.names if name != middle]
        self.places.wired.cut(others, others)
        self.done["networks left one in common"] += 1

    def unplug(self, name: str) -> None:
        """Pull the cable of a member out."""
        self.places.wired.unplug(name)
        self.done["unplugged"] += 1

    def heal(self) -> None:
        """Put all cables in, and let everybody reach everybody."""
        self.places.wired.heal()

    def storm(self) -> None:
        """Lose, delay, reorder, double and corrupt packets."""
        self.places.storm()

    def narrow(self) -> None:
        """Let cables carry few bytes a second."""
        self.places.wired.throttle(NARROW)

    def calm(self) -> None:
        """End a storm."""
        self.places.calm()

    def fill_disk(self, name: str) -> None:
        """Leave no room on the disk of a member."""
        self._counted_at[name] = self._count_of(name)
        self.places.fill_disk(self.folder / name)

    def free_disk(self, name: str) -> None:
        """Give it room again; a node that ended for lack of it is started again.

        A node to which records come that it cannot keep ends, and says so.
        """
        self.places.free_disk(self.folder / name)
        counted = self._counted_at.pop(name)
        if self.nodes[name].poll() is None:
            self.done["went on without room"] += 1
            return
        if self.stop(name) != NoRoomError.exit_code:
            raise NotConvergedError(f"{name} ended on a full disk: {self.log(name)}")
        self._counted += counted
        self.done["ended for lack of room"] += 1
        self._start(name)

    # --- the end ------------------------------------------------------------------------

    def settle(self) -> Figures:
        """Wait until all agree, check every promise, and return what it came to."""
        self.rest(0)
        begun = time.monotonic()
        wanted = self.said.contents()
        same: list[float] = []

        def agreed(seen: checks.Spaces) -> bool:
            if not same and len({s["record_root"] for s in seen.values()}) == 1:
                same.append(time.monotonic() - begun)
            return not (checks.disagreement(seen) or checks.unseen(seen, wanted))

        seen = self._await(agreed)
        took = time.monotonic() - begun
        counted, carried = self._count() - self._before, self.places.carried()
        self.done.update(
            {w: n for w, n in counted.items() if w not in tally.FIGURES and n}
        )
        self._check_homes()
        space = seen[self.names[0]]
        bytes_, packets = None, None
        if carried is not None and self._carried_before is not None:
            bytes_, packets = (
                now - before
                for now, before in zip(carried, self._carried_before, strict=True)
            )
        return Figures(
            records=space["records"],
            contributions=len(space["contributions"]),
            lasted=round((begun + took - self._began) / TICK_S, 2),
            record_rounds=round(same[0] / TICK_S, 2),
            rounds=round(took / TICK_S, 2),
            messages=counted["messages"],
            message_bytes=None,
            content_bytes=counted["content_bytes"],
            carried_bytes=bytes_,
            packets=packets,
        )

    def _await(self, done: Any) -> Mapping[str, Answer]:
        """Poll all until `done` says so; fail once nothing changes for long."""
        changed, last = time.monotonic(), ""
        while True:
            seen = {name: self.status(name) for name in self.names}
            if done(seen):
                return seen
            now, mark = time.monotonic(), repr([_mark(s) for s in seen.values()])
            if mark != last:
                changed, last = now, mark
            elif now - changed > PATIENCE_S:
                wanted = self.said.contents()
                problem = checks.disagreement(seen) or checks.unseen(seen, wanted)
                raise NotConvergedError(f"nothing goes on any more: {problem}")
            time.sleep(POLL_S)

    def _check_homes(self) -> None:
        disks = {n: checks.records_on_disk(self.folder / n) for n in self.names}
        problem = checks.lost(disks, frozenset(self.said.records))
        outs = {name: self.folder / "outs" / name for name in self.names}
        for name, out in outs.items():
            self.run_here(name, "resolve", "--out", str(out), *RESOLVE)
        models = {name: contents(out) for name, out in outs.items()}
        if problem := problem or checks.different(models):
            raise NotConvergedError(problem)

    # --- counting -----------------------------------------------------------------------

    def _count_of(self, name: str) -> Counter[str]:
        if name in self.programs or name not in self.nodes:
            return Counter()
        return tally.read(self.ask(name, "node_metrics"))

    def _count(self) -> Counter[str]:
        return sum((self._count_of(name) for name in self.names), self._counted.copy())

    def end(self) -> None:
        """End all that was started."""
        for timer in self._pauses:
            timer.cancel()
        super().end()
        self.places.close()


NARROW: Final = "2mbit"


def _mark(space: Mapping[str, Any]) -> tuple[object, ...]:
    """Return what changes as long as a node gets on."""
    missing = space["missing_blobs"], space["missing_bytes"]
    return space["record_root"], space["records"], *missing
