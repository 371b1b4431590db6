"""Whether bans hold: nothing banned is shown, and who is out gets no news.

Owns these checks and what they must remember between two looks. Does not own what a ban
means (`crdtmerge.policy`), nor when it is looked (`watching`).
"""

from dataclasses import dataclass, field

from crdtmerge.bodies import Ban, RecordId
from crdtmerge.policy import View

from .checkers import NotConvergedError
from .cluster import Cluster
from .world import Machine


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
            if machine.node is None:
                continue  # what its process read is no guide to what its disk holds
            view = machine.spaces.view(self.cluster.space)
            if view is not self._seen.get(machine.name):
                self._seen[machine.name] = view
                self._shows_nothing_banned(machine, view)
            self._talks_to_members(machine, view)
        if len(self.cluster.running) == len(self.cluster.machines):
            for machine in self.cluster.machines:
                self._hears_no_news(machine)

    def _shows_nothing_banned(self, machine: Machine, view: View) -> None:
        contents = {visible.content for visible in view.visible}
        authors = {author for visible in view.visible for author in visible.authors}
        for ban in view.bans.values():
            if ban.target in (contents if ban.subject == "content" else authors):
                raise self._broken(f"{machine.name} shows what was banned: {_of(ban)}")
        for other in self.cluster.machines:
            ghost = getattr(other.liar, "ghost", None)
            ended = ghost is not None and ghost.key.public in view.rightless
            if ghost is not None and ended and ghost.void & contents:
                raise self._broken(f"{machine.name} shows what a revoked author added")

    def _talks_to_members(self, machine: Machine, view: View) -> None:
        if machine.node is None or machine.still is not None:
            return  # it has not come to act on what it knows
        for peer in machine.node.sessions:
            if peer not in view.nodes:
                raise self._broken(f"{machine.name} talks to who is no member")

    def _hears_no_news(self, machine: Machine) -> None:
        """Compare what a machine holds now with what it held once all took it for out."""
        known, out = machine.spaces.opset(self.cluster.space), self._out
        if not self._is_out(machine):
            out.pop(machine.name, None)
            return
        generation = machine.records.generation
        before = out.get(machine.name)
        foreign = frozenset(
            key
            for key, signed in known.signed.items()
            if signed.record.author != machine.author.public
        )
        if before is None or before.generation != generation:
            out[machine.name] = Out(generation, foreign)
        elif news := foreign - before.held:
            raise self._broken(f"{machine.name} is out, and got {len(news)} records")

    def _is_out(self, machine: Machine) -> bool:
        """Tell whether all others know that its node is no member's any more."""
        return all(
            other is machine
            or (
                other.still is None
                and machine.transport not in other.spaces.view(self.cluster.space).nodes
            )
            for other in self.cluster.machines
        )

    def _broken(self, problem: str) -> BanError:
        now = self.cluster.clock.now
        return BanError(f"seed {self.cluster.seed}, {now:.1f} s: {problem}")


def _of(ban: Ban) -> str:
    return f"{ban.subject} {ban.target.hex()[:12]}"
