"""The commands `evaluation add` and `evaluation list`.

Owns their options, and the file that holds several evaluations. Does not own what they do
(`operations.evaluating`).
"""

import json
import sys
from pathlib import Path
from typing import Annotated, Final, NoReturn, TypeAlias

import typer

from . import completion, render_evaluations
from .contributions import AnywhereOption
from .executor import read, write
from .options import HomeOption, JsonOption
from .output import show
from .settings import settings

STDIN: Final = "-"
FILE_BYTES_MAX: Final = 2**20
FORM: Final = (
    'a list such as [{"subject": "1a2b3c4d", "metric": "accuracy", "data": "digits-v1",'
    ' "result": 0.93}]'
)

Word: TypeAlias = str | None


def add(
    context: typer.Context,
    subject: Annotated[
        str | None,
        typer.Argument(
            metavar="[CONTRIBUTION|MERGE-ID]",
            help="What was measured: the start of an id; model:ID of any merged model.",
            show_default=False,
            autocompletion=completion.contributions,
        ),
    ] = None,
    *,
    metric: Annotated[
        Word,
        typer.Option(
            metavar="M", help="A word, such as accuracy or loss.", show_default=False
        ),
    ] = None,
    data: Annotated[
        Word,
        typer.Option(
            metavar="D",
            help="A word that names data and its version, such as digits-v1.",
            show_default=False,
        ),
    ] = None,
    result: Annotated[
        Word,
        typer.Option(
            metavar="R", help="A decimal, such as 0.93 or -2.", show_default=False
        ),
    ] = None,
    note: Annotated[
        Word, typer.Option(metavar="TEXT", help="A remark.", show_default=False)
    ] = None,
    file: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="FILE",
            help="Several from JSON, all or none: a list of objects with subject, metric,"
            " data, result and maybe note. - reads them from stdin.",
            show_default=False,
        ),
    ] = None,
    space: AnywhereOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say how well a contribution or merged model did; any member may.

    Your last word on a subject, metric and data counts. Strategies with
    source=evaluations read the median over members.
    """
    chosen = settings(context, home, as_json=as_json)
    words = {"metric": metric, "data": data, "result": result}
    if file is not None:
        if any(word is not None for word in (subject, note, *words.values())):
            message = "it says all by itself: leave out the rest"
            raise typer.BadParameter(message, param_hint="--from")
        items = _of_file(file)
    else:
        items = [_of_words(subject, words, note)]
    facts = write(chosen, "evaluation_add", {"items": items, "space": space})
    show(facts, render_evaluations.added, as_json=chosen.as_json)


def _of_words(subject: Word, words: dict[str, Word], note: Word) -> dict[str, str]:
    if subject is None:
        raise typer.BadParameter("give a CONTRIBUTION or MERGE-ID, or --from FILE")
    item = {"subject": subject, "note": note or ""}
    for name, word in words.items():
        if word is None:
            raise typer.BadParameter("it is needed", param_hint=f"--{name}")
        item[name] = word
    return item


def _of_file(name: str) -> object:
    """Return what a file lists; numbers stay as they were written, digit for digit."""
    from crdtmerge.errors import BadInputError

    where = "stdin" if name == STDIN else name
    try:
        if name == STDIN:
            data = sys.stdin.buffer.read(FILE_BYTES_MAX + 1)
        else:
            with Path(name).open("rb") as opened:
                data = opened.read(FILE_BYTES_MAX + 1)
    except OSError as e:
        raise BadInputError(f"{where}: {e.strerror or e}") from e
    if len(data) > FILE_BYTES_MAX:
        raise BadInputError(f"{where} has more than {FILE_BYTES_MAX} bytes")
    try:
        found = json.loads(data, parse_float=str, parse_int=str, parse_constant=_never)
    except (ValueError, RecursionError) as e:
        message = f"{where} is no JSON that can be used: {e}"
        raise BadInputError(message, hint=FORM) from e
    if not isinstance(found, list):
        raise BadInputError(f"{where} holds no list", hint=FORM)
    return found


def _never(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number")


def listing(
    context: typer.Context,
    *,
    contribution: Annotated[
        str | None,
        typer.Option(
            metavar="ID",
            help="Only those of this contribution.",
            show_default=False,
            autocompletion=completion.contributions,
        ),
    ] = None,
    metric: Annotated[
        Word,
        typer.Option(metavar="M", help="Only by this metric.", show_default=False),
    ] = None,
    data: Annotated[
        Word, typer.Option(metavar="D", help="Only on this data.", show_default=False)
    ] = None,
    space: AnywhereOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """List who scored what, whether it counts, and the medians that strategies read."""
    chosen = settings(context, home, as_json=as_json)
    asked = {
        "contribution": contribution,
        "metric": metric,
        "data": data,
        "space": space,
    }
    facts = read(chosen.home, "evaluation_list", asked)
    show(facts, render_evaluations.listed, as_json=chosen.as_json)
