"""Measuring contributions: every tensor read once, each figure kept by what it is of.

Owns the order of the work, what of it is known already, and its bounds: bytes, memory,
threads. Does not own any figure (`products`, `spectra`, `symmetries`, `partners`), nor
where figures are kept (`Memo`). Nobody's word is taken for one: they are functions of
bytes that were verified, and equal on all machines.
"""

from collections.abc import Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from crdtmerge.digest import ContentId
from crdtmerge.errors import ContractError
from crdtmerge.formats.progress import Progress, Report
from crdtmerge.manifest import TensorEntry
from crdtmerge.numerics import Data, Floats, Items, Tau
from crdtmerge.resolve.memo import Memo
from crdtmerge.resolve.memory import MEMORY_DEFAULT
from crdtmerge.resolve.pool import Pool
from crdtmerge.resolve.reading import TensorSource
from crdtmerge.scrutiny.keeping import Kept
from crdtmerge.scrutiny.lines import VALUES_MAX
from crdtmerge.scrutiny.partners import (
    PART,
    Both,
    Pair,
    changes_of_products,
    groups_of,
    pairs_of,
)
from crdtmerge.scrutiny.products import GROUP_MAX, products_of
from crdtmerge.scrutiny.spectra import first_energy, has_spectrum
from crdtmerge.scrutiny.subjects import (
    Company,
    Reader,
    Subject,
    Weights,
    check_base,
    weights_of,
)
from crdtmerge.scrutiny.symmetries import FIGURES, Symmetry, symmetry_of

WORK: Final = "inspecting"

OTHERS_MIN: Final = 2
"""Others below which nobody can be told to stand out: of two, either may be odd."""

FAR: Final = 0.15
"""Distance from the base, over the base's length, from which transforms are looked for.
"""

PAIRS_SHARE: Final = 4
"""Of a bound on bytes read, the part that pairs may read beside it is one in so many."""

_FIXED: Final = 4 << 20
_PART: Final = 1 << 20
_SPECTRUM_BYTES: Final = 80
_LINES_BYTES: Final = 64


@dataclass(frozen=True, slots=True)
class Bounds:
    """What the work may take: bytes to read (None is all), memory, threads, who hears.

    Of bytes: so many of tensors, and a share of that for pairs.
    """

    read: int | None = None
    memory: int = MEMORY_DEFAULT
    executor: Executor | None = None
    threads: int = 1
    report: Report | None = None


@dataclass(slots=True)
class Measured:
    """What is known of a company; NaN is what was not measured.

    `products` is (tensors, n + 1, n + 1) with the base first, `energies` (n, tensors),
    `symmetries` (n, tensors, FIGURES), `partners` (n, pairs). `faulty` says of whom no
    figure can be had, and why. `read` counts bytes, `unpaired` pairs that a bound left out.
    """

    company: Company
    pairs: tuple[Pair, ...]
    products: Floats
    energies: Floats
    symmetries: Floats
    partners: Floats
    faulty: dict[ContentId, str] = field(default_factory=dict)
    read: int = 0
    unpaired: int = 0

    @property
    def looked_at(self) -> list[int]:
        """The tensors whose products are known, by their places."""
        subjects = enumerate(self.company.subjects, start=1)
        counted = [p for p, s in subjects if s.content not in self.faulty]
        table = self.products[:, [0, *counted]][:, :, [0, *counted]]
        unknown = np.isnan(table).any(axis=(1, 2))
        return [int(place) for place in np.flatnonzero(~unknown)]

    def distances(self, place: int) -> Floats:
        """Return the length of a task vector over the base's, by tensor; zero of zero."""
        base = self.products[:, 0, 0]
        own = self.products[:, place + 1, place + 1]
        found: Floats = np.sqrt(own / np.where(base > 0.0, base, 1.0))
        return np.where(
            (base > 0.0) | np.isnan(base), found, np.where(own > 0, np.inf, 0.0)
        )


def measure(
    company: Company,
    asked: Iterable[int],
    source: TensorSource,
    memo: Memo | None = None,
    bounds: Bounds | None = None,
) -> Measured:
    """Measure a company; transforms are looked for in those that are `asked` about.

    What is known already is not read again. With a bound on bytes, tensors are left out.

    Raises:
        CrdtMergeError: whatever reading raises.
    """
    work = _Work(company, sorted(asked), source, memo, bounds or Bounds())
    try:
        work.tensors()
        work.pairs()
    finally:
        work.keep()
    return work.found


class _Work:
    """One run: what is found, and what there is to do."""

    def __init__(
        self,
        company: Company,
        asked: Sequence[int],
        source: TensorSource,
        memo: Memo | None,
        bounds: Bounds,
    ) -> None:
        self._company = company
        self._asked = asked
        self._reader = Reader(source)
        self._bounds = bounds
        self._kept = Kept(company, memo)
        self._entries = company.tensors
        tensors = len(company.tensors)
        pairs = pairs_of(company)
        self.found = Measured(
            company,
            pairs,
            self._kept.products(),
            self._kept.of_each("energies", (tensors,)),
            self._kept.of_each("symmetries", (tensors, FIGURES)),
            self._kept.of_each("partners", (len(pairs),)),
        )
        self._total = self._done = 0

    def tensors(self) -> None:
        """Measure what is missing of each tensor."""
        todo = self._within([t for t in range(len(self._entries)) if self._lacks(t)])
        self._total = sum(map(self._bytes, todo))
        pool: Pool[int] = Pool(
            self._bounds.executor,
            self._bounds.threads,
            self._bounds.memory,
            self._memory,
        )
        for place, found in zip(
            todo, pool.run(self._tensor, todo, self._count), strict=True
        ):
            self._take(place, found)

    def pairs(self) -> None:
        """Measure the pairs of which both tensors lie far from the base's."""
        pairs = self.found.pairs
        names = {entry.name: place for place, entry in enumerate(self._entries)}
        todo: list[_Pairs] = []
        for subject in self._asked:
            if self._company.subjects[subject].content in self.found.faulty:
                continue
            numbers = [
                number
                for number, pair in enumerate(pairs)
                if np.isnan(self.found.partners[subject, number])
                and self._is_far(subject, names[pair.first.name])
                and self._is_far(subject, names[pair.second.name])
            ]
            todo += [_Pairs(subject, group) for group in groups_of(pairs, numbers)]
        todo = self._pairs_within(todo)
        self._total, self._done = sum(map(self._pairs_bytes, todo)), 0
        pool: Pool[_Pairs] = Pool(
            self._bounds.executor,
            self._bounds.threads,
            self._bounds.memory,
            self._pairs_memory,
        )
        done = pool.run(self._changes, todo, self._count_pairs)
        for group, changes in zip(todo, done, strict=True):
            self.found.partners[group.subject, list(group.numbers)] = changes

    def keep(self) -> None:
        """Let the memo keep what is known now."""
        self._kept.keep(
            self.found.products,
            {
                "energies": self.found.energies,
                "symmetries": self.found.symmetries,
                "partners": self.found.partners,
            },
        )

    # --- one tensor -------------------------------------------------------------------

    def _lacks(self, place: int) -> bool:
        found, entry = self.found, self._entries[place]
        if np.isnan(found.products[place]).any():
            return True
        if self._compares(entry) and np.isnan(found.energies[:, place]).any():
            return True
        return any(self._wants_symmetry(subject, place) for subject in self._asked)

    def _compares(self, entry: TensorEntry) -> bool:
        """Tell whether a tensor's spectra are found: there must be others to compare."""
        return has_spectrum(entry) and len(self._company.subjects) > OTHERS_MIN

    def _wants_symmetry(self, subject: int, place: int) -> bool:
        return (
            len(self._entries[place].shape) >= 2
            and self._is_far(subject, place)
            and bool(np.isnan(self.found.symmetries[subject, place]).all())
        )

    def _is_far(self, subject: int, place: int) -> bool:
        return _far(self.found.products[place], subject)

    def _within(self, todo: list[int]) -> list[int]:
        """Return what of the work the bound on bytes admits, spread over the model."""
        if self._bounds.read is None:
            return todo
        left, chosen = self._bounds.read, []
        for place in _spread(todo):
            if self._bytes(place) <= left:
                left -= self._bytes(place)
                chosen.append(place)
        return sorted(chosen)

    def _bytes(self, place: int) -> int:
        entry = self._entries[place]
        changes = (subject.change(entry) for subject in self._company.subjects)
        return entry.size + sum(change.size for change in changes if change)

    def _memory(self, place: int) -> int:
        """Return a bound on what measuring a tensor takes beside what is mapped."""
        entry, count = self._entries[place], len(self._company.subjects)
        held = min(entry.items, _PART) * 8 * (3 + 2 * min(count + 1, 2 * GROUP_MAX))
        made = [s for s in self._company.subjects if s.kind != "full"]
        held += sum(4 * entry.items for s in made if s.change(entry))
        if len(entry.shape) >= 2:
            held += min(entry.items, 1 << 24) * max(_SPECTRUM_BYTES, _LINES_BYTES)
        return _FIXED + held

    def _tensor(self, place: int) -> "_Tensor":
        entry = self._entries[place]
        base = self._reader.read(entry)
        found = _Tensor()
        taus = [
            self._tau(subject, entry, base, found) for subject in self._company.subjects
        ]
        known = self.found.products[place]
        found.products = (
            self._products(entry, base, taus, found) if np.isnan(known).any() else known
        )
        for subject, tau in enumerate(taus):
            lacks = np.isnan(self.found.energies[subject, place])
            if lacks and self._compares(entry):
                change = self._company.subjects[subject].change(entry)
                found.energies[subject] = (
                    first_energy(tau, entry, change) if tau and change else 0.0
                )
            wanted = (
                subject in self._asked
                and len(entry.shape) >= 2
                and tau is not None
                and _far(found.products, subject)
                and np.isnan(self.found.symmetries[subject, place]).all()
            )
            if wanted and tau is not None:
                weights = weights_of(tau, entry, base)
                found.symmetries[subject] = symmetry_of(weights, entry, base)
        return found

    def _products(
        self, entry: TensorEntry, base: Data, taus: list[Tau | None], found: "_Tensor"
    ) -> Floats:
        """Return the products; whose task vector is beyond float32 becomes faulty.

        That shows only where differences are made: of one the others are measured still.
        """
        try:
            return products_of(entry, base, taus)
        except ContractError:
            check_base(entry, base)
        for place, tau in enumerate(taus):
            try:
                products_of(entry, base, [tau])
            except ContractError as e:
                found.faulty[self._company.subjects[place].content] = str(e)
                taus[place] = None
        return products_of(entry, base, taus)

    def _tau(
        self, subject: Subject, entry: TensorEntry, base: Data, found: "_Tensor"
    ) -> Tau | None:
        change = subject.change(entry)
        if change is None:
            return None
        try:
            return self._reader.tau(change, entry, base)
        except ContractError as e:
            found.faulty[subject.content] = str(e)
            return None

    def _take(self, place: int, found: "_Tensor") -> None:
        self.found.products[place] = found.products
        for content in found.faulty:  # no figure of it is known, nor to be kept
            row = self._company.place(content) + 1
            self.found.products[place, row] = self.found.products[place, :, row] = (
                np.nan
            )
        for subject, energies in found.energies.items():
            self.found.energies[subject, place] = energies
        for subject, symmetry in found.symmetries.items():
            self.found.symmetries[subject, place] = symmetry.numbers
        for content, reason in found.faulty.items():
            self.found.faulty.setdefault(content, reason)

    def _count(self, place: int) -> None:
        self._add(self._bytes(place))

    def _add(self, size: int) -> None:
        self._done += size
        self.found.read += size
        if self._bounds.report:
            self._bounds.report(Progress(WORK, self._done, self._total))

    # --- one pair ---------------------------------------------------------------------

    def _pairs_within(self, todo: list["_Pairs"]) -> list["_Pairs"]:
        """Return the groups of pairs that the bound on bytes admits, spread over all.

        Beside the bound on tensors they have a share of it for themselves.
        """
        if self._bounds.read is None:
            return todo
        left, chosen = self._bounds.read // PAIRS_SHARE, []
        for place in _spread(range(len(todo))):
            size = self._pairs_bytes(todo[place])
            if size <= left:
                left -= size
                chosen.append(place)
        self.found.unpaired = len(todo) - len(chosen)
        return [todo[place] for place in sorted(chosen)]

    def _tensors_of(self, group: "_Pairs") -> list[TensorEntry]:
        """Return the tensors of a group of pairs, each once."""
        pairs = [self.found.pairs[number] for number in group.numbers]
        both = {e.name: e for pair in pairs for e in (pair.first, pair.second)}
        return list(both.values())

    def _pairs_bytes(self, group: "_Pairs") -> int:
        subject, entries = (
            self._company.subjects[group.subject],
            self._tensors_of(group),
        )
        changes = (subject.change(entry) for entry in entries)
        theirs = sum(change.size for change in changes if change)
        return theirs + sum(entry.size for entry in entries)

    def _pairs_memory(self, group: "_Pairs") -> int:
        """Return a bound on what a group takes: views of both models, lines of one."""
        entries = self._tensors_of(group)
        held = sum(min(entry.items, PART) * 16 * 2 * 2 for entry in entries)
        held += max(min(entry.items, VALUES_MAX) for entry in entries) * 8 * 3
        if self._company.subjects[group.subject].kind != "full":
            held += sum(4 * entry.items for entry in entries)
        return _FIXED + held

    def _count_pairs(self, group: "_Pairs") -> None:
        self._add(self._pairs_bytes(group))

    def _changes(self, group: "_Pairs") -> list[float]:
        subject = self._company.subjects[group.subject]

        def read(entry: TensorEntry) -> Both:
            base = self._reader.read(entry)
            return self._weights(subject, entry, base), Items(base, entry.dtype)

        pairs = [self.found.pairs[number] for number in group.numbers]
        return changes_of_products(pairs, read)

    def _weights(self, subject: Subject, entry: TensorEntry, base: Data) -> Weights:
        change = subject.change(entry)
        assert change is not None, "what lies far from the base was changed"
        return weights_of(self._reader.tau(change, entry, base), entry, base)


@dataclass(frozen=True, slots=True)
class _Pairs:
    """Pairs of one subject that share tensors, by their numbers."""

    subject: int
    numbers: tuple[int, ...]


@dataclass(slots=True)
class _Tensor:
    """What was found out about one tensor, by the places of the subjects."""

    products: Floats = field(default_factory=lambda: np.zeros((1, 1)))
    energies: dict[int, float] = field(default_factory=dict)
    symmetries: dict[int, Symmetry] = field(default_factory=dict)
    faulty: dict[ContentId, str] = field(default_factory=dict)


def _far(products: Floats, subject: int) -> bool:
    """Tell whether a task vector is long beside the base, which is not zero."""
    base, own = float(products[0, 0]), float(products[subject + 1, subject + 1])
    return base > 0.0 and own >= FAR * FAR * base


def _spread(places: Sequence[int]) -> list[int]:
    """Return places in an order that visits all parts of the model early."""
    bits = max(1, (len(places) - 1).bit_length())
    order = sorted(range(len(places)), key=lambda n: f"{n:0{bits}b}"[::-1])
    return [places[n] for n in order]
