"""The commands of `recipe`: set, show, check, steps.

Owns their options. Does not own what they do (`operations.recipes`, `checking`).
"""

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from . import completion, executor, render_check, render_records, wording
from .options import (
    HomeOption,
    JsonOption,
    MissingOption,
    ParamOption,
    SpaceOption,
    pairs,
)
from .output import say, say_json, show
from .settings import settings

SEED_SCOPE = "set"

BudgetOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        help="What a resolve may read, such as 20GiB: the task vectors that matter least"
        " are left out, the same everywhere; everything if left out.",
        show_default=False,
    ),
]

StepOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        metavar="STEP",
        help="A step on task vectors; repeat for more, in order. Its parameters are"
        " --param STEP.K=V.",
        show_default=False,
        autocompletion=completion.steps,
    ),
]


def set_recipe(
    context: typer.Context,
    strategy: Annotated[
        str | None,
        typer.Argument(
            help="How it is merged; see `crdtmerge strategies`.",
            show_default=False,
            autocompletion=completion.strategies,
        ),
    ] = None,
    *,
    file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A recipe in YAML or TOML, in place of all other words about it.",
            show_default=False,
        ),
    ] = None,
    param: ParamOption = None,
    pre: StepOption = None,
    post: StepOption = None,
    weight: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SELECTOR=W",
            help="A weight in place of the contributions' own; SELECTOR is content:ID,"
            " author:ID or tag:TAG. Repeat for more.",
            show_default=False,
            autocompletion=completion.selectors,
        ),
    ] = None,
    rule: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATTERN:K=V",
            help="Another value for the tensors that a pattern fits; of several that"
            " fit, the last counts.",
            show_default=False,
        ),
    ] = None,
    output_dtype: Annotated[
        str | None,
        typer.Option(
            metavar="DTYPE",
            help="F64, F32, BF16, F16, F8_E4M3 or F8_E5M2; the base's own if left out.",
            show_default=False,
            autocompletion=completion.dtypes,
        ),
    ] = None,
    missing: MissingOption = None,
    io_budget: BudgetOption = None,
    seed_scope: Annotated[
        str,
        typer.Option(
            metavar="SCOPE",
            help="set: random masks change with the set; contribution: with each one's"
            " own content alone.",
        ),
    ] = SEED_SCOPE,
    space: SpaceOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Set how a space is merged, for everybody in it.

    What is left out takes the strategy's default, not what the space had before.
    """
    chosen = settings(context, home, as_json=as_json)
    extras = _extras(missing=missing, io_budget=io_budget)
    words = (strategy, param, pre, post, weight, rule, output_dtype, extras)
    if file is not None:
        wording.refuse_beside_file("--file", [*words, seed_scope != SEED_SCOPE])
        asked = wording.of_file(file)
    elif strategy is None:
        raise typer.BadParameter("give a STRATEGY, or --file FILE")
    else:
        asked = {
            "strategy": strategy,
            "params": pairs(param),
            "pre": list(pre or ()),
            "post": list(post or ()),
            "rules": [*wording.weights(weight or ()), *wording.rules(rule or ())],
            "output_dtype": output_dtype,
            "seed_scope": seed_scope,
            "extras": extras,
        }
    facts = executor.write(chosen, "recipe_set", {**asked, "space": space})
    show(facts, render_records.recipe_was_set, as_json=chosen.as_json)


def _extras(**given: str | None) -> dict[str, str]:
    return {name: text for name, text in given.items() if text is not None}


def show_recipe(
    context: typer.Context,
    space: SpaceOption = None,
    home: HomeOption = None,
    *,
    yaml: Annotated[
        bool,
        typer.Option(
            "--yaml", help="Print the recipe as a file for `recipe set --file`."
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show how a space is merged, and recipes that were set concurrently."""
    chosen = settings(context, home, as_json=as_json)
    facts = executor.read(chosen.home, "recipe_show", {"space": space})
    if yaml and not chosen.as_json and facts["yaml"] is not None:
        say(str(facts["yaml"]).rstrip("\n"))
        return
    show(facts, render_records.recipe, as_json=chosen.as_json)


def check_recipe(
    context: typer.Context,
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="[FILE]",
            help="A recipe in YAML or TOML; the space's own if left out.",
            show_default=False,
        ),
    ] = None,
    *,
    base: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Explain FILE for this model, with no home and no space.",
            show_default=False,
        ),
    ] = None,
    tensor: Annotated[
        str | None,
        typer.Option(
            metavar="PATTERN", help="Only the tensors that fit.", show_default=False
        ),
    ] = None,
    space: SpaceOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Explain what each tensor will get from a recipe, and what in it is idle."""
    chosen = settings(context, home, as_json=as_json)
    asked = wording.of_file(file) if file is not None else {}
    asked |= {"tensor": tensor}
    if base is None:
        facts = executor.read(chosen.home, "recipe_check", {**asked, "space": space})
    elif file is None or space is not None:
        message = "it takes a FILE, and no space"
        raise typer.BadParameter(message, param_hint="--base")
    else:
        facts = executor.check({**asked, "base": str(base.absolute())})
    show(facts, render_check.checked, as_json=chosen.as_json)


def list_steps(context: typer.Context, *, as_json: JsonOption = False) -> None:
    """List the steps that may stand before or after a strategy."""
    from crdtmerge.strategies.steps import STEPS

    facts = [STEPS[name].describe() for name in sorted(STEPS)]
    if settings(context, as_json=as_json).as_json:
        say_json(facts)
    else:
        say(render_check.steps(facts))
