"""The commands `resolve`, `merge` and `verify`.

Owns their options. Does not own what they do (`operations`).
"""

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from . import completion, executor, render, wording
from .doctor import BackendOption, use
from .options import (
    HomeOption,
    JsonOption,
    MissingOption,
    ParamOption,
    SpaceOption,
    pairs,
)
from .output import show
from .render_explain import explained
from .settings import settings

ThreadsOption: TypeAlias = Annotated[
    int | None,
    typer.Option(
        min=1, help="Threads; they change no bit of the model.", show_default=False
    ),
]
MemoryOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        help="Memory that the work may take beside mapped files, such as 500MiB or 2GiB"
        " (2GiB if left out); it changes no bit of the model.",
        show_default=False,
    ),
]
ForceOption: TypeAlias = Annotated[
    bool, typer.Option("--force", help="Replace a model that is there already.")
]
ShardSizeOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        help="Above this, as 5GB or 2GiB, the model goes to several files and an index;"
        " 5GB if left out.",
        show_default=False,
        autocompletion=completion.shard_sizes,
    ),
]
FsyncOption: TypeAlias = Annotated[
    bool, typer.Option("--fsync", help="Return only once the model is on the disk.")
]


BudgetOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        help="Read at most so much, such as 20GiB: the task vectors that matter least"
        " are left out. `none` reads everything; if left out, the recipe says.",
        show_default=False,
    ),
]


SumsOption: TypeAlias = Annotated[
    str,
    typer.Option(
        metavar="auto|never",
        help="Whether sums of the contributions may be kept, to add the next one at the"
        " cost of that one; auto keeps them where that moves fewer bytes.",
    ),
]
ExplainOption: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--explain",
        help="Say what would be read, computed, reused and written to DIR, in how much"
        " memory and room; write no model.",
    ),
]


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
    recipe: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Explore a recipe in YAML or TOML here; the space's stays as it is.",
            show_default=False,
        ),
    ] = None,
    form: Annotated[
        str,
        typer.Option(
            "--as",
            metavar="model|adapter",
            help="Write a whole model, or an adapter for PEFT (the base is not read).",
        ),
    ] = "model",
    rank: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Rank of the adapter; if left out the largest that a contribution can"
            " use, 128 at most. The sum of all their ranks leaves out nothing.",
            show_default=False,
        ),
    ] = None,
    without: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ID", help="Leave a contribution out, here only; repeat for more."
        ),
    ] = None,
    io_budget: BudgetOption = None,
    shard_size: ShardSizeOption = None,
    threads: ThreadsOption = None,
    memory: MemoryOption = None,
    backend: BackendOption = None,
    sums: SumsOption = "auto",
    explain: ExplainOption = False,
    force: ForceOption = False,
    fsync: FsyncOption = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compute the merged model of a space, or an adapter, and write it as a folder."""
    chosen = settings(context, home, as_json=as_json)
    words: dict[str, object] = {"strategy": strategy, "params": pairs(param)}
    if recipe is not None:
        wording.refuse_beside_file("--recipe", [strategy, param, io_budget])
        words = wording.of_file(recipe)
    asked = {
        **words,
        "space": space,
        "out": str(out.absolute()),
        "as": form,
        "rank": rank,
        "without": list(without or ()),
        "io_budget": io_budget,
        "shard_size": _bytes(shard_size),
        "threads": threads,
        "memory": _bytes(memory),
        "sums": sums,
        "explain": explain,
        "force": force,
        "fsync": fsync,
    }
    use(backend)
    facts = executor.read(chosen.home, "resolve", asked)
    lines = explained if explain else render.resolved
    show(facts, lines, as_json=chosen.as_json)


def merge(
    context: typer.Context,
    config: Annotated[
        Path, typer.Argument(metavar="CONFIG", help="A configuration as mergekit's.")
    ],
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="Where the model goes; a new folder.")
    ],
    *,
    missing: MissingOption = None,
    shard_size: ShardSizeOption = None,
    threads: ThreadsOption = None,
    memory: MemoryOption = None,
    backend: BackendOption = None,
    force: ForceOption = False,
    fsync: FsyncOption = False,
    as_json: JsonOption = False,
) -> None:
    """Merge models from a mergekit configuration, with no node and no space.

    Paths in it are taken from its folder. What is not known or not supported is refused.
    """
    chosen = settings(context, as_json=as_json)
    asked = {
        "config": str(config.absolute()),
        "missing": missing,
        "out": str(out.absolute()),
        "shard_size": _bytes(shard_size),
        "threads": threads,
        "memory": _bytes(memory),
        "force": force,
        "fsync": fsync,
    }
    use(backend)
    show(executor.merge(asked), render.merged, as_json=chosen.as_json)


def verify(
    context: typer.Context,
    folder: Annotated[
        Path,
        typer.Argument(metavar="DIR", help="A folder that resolve or merge wrote."),
    ],
    home: HomeOption = None,
    *,
    backend: BackendOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check a merged model against its resolution.json.

    The digests always; where this home has the contributions, the model is computed again.
    """
    chosen = settings(context, home, as_json=as_json)
    use(backend)
    facts = executor.verify(chosen.home, {"dir": str(folder.absolute())})
    show(facts, render.verified, as_json=chosen.as_json)


def _bytes(size: str | None) -> int | None:
    """Return how many bytes a size is."""
    from crdtmerge.sizes import size_of

    return None if size is None else size_of(size)
