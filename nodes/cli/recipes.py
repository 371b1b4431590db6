"""The commands `recipe set` and `recipe show`.

Owns their options. Does not own what they do (`operations.recipes`).
"""

from collections.abc import Iterable
from typing import Annotated

import typer

from . import completion, render_records
from .executor import read, write
from .options import HomeOption, JsonOption, ParamOption, SpaceOption, pairs
from .output import show
from .settings import settings


def set_recipe(
    context: typer.Context,
    strategy: Annotated[
        str,
        typer.Argument(
            help="How it is merged; see `crdtmerge strategies`.",
            autocompletion=completion.strategies,
        ),
    ],
    *,
    param: ParamOption = None,
    rule: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATTERN:K=V",
            help="Another value for tensors whose name fits the shell pattern; of several"
            " that fit, the last counts.",
            show_default=False,
        ),
    ] = None,
    output_dtype: Annotated[
        str | None,
        typer.Option(
            metavar="DTYPE",
            help="F64, F32, BF16, F16, F8_E4M3 or F8_E5M2; the base's own if left out.",
            show_default=False,
        ),
    ] = None,
    seed_scope: Annotated[
        str,
        typer.Option(
            metavar="SCOPE",
            help="set: random masks change with the set; contribution: with each one's"
            " own content alone.",
        ),
    ] = "set",
    space: SpaceOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Set how a space is merged, for everybody in it.

    What is left out takes the strategy's default, not what the space had before.
    """
    chosen = settings(context, home, as_json=as_json)
    asked = {
        "strategy": strategy,
        "params": pairs(param),
        "rules": _rules(rule or ()),
        "output_dtype": output_dtype,
        "seed_scope": seed_scope,
        "space": space,
    }
    facts = write(chosen, "recipe_set", asked)
    show(facts, render_records.recipe_was_set, as_json=chosen.as_json)


def _rules(texts: Iterable[str]) -> list[dict[str, object]]:
    """Return rules; a pattern may hold colons, a parameter does not.

    Neighbours with one pattern are one rule.
    """
    rules: list[dict[str, object]] = []
    for text in texts:
        pattern, colon, pair = text.rpartition(":")
        name, equals, value = (part.strip() for part in pair.partition("="))
        if not (colon and pattern.strip() and equals and name):
            message = f"{text!r} is not of the form PATTERN:K=V"
            raise typer.BadParameter(message, param_hint="--rule")
        if not rules or rules[-1]["tensors"] != pattern.strip():
            rules.append({"tensors": pattern.strip(), "parameters": {}})
        parameters = rules[-1]["parameters"]
        assert isinstance(parameters, dict), "made above"
        if name in parameters:
            message = f"{name!r} is given for {pattern!r} twice"
            raise typer.BadParameter(message, param_hint="--rule")
        parameters[name] = value
    return rules


def show_recipe(
    context: typer.Context,
    space: SpaceOption = None,
    home: HomeOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Show how a space is merged, and recipes that were set concurrently."""
    chosen = settings(context, home, as_json=as_json)
    facts = read(chosen.home, "recipe_show", {"space": space})
    show(facts, render_records.recipe, as_json=chosen.as_json)
