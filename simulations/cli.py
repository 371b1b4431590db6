"""`crdtmerge simulate`: run stories in a deterministic world, and print what they came to.

Owns the commands and their words. Does not own the stories (`swarm`, `scenarios`), nor the
program that this is a part of: `nodes.cli` finds it by its entry point. What runs nodes
is imported once a command is known, so that `--help` answers at once.
"""

from collections.abc import Iterable, Mapping
from typing import Annotated, TypeAlias

import typer

from nodes.cli.options import JsonOption
from nodes.cli.output import say, say_json, show, table
from nodes.cli.settings import settings

from .faults import STORM, Faults
from .limits import ROUNDS_DEFAULT

NodesOption: TypeAlias = Annotated[int, typer.Option(help="How many nodes.")]
SeedOption: TypeAlias = Annotated[
    int, typer.Option(help="The integer that decides everything that happens.")
]


def build() -> typer.Typer:
    """Return the group of commands."""
    group = typer.Typer(
        name="simulate",
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        help="Run real nodes in a simulated world of faults, from one integer.",
    )
    group.command("swarm")(swarm)
    group.command("scenario")(scenario)
    group.command("list")(listing)
    return group


def swarm(
    context: typer.Context,
    *,
    nodes: NodesOption = 8,
    seed: SeedOption = 0,
    rounds: Annotated[int, typer.Option(help="Rounds of work.")] = ROUNDS_DEFAULT,
    fault: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=CHANCE",
            help="A kind of fault, or none; again for more. Else the seed draws.",
            show_default=False,
        ),
    ] = None,
    delay: Annotated[
        float, typer.Option(help="Longest time a message takes, in s.")
    ] = STORM.delay,
    as_json: JsonOption = False,
) -> None:
    """Let nodes work while everything fails, all at once.

    They add, remove, ban, join, crash and are parted, on links that lose messages. Then
    all must have the same roots, and merge to the same bytes as a replica that never saw
    a network.
    """
    from .swarm import run_swarm

    faults = Faults.told(fault, delay) if fault else None
    outcome = run_swarm(seed, nodes, faults, rounds)
    wanted = settings(context, as_json=as_json).as_json
    show(outcome.facts(), _swarm_lines, as_json=wanted)


def scenario(
    context: typer.Context,
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME]...", help="Which; else all.", show_default=False
        ),
    ] = None,
    *,
    nodes: NodesOption = 6,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Play told stories: islands, crashes, bans, late joiners.

    Their links keep their order and lose nothing until they are cut.
    """
    from .scenarios import SCENARIOS, run_scenario

    chosen = names or SCENARIOS
    facts = [run_scenario(name, seed, nodes).facts() for name in chosen]
    if settings(context, as_json=as_json).as_json:
        say_json(facts)
    else:
        say(_scenario_lines(facts))


def listing(context: typer.Context, *, as_json: JsonOption = False) -> None:
    """List the scenarios."""
    from .scenarios import SCENARIOS

    told = {
        name: (tell.__doc__ or "").splitlines()[0] for name, tell in SCENARIOS.items()
    }
    if settings(context, as_json=as_json).as_json:
        say_json([{"name": name, "story": story} for name, story in told.items()])
    else:
        say(table(("SCENARIO", "STORY"), told.items()))


def _swarm_lines(facts: Mapping[str, object]) -> list[str]:
    faults, rounds = facts["faults"], facts["rounds"]
    assert isinstance(faults, dict)
    assert isinstance(rounds, dict)
    injected = facts["injected"]
    assert isinstance(injected, dict)
    shown = ("record_root", "visible_root", "merge_id", "model_digest", "log_digest")
    said = " ".join(f"{name} {value:g}" for name, value in faults.items())
    rows = [
        ("seed", f"{facts['seed']}, {facts['nodes']} nodes"),
        ("faults", said),
        ("work", f"{facts['records']} records, {facts['visible']} visible"),
        ("messages", f"{facts['messages']}, {facts['bytes']} bytes"),
        ("injected", ", ".join(f"{n} {count}" for n, count in injected.items())),
        ("cut off", f"{facts['cut_off']} messages"),
        ("crashes", facts["crashes"]),
        (
            "agreed",
            f"records after {rounds['records']} rounds, all after {rounds['contents']}",
        ),
        *((name.replace("_", " "), facts[name] or "-") for name in shown),
    ]
    width = max(len(name) for name, _ in rows)
    return [f"{name:{width}}  {value}" for name, value in rows]


def _scenario_lines(outcomes: Iterable[Mapping[str, object]]) -> list[str]:
    rows = []
    for facts in outcomes:
        rounds = facts["rounds"]
        assert isinstance(rounds, dict)
        reached = f"{rounds['records']:.2f} / {rounds['contents']:.2f}"
        digests = (str(facts[name])[:12] for name in ("model_digest", "log_digest"))
        rows.append(
            (
                str(facts["command"]).split()[3],
                facts["records"],
                reached,
                facts["messages"],
                *digests,
            )
        )
    head = ("SCENARIO", "RECORDS", "ROUNDS", "MESSAGES", "MODEL", "LOG")
    return table(head, rows)
