"""I/O budgets in a home: what stays unread, by norms that the home's memo keeps.

Owns that norms are measures of the memo, and what is told of a budget. Does not own the
choice (`crdtmerge.resolve.budget`) nor the measuring (`crdtmerge.resolve.norms`).
"""

import threading
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field

from crdtmerge.formats.progress import Report
from crdtmerge.manifest import Manifest
from crdtmerge.recipe import Recipe
from crdtmerge.resolve.budget import account_of
from crdtmerge.resolve.ground import ON_BASE, Footing
from crdtmerge.resolve.memo import Memo
from crdtmerge.resolve.memory import MEMORY_DEFAULT
from crdtmerge.resolve.norms import Measuring, unread_within
from crdtmerge.resolve.plan import Plan, Unread
from crdtmerge.resolve.settings import Contribution

from ..home import Home
from ..store.memo import HomeMemo
from .live import Answer


@dataclass(frozen=True, slots=True)
class _Norms:
    """Norms as measures of one number; a `crdtmerge.resolve.norms.NormStore`."""

    memo: Memo
    lock: threading.Lock = field(default_factory=threading.Lock)

    def load(self, keys: Iterable[bytes]) -> dict[bytes, float]:
        """Return the norms that are kept of these."""
        return {key: norm for key, (norm,) in self.memo.measures(keys).items()}

    def save(self, norms: Mapping[bytes, float]) -> None:
        """Keep these norms."""
        with self.lock:  # threads measure side by side, and none waits for the file
            self.memo.keep({}, {key: (norm,) for key, norm in norms.items()})


def unread_in(
    home: Home,
    recipe: Recipe,
    base: Manifest,
    contributions: Sequence[Contribution],
    *,
    footing: Footing = ON_BASE,
    executor: Executor | None = None,
    threads: int = 1,
    memory: int = MEMORY_DEFAULT,
    report: Report | None = None,
) -> Unread | None:
    """Return what the recipe's I/O budget leaves unread; None if it has no budget.

    Raises:
        BadInputError: the budget does not suffice for the base alone.
        FaultyContributionError: a contribution's tensor is no finite task vector.
        CrdtMergeError: whatever planning and reading raise.
    """
    if not recipe.io_budget:
        return None
    norms = _Norms(HomeMemo(home.path))
    measuring = Measuring(home.blobs, norms, executor, threads, memory, report)
    return unread_within(recipe, base, contributions, measuring, footing)


def told_of_budget(plan: Plan) -> Answer:
    """Return what there is to say of a plan's I/O budget; nothing if it has none."""
    if not plan.recipe.io_budget:
        return {}
    left = zip(plan.contents, plan.unread, strict=True)
    unread = {content.hex(): sorted(found) for content, found in left if found}
    return {
        "io_budget": {
            "bytes": plan.recipe.io_budget,
            "reads": account_of(plan).total,
            "unread_bytes": sum(
                c.size for found in plan.unread for c in found.values()
            ),
            "unread": unread,
        }
    }
