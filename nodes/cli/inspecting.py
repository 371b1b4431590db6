"""The command `inspect`.

Owns its options. Does not own what it does (`operations.inspecting`).
"""

from typing import Annotated

import typer

from . import completion, executor
from .contributions import AnywhereOption
from .doctor import BackendOption, use
from .models import MemoryOption, ThreadsOption
from .options import HomeOption, JsonOption
from .output import show
from .render_inspect import inspected
from .settings import settings


def inspect(
    context: typer.Context,
    given: Annotated[
        str | None,
        typer.Argument(
            metavar="[ID]",
            help="Start of a contribution's id; all of the space if left out.",
            show_default=False,
            autocompletion=completion.contributions,
        ),
    ] = None,
    *,
    space: AnywhereOption = None,
    threads: ThreadsOption = None,
    memory: MemoryOption = None,
    backend: BackendOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Tell what stands out of contributions, beside their base and each other.

    Distance, direction, copies, directions of the weights, and what makes a model
    unmergeable. It changes nothing, and no finding is no proof of good.
    """
    from crdtmerge.sizes import size_of

    chosen = settings(context, home, as_json=as_json)
    asked = {
        "id": given,
        "space": space,
        "threads": threads,
        "memory": None if memory is None else size_of(memory),
    }
    use(backend)
    facts = executor.read(chosen.home, "inspect", asked)
    show(facts, inspected, as_json=chosen.as_json)
