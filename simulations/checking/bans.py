"""Whether bans hold: nothing banned is shown, and who is out gets no news.

Owns these checks and what they must remember between two looks. Does not own what a ban
means (`crdtmerge.policy`), nor when it is looked (`watching`).
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from crdtmerge.bodies import Ban, RecordId
from crdtmerge.policy import View
from simulations.cluster import Cluster
from simulations.world import Machine

from .checkers import NotConvergedError


class BanError(NotConvergedError):
    """A ban does not hold: a bug of ours."""


@dataclass(frozen=True, slots=True)
class Out:
    """A machine whose node no other takes for a member's, and what it had by then."""

    generation: bytes
    """Of its store: one that began anew was given what a newcomer is given."""
    held: frozenset[RecordId]


@dataclass
class Bans:
    """The bans of one run."""

    cluster: Cluster
    _seen: dict[str, View] = field(default_factory=dict)
    _out: dict[str, Out] = field(default_factory=dict)

    def look(self) -> None:
        """Check all honest machines, and what those that are out have heard since.

        Raises:
            BanError: names the machine and the ban.
        """
        for machine in self.cluster.honest:
            if machine.node is not None:  # what an ended process read is no guide
                self._check(machine, self._shown_or_talked_to)
        if len(self.cluster.running) == len(self.cluster.machines):
            for machine in self.cluster.machines:
                self._check(machine, self._news)

    def _check(self, machine: Machine, look: Callable[[Machine], str]) -> None:
        problem = ""
        with self.cluster.powered(machine):  # it reads, and a disk may refuse that
            problem = look(machine)
        if problem:
            now = self.cluster.clock.now
            raise BanError(f"seed {self.cluster.seed}, {now:.1f} s: {problem}")

    def _shown_or_talked_to(self, machine: Machine) -> str:
        """Return whom or what a machine treats as if no ban were there."""
        view = machine.spaces.view(self.cluster.space)
        if view is not self._seen.get(machine.name):
            self._seen[machine.name] = view
            if shown := self._shown(view):
                return f"{machine.name} shows {shown}"
        acts = machine.node is not None and machine.still is None
        if acts and machine.node and machine.node.sessions.keys() - view.nodes.keys():
            return f"{machine.name} talks to who is no member"
        return ""

    def _shown(self, view: View) -> str:
        contents = {visible.content for visible in view.visible}
        authors = {author for visible in view.visible for author in visible.authors}
        for ban in view.bans.values():
            if ban.target in (contents if ban.subject == "content" else authors):
                return f"what was banned: {_of(ban)}"
        for other in self.cluster.machines:
            ghost = getattr(other.liar, "ghost", None)
            ended = ghost is not None and ghost.key.public in view.rightless
            if ghost is not None and ended and ghost.void & contents:
                return "what a revoked author added"
        return ""

    def _news(self, machine: Machine) -> str:
        """Compare what a machine holds now with what it held once all took it for out."""
        if not self._is_out(machine):
            self._out.pop(machine.name, None)
            return ""
        generation = machine.records.generation
        known = machine.spaces.opset(self.cluster.space).signed
        foreign = frozenset(
            key
            for key, signed in known.items()
            if signed.record.author != machine.author.public
        )
        before = self._out.get(machine.name)
        if before is None or before.generation != generation:
            self._out[machine.name] = Out(generation, foreign)
        elif news := foreign - before.held:
            return f"{machine.name} is out, and got {len(news)} records"
        return ""

    def _is_out(self, machine: Machine) -> bool:
        """Tell whether all others know that its node is no member's any more."""
        return all(self._is_out_for(other, machine) for other in self.cluster.machines)

    def _is_out_for(self, other: Machine, machine: Machine) -> bool:
        if other is machine:
            return True
        knows = False
        with self.cluster.powered(other):
            nodes = other.spaces.view(self.cluster.space).nodes
            knows = machine.transport not in nodes
        return knows and other.still is None


def _of(ban: Ban) -> str:
    return f"{ban.subject} {ban.target.hex()[:12]}"
