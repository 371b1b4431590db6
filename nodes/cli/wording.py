"""Recipes on a command line: rules and weights in short, or a file that says all.

Owns these spellings. Does not own the words of files (`crdtmerge.formats.recipe_file`),
nor what a recipe may be.
"""

from collections.abc import Iterable
from pathlib import Path

import typer

Rules = list[dict[str, object]]
EVERYWHERE = "*"
_OF_MODELS = ("content:", "author:", "tag:")


def of_file(path: Path) -> dict[str, object]:
    """Return what a recipe file asks for, as the verbs take it.

    Raises:
        BadInputError: it cannot be read, or asks for what no recipe can.
    """
    from crdtmerge.formats.recipe_file import read_recipe_file

    return read_recipe_file(path)


def rules(texts: Iterable[str]) -> Rules:
    """Return rules; a pattern may hold colons, a parameter does not.

    Neighbours with one pattern are one rule.

    Raises:
        typer.BadParameter: one is not of the form PATTERN:K=V, or selects models.
    """
    found: Rules = []
    for text in texts:
        pattern, colon, pair = text.rpartition(":")
        name, equals, value = (part.strip() for part in pair.partition("="))
        if not (colon and pattern.strip() and equals and name):
            message = f"{text!r} is not of the form PATTERN:K=V"
            raise typer.BadParameter(message, param_hint="--rule")
        if pattern.strip().startswith(_OF_MODELS):
            message = (
                f"{pattern.strip()!r} selects models, and a rule given so selects tensors:"
                " say it in a recipe file, or a weight with --weight"
            )
            raise typer.BadParameter(message, param_hint="--rule")
        if not found or found[-1]["tensors"] != pattern.strip():
            found.append({"tensors": pattern.strip(), "parameters": {}})
        parameters = found[-1]["parameters"]
        assert isinstance(parameters, dict), "made above"
        if name in parameters:
            message = f"{name!r} is given for {pattern!r} twice"
            raise typer.BadParameter(message, param_hint="--rule")
        parameters[name] = value
    return found


def weights(texts: Iterable[str]) -> Rules:
    """Return rules that give contributions a weight in all tensors.

    Raises:
        typer.BadParameter: one is not of the form SELECTOR=W, or a selector stands twice.
    """
    found: Rules = []
    for text in texts:
        selector, equals, weight = (part.strip() for part in text.partition("="))
        if not (selector and equals and weight):
            message = f"{text!r} is not of the form SELECTOR=W"
            raise typer.BadParameter(message, param_hint="--weight")
        if any(rule["models"] == selector for rule in found):
            message = f"the weight of {selector!r} is given twice"
            raise typer.BadParameter(message, param_hint="--weight")
        parameters = {"weight": weight}
        found.append(
            {"tensors": EVERYWHERE, "models": selector, "parameters": parameters}
        )
    return found


def refuse_beside_file(option: str, given: Iterable[object]) -> None:
    """Refuse other words about a recipe where a file says all of it.

    Raises:
        typer.BadParameter: there are such.
    """
    if any(given):
        message = "the file says all of the recipe: nothing else can be given for it"
        raise typer.BadParameter(message, param_hint=option)
