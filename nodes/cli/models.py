"""The commands `resolve`, `verify` and `strategies`.

Owns their options. Does not own what they do (`operations.models`, `strategies`).
"""

from pathlib import Path
from typing import Annotated

import typer

from . import completion, executor, render
from .options import HomeOption, JsonOption, ParamOption, SpaceOption, pairs, settings
from .output import say, say_json, show


def resolve(
    context: typer.Context,
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Where the model goes; a new folder.")
    ],
    *,
    space: SpaceOption = None,
    strategy: Annotated[
        str | None,
        typer.Option(
            help="Explore another strategy here; the space's recipe stays as it is.",
            show_default=False,
            autocompletion=completion.strategies,
        ),
    ] = None,
    param: ParamOption = None,
    without: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ID", help="Leave a contribution out, here only; repeat for more."
        ),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(
            min=1, help="Threads; they change no bit of the model.", show_default=False
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace a model that is there already.")
    ] = False,
    fsync: Annotated[
        bool, typer.Option("--fsync", help="Return only once the model is on the disk.")
    ] = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compute the merged model of a space and write it as a folder."""
    chosen = settings(context, home, as_json=as_json)
    asked = {
        "space": space,
        "out": str(out.absolute()),
        "strategy": strategy,
        "params": pairs(param),
        "without": list(without or ()),
        "threads": threads,
        "force": force,
        "fsync": fsync,
    }
    facts = executor.read(chosen.home, "resolve", asked)
    show(facts, render.resolved, as_json=chosen.as_json)


def verify(
    context: typer.Context,
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="A folder that resolve wrote.")
    ],
    home: HomeOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Check a merged model against its resolution.json.

    The digests always; where this home has the contributions, the model is computed again.
    """
    chosen = settings(context, home, as_json=as_json)
    facts = executor.verify(chosen.home, {"dir": str(folder.absolute())})
    show(facts, render.verified, as_json=chosen.as_json)


def strategies(
    context: typer.Context,
    name: Annotated[
        str | None,
        typer.Argument(
            help="One strategy, by name or alias.",
            show_default=False,
            autocompletion=completion.strategies,
        ),
    ] = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """List the merge strategies, or show one of them.

    Its parameters come with our defaults and with mergekit's.
    """
    from crdtmerge.strategies import STRATEGIES, find

    found = [find(name)] if name else [STRATEGIES[key] for key in sorted(STRATEGIES)]
    facts = [strategy.describe() for strategy in found]
    if settings(context, as_json=as_json).as_json:
        say_json(facts)
    else:
        say(render.strategy(facts[0]) if name else render.strategies(facts))
