"""`crdtmerge simulate`: run stories in a deterministic world, and print what they came to.

Owns the command and its options. Does not own the stories (`swarm`, `scenarios`), what is
printed (`words`), nor the program that this is a part of: `nodes.cli` finds it by its
entry point. What runs nodes is imported once it is to run: `--help` answers at once.
"""

import os
from time import perf_counter  # noqa: TID251  how fast runs go is for people alone
from typing import TYPE_CHECKING, Annotated, Final

import typer

from crdtmerge.errors import BadInputError
from nodes.cli.options import JsonOption
from nodes.cli.output import INTERRUPTED, say, say_json, table
from nodes.cli.settings import settings

from .faults import STORM, Faults, told_only
from .limits import NODES_DEFAULT, ROUNDS_DEFAULT, SHRINKING_DEFAULT, check_range

if TYPE_CHECKING:
    from simulations.hunting.hunt import Findings, Hunt

FAILED: Final = 1
JOBS_MAX: Final = 256
SEEDS_MAX: Final = 10**9


def build() -> typer.Typer:
    """Return the command, which is all that this adds to the program."""
    program = typer.Typer(add_completion=False, rich_markup_mode=None)
    program.command("simulate", no_args_is_help=True)(simulate)
    return program


def simulate(
    context: typer.Context,
    scenario: Annotated[
        str | None,
        typer.Argument(
            metavar="SCENARIO",
            help="swarm, a story that --list names, or all.",
            show_default=False,
        ),
    ] = None,
    *,
    nodes: Annotated[int, typer.Option(help="How many nodes.")] = NODES_DEFAULT,
    seed: Annotated[
        int, typer.Option(help="The integer that decides everything that happens.")
    ] = 0,
    seeds: Annotated[
        int | None,
        typer.Option(
            help="How many seeds, from --seed on. Else one; with --until-failure,"
            " without end.",
            show_default=False,
        ),
    ] = None,
    until_failure: Annotated[
        bool, typer.Option("--until-failure", help="End with the first that fails.")
    ] = False,
    jobs: Annotated[
        int | None,
        typer.Option(
            help="Processes; else as many as processors. The results are the same.",
            show_default=False,
        ),
    ] = None,
    rounds: Annotated[
        int, typer.Option(help="Rounds of work of a swarm.")
    ] = ROUNDS_DEFAULT,
    fault: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=CHANCE",
            help="A kind of fault of a swarm, or none; again for more. Else the seed"
            " draws.",
            show_default=False,
        ),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME:HITS",
            help="Strikes that are left, such as loss:1,5, or none; again for more."
            " Else all.",
            show_default=False,
        ),
    ] = None,
    delay: Annotated[
        float | None,
        typer.Option(
            help=f"With --fault: longest time a message takes, in s; else {STORM.delay}.",
            show_default=False,
        ),
    ] = None,
    shrink: Annotated[
        int,
        typer.Option(help="Runs that may be spent on leaving things out of a failure."),
    ] = SHRINKING_DEFAULT,
    listed: Annotated[
        bool, typer.Option("--list", help="List the stories, and run none.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Run real nodes in a simulated world of faults, from one integer.

    In a swarm they add, remove, ban, join, crash and are parted, on links that lose
    messages. Then all must have the same roots, and merge to the same bytes as a replica
    that never saw a network. Other stories are told, and their links keep their order.

    A run that fails is repeated with less and less in it. What is left is printed with the
    command that repeats it; the exit status is 1.
    """
    wanted = settings(context, as_json=as_json).as_json
    if listed:
        _list(as_json=wanted)
        return
    if scenario is None:
        raise typer.BadParameter("which story? --list names them")
    from simulations.hunting.hunt import Hunt

    from .runs import Run, stories

    faults, left = _faults(fault, delay), told_only(only) if only else None
    runs = [Run(name, seed, nodes, rounds, faults, left) for name in stories(scenario)]
    for what, value, least, most in (
        ("seeds", 1 if seeds is None else seeds, 1, SEEDS_MAX),
        ("jobs", 1 if jobs is None else jobs, 1, JOBS_MAX),
        ("shrink", shrink, 0, SEEDS_MAX),
    ):
        check_range(what, value, least, most)
    count = seeds if seeds or until_failure else 1
    workers = jobs or os.cpu_count() or 1
    _hunt(Hunt(tuple(runs), count, until_failure, workers, shrink), as_json=wanted)


def _faults(options: list[str] | None, delay: float | None) -> Faults | None:
    if options:
        return Faults.told(options, STORM.delay if delay is None else delay)
    if delay is not None:
        hint = "say the faults too, be it none"
        raise BadInputError("the seed draws the faults, and the delay", hint=hint)
    return None


def _list(*, as_json: bool) -> None:
    from .runs import told

    rows = list(told())
    if as_json:
        say_json([{"name": name, "story": story} for name, story in rows])
    else:
        say(table(("SCENARIO", "STORY"), rows))


def _hunt(plan: "Hunt", *, as_json: bool) -> None:
    """Run, print, and leave with the status of what was found."""
    from nodes.cli.progress import shown
    from simulations.hunting.hunt import hunt

    with shown() as tell:

        def told(work: str, done: int, total: int) -> None:
            tell({"work": work, "done": done, "total": total})

        findings = hunt(plan, told, perf_counter)
    _show(plan, findings, as_json=as_json)
    if findings.tally.failed:
        raise typer.Exit(FAILED)
    if findings.interrupted:
        raise typer.Exit(INTERRUPTED)


def _show(plan: "Hunt", findings: "Findings", *, as_json: bool) -> None:
    """Print one run that held as such, anything else as many runs."""
    from .words import findings_facts, findings_lines, outcome_lines

    single = plan.seeds == 1 and len(plan.first) == 1
    if single and findings.last is not None:
        if as_json:
            say_json(findings.last.facts())
        else:
            say(outcome_lines(findings.last))
    elif as_json:
        say_json(findings_facts(plan, findings))
    else:
        say(findings_lines(plan, findings))
