"""What a home keeps of its resolves to make the next ones cheaper, and what that will save.

Owns where sums lie in a home, when they may be used, and the answer of `resolve --explain`.
Does not own the memo's file (`nodes.store.memo`), the cost model or the forecast
(`crdtmerge.resolve`), nor what is collected (`nodes.upkeep.sums`).
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from crdtmerge.bodies import SpaceId
from crdtmerge.errors import BadInputError, LocalError
from crdtmerge.formats.journal import noted_in
from crdtmerge.formats.shards import ModelLayout
from crdtmerge.formats.sums import SumsFolder
from crdtmerge.recipe import Recipe
from crdtmerge.resolve.cost import Choice, choose
from crdtmerge.resolve.forecast import Forecast, forecast
from crdtmerge.resolve.incremental import SumsStore
from crdtmerge.resolve.output import Output
from crdtmerge.resolve.plan import Plan
from crdtmerge.resolve.reading import TensorSource
from crdtmerge.resolve.reuse import Before

from ..store.memo import HomeMemo
from ..upkeep.sums import begin, folder_of
from . import arguments as given
from .live import Answer, Arguments

ROOM_SHARE: Final = 8
"""New sums may take one of so many bytes that are free once the model is written."""
CHOICES: Final = ("auto", "never")


def sums_of(asked: Arguments) -> bool:
    """Tell whether sums may be kept and used."""
    wanted = given.optional_text(asked, "sums") or "auto"
    if wanted not in CHOICES:
        raise BadInputError(f"{wanted!r} is none of {', '.join(CHOICES)}")
    return wanted == "auto"


@dataclass(frozen=True, slots=True)
class Keeping:
    """What one resolve of a space may use and keep.

    `shared` tells that it is the merge of the space, and no exploration: sums are of it.
    """

    home: Path
    space: SpaceId
    recipe: Recipe
    shared: bool
    wanted: bool

    @property
    def memo(self) -> HomeMemo:
        """The memo of the home."""
        return HomeMemo(self.home)

    @contextmanager
    def sums(
        self, plan: Plan, source: TensorSource, size: int
    ) -> Iterator[tuple[SumsStore, Choice] | None]:
        """Lend the kept sums and the choice what is made of them, if there is any.

        Another process that uses them, or a disk that refuses, is no reason to fail: the
        model is made without.
        """
        if not self.choice(plan, source, size).ways:
            yield None
            return
        try:
            folder = SumsFolder(begin(self.home, self.space, self.recipe))
        except (LocalError, OSError):
            yield None
            return
        with folder:
            choice = self.choice(plan, source, size, folder)
            yield (folder, choice) if choice.ways else None

    def choice(
        self,
        plan: Plan,
        source: TensorSource,
        size: int,
        folder: SumsFolder | None = None,
    ) -> Choice:
        """Return which outputs are made of sums; `size` is that of the model."""
        if not self.wanted or not self.shared:
            return choose(plan, source, None)
        path = folder_of(self.home, self.space)
        found = folder or SumsFolder(path, write=False)
        free = max(0, shutil.disk_usage(self.home).free - size)
        return choose(plan, source, found, room=free // ROOM_SHARE)

    def forecast(
        self, plan: Plan, source: TensorSource, output: Output, layout: ModelLayout
    ) -> Answer:
        """Return what resolving will come to; nothing is written."""
        choice = self.choice(plan, source, layout.size)
        folder = output.folder(layout)
        begun = folder.begun()
        noted = noted_in(begun, layout.stamp) if begun else {}
        lasts = [kept.last.task for kept in choice.kept.values()]
        before = Before.of(plan, self.memo, noted, lasts)
        found = forecast(plan, source, layout, before, choice)
        needed, free = folder.room()
        return {
            "out": str(output.out),
            "explain": True,
            **_work(found),
            "sums": _sums(choice, found, len(plan.contributions)),
            "disk": {"needed_bytes": needed, "free_bytes": free},
            "memory": {"bytes": found.memory, "tensor": found.memory_tensor},
            "contributions": [content.hex() for content in plan.contents],
            "recipe": plan.recipe.describe(),
        }


def _work(found: Forecast) -> Answer:
    tally, reads = found.tally, found.reads
    there = tally.reused_bytes + tally.kept_bytes
    places = sorted(found.places.items())
    return {
        "read": {"base": reads.base, "contributions": reads.contributions},
        "read_bytes": reads.total + there + found.sums_read,
        "computed": {"tensors": tally.computed, "bytes": tally.computed_bytes},
        "tasks": tally.tasks,
        "reused": {
            "tensors": tally.reused,
            "bytes": tally.reused_bytes,
            "from": [{"folder": str(path), "bytes": size} for path, size in places],
        },
        "resumed": {"tensors": tally.kept, "bytes": tally.kept_bytes},
        "written_bytes": tally.computed_bytes + tally.reused_bytes,
    }


def _sums(choice: Choice, found: Forecast, count: int) -> Answer:
    """Return what kept sums do here, and from how many contributions on they pay."""
    return {
        "tensors": found.tally.summed,
        "read_bytes": found.sums_read,
        "written_bytes_max": found.sums_written,
        "contributions": count,
        "pays_at": choice.pays_at,
        "reason": choice.reason,
    }
