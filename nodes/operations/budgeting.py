"""I/O budgets in a home: what stays unread, by norms that the home keeps.

Owns where norms lie, and what is told of a budget. Does not own the choice
(`crdtmerge.resolve.budget`) nor the measuring (`crdtmerge.resolve.norms`).
"""

from collections.abc import Sequence
from concurrent.futures import Executor

from crdtmerge.formats.progress import Report
from crdtmerge.manifest import Manifest
from crdtmerge.recipe import Recipe
from crdtmerge.resolve.budget import account_of
from crdtmerge.resolve.ground import ON_BASE, Footing
from crdtmerge.resolve.memory import MEMORY_DEFAULT
from crdtmerge.resolve.norms import Measuring, unread_within
from crdtmerge.resolve.plan import Plan, Unread
from crdtmerge.resolve.settings import Contribution

from ..home import Home
from ..store.norms import FileNorms
from .live import Answer


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
    with FileNorms(home.path) as store:
        measuring = Measuring(home.blobs, store, executor, threads, memory, report)
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
