"""The command `strategies`: what can merge models here, of this package and of others.

Owns its options and what it gathers. Does not own declarations (`crdtmerge.strategies`),
nor how they are shown (`render_strategies`).
"""

from typing import TYPE_CHECKING, Annotated

import typer

from . import completion, render_strategies
from .options import JsonOption
from .output import say, say_json
from .settings import settings

if TYPE_CHECKING:
    from crdtmerge.strategies import Strategy

Facts = dict[str, object]


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
    digest: Annotated[
        bool,
        typer.Option(
            "--digest",
            help="Print what its trials give: a plug-in declares this digest.",
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """List the merge strategies, or show all that one of them declares.

    Those of other packages are listed too, and why any of these is refused.
    """
    chosen = settings(context, as_json=as_json)
    if digest:
        if name is None:
            raise typer.BadParameter("a digest is of one strategy: name it")
        found = _digest(name)
        if chosen.as_json:
            say_json(found)
        else:
            say(str(found["digest"]))
        return
    facts = [_one(name)] if name else _all()
    if chosen.as_json:
        say_json(facts)
    else:
        show = render_strategies
        say(show.strategy(facts[0]) if name else show.strategies(facts))


def _one(name: str) -> Facts:
    from crdtmerge.strategies import find

    return described(find(name))


def _all() -> list[Facts]:
    """Return all strategies: ours by name, then plug-ins, refused ones among them."""
    from crdtmerge.strategies import STRATEGIES, plugins

    facts = [described(STRATEGIES[name]) for name in sorted(STRATEGIES)]
    for found in plugins.listed():
        if found.strategy is not None:
            facts.append(described(found.strategy))
        else:
            facts.append(
                {
                    "full_name": found.full_name,
                    "package": found.package,
                    "refused": found.reason,
                }
            )
    return facts


def described(strategy: "Strategy") -> Facts:
    """Return a declaration; `package` is None for our own strategies."""
    from crdtmerge.strategies import plugins

    package = plugins.package_of(strategy.full_name) if "." in strategy.name else None
    return {**strategy.describe(), "package": package, "refused": None}


def _digest(name: str) -> Facts:
    """Return the trials' digest of a strategy, even of a plug-in that is refused for it."""
    from crdtmerge.strategies import find, plugins
    from crdtmerge.strategies.trials import trial_digest

    added = plugins.named(name)
    if added:
        return {"full_name": added, "digest": plugins.digest_of(added)}
    strategy = find(name)
    return {"full_name": strategy.full_name, "digest": trial_digest(strategy)}
