"""What people do, at random: every kind of record, from every kind of author.

Owns the choice of actions and of their subjects. Does not own how often they act, nor what
goes wrong meanwhile (`swarm`). People act on what their own machine knows, which is never
quite what others know: so removes, bans and recipes run into each other.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from crdtmerge.policy import Rank, View, Visible
from crdtmerge.recipe import Recipe
from crdtmerge.strategies import make_recipe

from .cluster import Cluster
from .world import Machine

MAINTAINERS: Final = 0.3
"""Share of the members who may change the recipe, ban and lift."""
RECIPES: Final = (
    make_recipe("linear", {}),
    make_recipe("linear", {}, output_dtype="F32"),
    make_recipe("ties", {"density": "0.5"}),
    make_recipe("dare_ties", {"p": "0.4"}),
    make_recipe("dare_ties", {}, seed_scope="contribution"),
    make_recipe("metagpt", {}),
    make_recipe("task_arithmetic", {"lambda": "0.7"}),
    make_recipe("slerp", {}),
    make_recipe("nuslerp", {}),
    make_recipe("dare_linear", {"p": "0.5"}),
    make_recipe("median", {}),
)


@dataclass
class Workload:
    """The people of a cluster, from one generator.

    `names` are those of all models that anybody contributed: the same name again is the
    same content, so a removed or banned model comes back, or two people offer one.
    """

    cluster: Cluster
    rng: random.Random
    recipes: Sequence[Recipe] = RECIPES
    names: list[str] = field(default_factory=list)

    def join(self) -> None:
        """Let one more person in, if the owner's machine is fit to let them in."""
        if self.cluster.admits:
            maintains = self.rng.random() < MAINTAINERS
            self.cluster.join(Rank.MAINTAINER if maintains else Rank.CONTRIBUTOR)

    def act(self) -> None:
        """Let somebody whose machine runs do something."""
        if awake := self.cluster.awake:
            machine = self.rng.choice(awake)
            (action,) = self.rng.choices(list(ACTIONS), list(ACTIONS.values()))
            with self.cluster.commanded(machine):
                if self._may_act(machine):
                    action(self, machine)

    def add(self, machine: Machine) -> None:
        """Contribute a new model."""
        self.names.append(f"model {len(self.names)}")
        self.cluster.contribute(machine, self.names[-1])

    def add_again(self, machine: Machine) -> None:
        """Contribute what somebody contributed before, be it removed or banned since."""
        if self.names:
            self.cluster.contribute(machine, self.rng.choice(self.names))

    def remove(self, machine: Machine) -> None:
        """Remove the adds of one contribution that its author may remove."""
        view, mine = self._view(machine), machine.author.public
        opset = machine.spaces.opset(self.cluster.space)
        rank = view.ranks[mine]
        if (chosen := self._visible(view)) is None:
            return
        authors = {add: opset.records[add].author for add in chosen.adds}
        adds = [
            a for a, who in authors.items() if who == mine or view.ranks[who] < rank
        ]
        if adds:
            self.cluster.commit(machine, self.cluster.replica(machine).remove(adds))

    def ban(self, machine: Machine) -> None:
        """Ban one contribution."""
        chosen = self._visible(self._view(machine))
        if chosen is not None and self._maintains(machine):
            banned = self.cluster.replica(machine).ban("content", chosen.content)
            self.cluster.commit(machine, banned)

    def lift(self, machine: Machine) -> None:
        """Lift a ban of somebody whose rank is not higher."""
        view, opset = self._view(machine), machine.spaces.opset(self.cluster.space)
        rank = view.ranks[machine.author.public]
        makers = {ban: opset.records[ban].author for ban in view.bans}
        bans = sorted(ban for ban, maker in makers.items() if view.ranks[maker] <= rank)
        if bans and self._maintains(machine):
            lifted = self.cluster.replica(machine).lift(self.rng.choice(bans))
            self.cluster.commit(machine, lifted)

    def change_recipe(self, machine: Machine) -> None:
        """Change how the space is resolved."""
        recipe: Recipe = self.rng.choice(self.recipes)
        if self._maintains(machine):
            self.cluster.set_recipe(machine, recipe)

    def say_much(self, machine: Machine) -> None:
        """Make records that change nothing: they travel like all others."""
        self.cluster.fill(machine, self.rng.randint(1, 4))

    def _view(self, machine: Machine) -> View:
        return machine.spaces.view(self.cluster.space)

    def _may_act(self, machine: Machine) -> bool:
        """Tell whether anybody listens to it: it was not banned, and did not fork.

        Who lost a disk may find itself in a space that does not know it yet.
        """
        view, me = self._view(machine), machine.author.public
        return (
            me in view.ranks and me not in view.rightless and me not in view.quarantined
        )

    def _maintains(self, machine: Machine) -> bool:
        return self._view(machine).ranks[machine.author.public] >= Rank.MAINTAINER

    def _visible(self, view: View) -> Visible | None:
        return self.rng.choice(view.visible) if view.visible else None


ACTIONS: Final[dict[Callable[[Workload, Machine], None], int]] = {
    Workload.add: 8,
    Workload.add_again: 4,
    Workload.remove: 4,
    Workload.ban: 2,
    Workload.lift: 2,
    Workload.change_recipe: 6,
    Workload.say_much: 1,
}
"""What people do, and how often."""
