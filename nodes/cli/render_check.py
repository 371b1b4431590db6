"""What a recipe comes to, as people read it: groups of tensors that get the same.

Owns the words, and how many names are one line. Does not own the facts
(`operations.checking`).
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, cast

from . import render
from .output import plain, short, table
from .render import Facts, counted, several, size
from .render_strategies import accepted

NAMES_SHOWN: Final = 3
CONTRIBUTIONS_SHOWN: Final = 8
_NUMBER: Final = re.compile(r"(?<=\.)[0-9]+(?=\.|$)|^[0-9]+(?=\.)")


def checked(facts: Facts) -> list[str]:
    """Return the lines of `recipe check`."""
    recipe, groups = cast("Facts", facts["recipe"]), several(facts["groups"])
    tensors = several(facts["tensors"])
    lines = [f"recipe {render.recipe(recipe)}", *(f"  {x}" for x in details(recipe))]
    lines += [f"  {'class':13} {facts['class']}", *_memory(facts["memory"])]
    lines += ["", f"{counted(len(tensors), 'tensor')}, {counted(len(groups), 'group')}"]
    members: dict[object, list[Facts]] = {}
    for item in tensors:
        members.setdefault(item["group"], []).append(item)
    for group in groups:
        lines += ["", *_group(group, members[group["group"]])]
    return lines


def details(recipe: Facts) -> list[str]:
    """Return what a recipe says beside its strategy and parameters."""
    lines = [
        f"{name:13} {plain(' '.join(cast('Sequence[str]', recipe[key])))}"
        for key, name in (("pre", "steps before"), ("post", "steps after"))
        if recipe.get(key)
    ]
    for number, rule in enumerate(several(recipe["rules"]), start=1):
        models = f" of {plain(shortened(rule['models']))}" if rule.get("models") else ""
        values = pairs(cast("Facts", rule["parameters"]))
        lines.append(f"rule {number}: {plain(rule['pattern'])}{models}: {values}")
    dtype, scope = recipe["output_dtype"] or "as the base", recipe["seed_scope"]
    lines += [f"{'output dtype':13} {dtype}", f"{'seed scope':13} {scope}"]
    extras = cast("Facts", recipe.get("extras", {}))
    return lines + [
        f"{plain(name.replace('_', ' ')):13} {_extra(name, plain(text))}"
        for name, text in extras.items()
    ]


def _extra(name: str, text: str) -> str:
    """Return what a recipe says beyond the rest; a size as people say it, too."""
    is_size = name == "io_budget" and re.fullmatch("[0-9]{5,15}", text)
    return f"{size(int(text))} ({text} bytes)" if is_size else text


def steps(found: Sequence[Facts]) -> list[str]:
    """Return the lines of `recipe steps`: a line for each parameter of a step."""
    rows = []
    for step in found:
        where = " ".join(cast("Sequence[str]", step["stages"]))
        head = (step["full_name"], where, step["summary"])
        own = [
            (p["name"], p["default"], accepted(p)) for p in several(step["parameters"])
        ]
        first, *rest = own or [("-", "-", "-")]
        rows.append((head[0], head[1], *first, head[2]))
        rows += [("", "", *line, "") for line in rest]
    return table(("STEP", "STANDS", "PARAMETER", "DEFAULT", "RANGE", "SUMMARY"), rows)


def pairs(parameters: Facts) -> str:
    """Return parameters on one line."""
    return plain(" ".join(f"{name}={value}" for name, value in parameters.items()))


def shortened(selector: object) -> str:
    """Return a selector with an id as people are shown it."""
    kind, colon, text = str(selector).partition(":")
    return f"{kind}{colon}{text if kind == 'tag' else short(text)}"


def _memory(value: object) -> list[str]:
    if value is None:
        return []
    memory = cast("Facts", value)
    steps = f", steps {size(memory['steps'])}" if memory["steps"] else ""
    bound = f"reads {size(memory['reads'])}, strategy {size(memory['strategy'])}{steps}"
    return [f"  {'largest task':13} {bound} ({plain(memory['tensor'])})"]


def _group(group: Facts, members: Sequence[Facts]) -> list[str]:
    names = abbreviated(str(item["name"]) for item in members)
    more = len(names) - NAMES_SHOWN
    listed = ", ".join(map(plain, names[:NAMES_SHOWN]))
    listed += f" and {more} more kinds" if more > 0 else ""
    head = f"{counted(group['count'], 'tensor')}: {listed}"
    if not group["merged"]:
        return [head, "  copied from the base"]
    rules = cast("Sequence[int]", group["rules"])
    parameters = cast("Facts", group["parameters"])
    return [
        head,
        f"  {'parameters':13} {pairs(parameters) or 'none'}",
        *([f"  {'rules':13} {', '.join(map(str, rules))}"] if rules else []),
        *_weights(several(group["contributions"])),
    ]


def _weights(found: Sequence[Facts]) -> list[str]:
    lines = []
    for item in found[:CONTRIBUTIONS_SHOWN]:
        own = pairs(cast("Facts", item.get("parameters", {})))
        lines.append(f"  {short(item['content']):13} weight {item['weight']} {own}")
    more = len(found) - CONTRIBUTIONS_SHOWN
    lines += [f"  and {counted(more, 'contribution')} more"] if more > 0 else []
    return [line.rstrip() for line in lines]


def abbreviated(names: Iterable[str]) -> list[str]:
    """Return names with their first number left out, those alike as one, in order.

    `a.0.b` and `a.1.b` are one `a.{0..1}.b`; numbers with gaps are listed as ranges.
    """
    kinds: dict[str, list[int]] = {}
    for name in names:
        match = _NUMBER.search(name)
        if match is None:
            kinds[name] = []
        else:
            kind = f"{name[: match.start()]}\0{name[match.end() :]}"
            kinds.setdefault(kind, []).append(int(match[0]))
    return [kind.replace("\0", _numbers(found)) for kind, found in _sorted(kinds)]


def _sorted(kinds: Mapping[str, list[int]]) -> list[tuple[str, list[int]]]:
    return [(kind, sorted(found)) for kind, found in kinds.items()]


def _numbers(found: Sequence[int]) -> str:
    if len(found) == 1:
        return str(found[0])
    ranges: list[list[int]] = []
    for number in found:
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    texts = [str(a) if a == b else f"{a}..{b}" for a, b in ranges]
    return f"{{{','.join(texts)}}}"
