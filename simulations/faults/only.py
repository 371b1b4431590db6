"""Which strikes of a run are left: how a command line says them.

Owns the words of `--only`. Does not own what leaves a strike out (`dice`).
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import TypeAlias

from crdtmerge.errors import BadInputError

from .catalogue import FAULTS

Only: TypeAlias = Mapping[str, frozenset[int]]
"""By the kind of fault, the hits that strike, counted from 1; other kinds never do."""
NONE = "none"


def told_only(options: Iterable[str]) -> Only:
    """Return the strikes that options such as `loss:1,5` leave; `none` leaves none.

    Raises:
        BadInputError: one of them is not of this form, or there is no such kind.
    """
    found: defaultdict[str, set[int]] = defaultdict(set)
    for option in options:
        if option == NONE:
            continue
        name, _, numbers = option.partition(":")
        kind = name.replace("-", "_")
        hits = [int(n) for n in numbers.split(",") if n.isascii() and n.isdigit()]
        if len(hits) != numbers.count(",") + 1 or min(hits, default=0) < 1:
            hint = "for example loss:1,5: the first and the fifth that were drawn"
            raise BadInputError(f"{option!r} leaves no strike", hint=hint)
        if kind not in FAULTS:
            hint = f"known: {', '.join(FAULTS)}"
            raise BadInputError(f"no fault is called {name!r}", hint=hint)
        found[kind].update(hits)
    return {name: frozenset(found[name]) for name in FAULTS if name in found}


def only_options(only: Only) -> str:
    """Return the options of a command line that say these strikes exactly."""
    told = [
        f"{name}:{','.join(map(str, sorted(only[name])))}"
        for name in FAULTS
        if only.get(name)
    ]
    return " ".join(f"--only {option}" for option in told or [NONE])
