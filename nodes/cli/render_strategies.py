"""Strategies as people read them: a list in groups, and one with all that it declares.

Owns the words, the groups and the order. Does not own the facts (`catalogue`).
"""

from collections.abc import Sequence
from typing import Final, cast

from .output import plain, table
from .render import Facts, several

_REFUSED: Final = "refused"
_WHOLE: Final = "of whole models, no base is needed"
_CHANGES: Final = "of changes to a base"
_EVIDENCE: Final = "with evidence beside the models"
_ADDED: Final = "of other packages"
GROUPS: Final = (_WHOLE, _CHANGES, _EVIDENCE, _ADDED)
"""The titles of the list, in order."""


def strategies(found: Sequence[Facts]) -> list[str]:
    """Return the lines of `strategies` without a name: one for each, in groups."""
    shown = [facts for facts in found if not facts[_REFUSED]]
    head, *lines = table(("STRATEGY", "SUMMARY"), [_row(facts) for facts in shown])
    groups: dict[str, list[str]] = {title: [] for title in GROUPS}
    for facts, line in zip(shown, lines, strict=True):
        groups[group(facts)].append(line)
    told = [
        part
        for title, under in groups.items()
        if under
        for part in ("", f"{title}:", *under)
    ]
    return [head, *told, *_refusals(found)]


def group(facts: Facts) -> str:
    """Return the title that a strategy stands under."""
    if facts["package"]:
        return _ADDED
    if facts["evidence"]:
        return _EVIDENCE
    return _CHANGES if facts["needs_base"] else _WHOLE


def _row(facts: Facts) -> tuple[object, str]:
    """Return name and summary, with what is unusual about the strategy."""
    names = ", ".join(cast("Sequence[str]", facts["aliases"]))
    remarks = [
        f"also {names}" if names else "",
        "platform" if facts["class"] == "platform" else "",
        str(facts["package"] or ""),
    ]
    said = "; ".join(remark for remark in remarks if remark)
    return facts["full_name"], f"{facts['summary']}{f' ({said})' if said else ''}"


def _refusals(found: Sequence[Facts]) -> list[str]:
    lines = [
        f"{facts['full_name']} of {facts['package']}: {plain(facts[_REFUSED])}"
        for facts in found
        if facts[_REFUSED]
    ]
    return ["", "refused:", *lines] if lines else []


def strategy(facts: Facts) -> list[str]:
    """Return the lines of `strategies NAME`: its declaration, and its parameters."""
    aliases = ", ".join(cast("Sequence[str]", facts["aliases"])) or "none"
    head, *rows = parameters(facts)
    return [
        f"{facts['full_name']} ({facts['class']}), aliases: {aliases}",
        plain(facts["summary"]),
        plain(facts["paper"]),
        "",
        *(f"{name:10}{text}" for name, text in declared(facts)),
        *(["", *table(head, rows)] if rows else ["", "no parameters"]),
    ]


def parameters(facts: Facts) -> list[tuple[str, ...]]:
    """Return the table of parameters, its head first."""
    rows = [
        (
            str(p["name"]),
            _type(p),
            str(p["default"]),
            str(p["mergekit_default"] or "-"),
            accepted(p),
            _reach(p),
            str(p["help"]),
        )
        for p in several(facts["parameters"])
    ]
    head = "PARAMETER", "TYPE", "DEFAULT", "MERGEKIT", "RANGE", "PER", "MEANING"
    return [head, *rows]


def declared(facts: Facts) -> list[tuple[str, str]]:
    """Return what a strategy declares, a line for each."""
    base = "needed" if facts["needs_base"] else "not needed"
    if facts["prefers_base"]:
        base = "not needed; with one it is another formula"
    own = "crdtmerge" if facts["package"] is None else plain(facts["package"])
    return [
        ("version", f"{facts['version']}, of {own}"),
        ("base", base),
        ("evidence", ", ".join(cast("Sequence[str]", facts["evidence"])) or "none"),
        ("models", _fewest(facts)),
        ("order", _order(facts)),
        ("draws", "from the seed" if facts["draws"] else "nothing"),
        (
            "scope",
            "whole model, then tensors" if facts["whole"] else "each tensor alone",
        ),
        ("memory", str(cast("Facts", facts["memory"])["text"])),
    ]


def _fewest(facts: Facts) -> str:
    """Say how many contributions there must be."""
    return f"{facts['fewest']} or more" if facts["fewest"] != 1 else "any number"


def _order(facts: Facts) -> str:
    """Say what the order of contributions does."""
    drawn = "part of the method; drawn from the seed, no author chooses it"
    return drawn if facts["order_dependent"] else "changes nothing"


def _type(parameter: Facts) -> str:
    kinds = {"decimal": "number", "integer": "whole number"}
    return kinds.get(str(parameter["kind"]), str(parameter["kind"]))


def accepted(parameter: Facts) -> str:
    """Say which values a parameter takes: the bounds of a number, or all there are."""
    numeric = parameter["kind"] in {"decimal", "integer"}
    between = " to " if numeric else " or "
    return between.join(cast("Sequence[str]", parameter["range"]))


def _reach(parameter: Facts) -> str:
    """Say what may have a value of its own: a tensor by rule, a model of a merge."""
    if parameter["whole"]:
        return "merge"
    return "tensor, model" if parameter["per_model"] else "tensor"
