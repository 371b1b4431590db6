"""The evidence of a merge: what its strategy and steps read, of which contribution.

Owns which stored evidence enters which task, its keys, and whose fault it is if it cannot
be used. Does not own what is acceptable (`crdtmerge.evidence`), nor what is made of it.

What no formula of the merge reads is not looked at, and not waited for.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from crdtmerge.codec import Value
from crdtmerge.digest import BlobId
from crdtmerge.errors import (
    ContentMissingError,
    ContractError,
    FaultyContributionError,
)
from crdtmerge.evidence.entries import Forms, Index, check_forms, check_scalar, index_of
from crdtmerge.evidence.kinds import KINDS
from crdtmerge.evidence.reading import Read, array_of, number_of
from crdtmerge.manifest import ITEM_BYTES, TensorEntry
from crdtmerge.resolve.settings import Contribution, Settings
from crdtmerge.strategies import Evidence, Scalars, Strategy, Values, evidence_of


@dataclass(frozen=True, slots=True)
class Attached:
    """What the contributions of a merge attach, in canonical order."""

    strategy: Strategy
    settings: Settings
    contributions: Sequence[Contribution]
    indexes: Sequence[Index]

    @classmethod
    def of(
        cls,
        strategy: Strategy,
        settings: Settings,
        contributions: Sequence[Contribution],
    ) -> "Attached":
        """Return what these contributions attach."""
        indexes = [
            index_of(item.manifest.evidence if item.evidence_digest else ())
            for item in contributions
        ]
        return cls(strategy, settings, contributions, indexes)

    def kinds(self, tensor: str) -> tuple[str, ...]:
        """Return the kinds that the merge of one tensor reads."""
        values = Values(self.settings.of_tensor(tensor).parameters)
        return evidence_of(self.strategy, self.settings.recipe, values)

    @property
    def reads_scalars(self) -> bool:
        """Whether the strategy reads single numbers."""
        return self.strategy.scalars(self.settings.of_whole().values)

    def check(self, tensors: Iterable[TensorEntry]) -> None:
        """Refuse what does not fit these tensors, before any byte is read.

        Raises:
            FaultyContributionError: evidence has another shape, or a dtype of no use; or a
                number has no meaning. It names whose.
            ContentMissingError: evidence that counts has not arrived.
        """
        read = [tensor for tensor in tensors if self.kinds(tensor.name)]
        if read or self.reads_scalars:
            self._require_here()
        for tensor in read:
            for place, forms in self._stored(tensor.name):
                with _blaming(self.contributions[place]):
                    check_forms(forms, tensor)
        if self.reads_scalars:
            for item, index in zip(self.contributions, self.indexes, strict=True):
                with _blaming(item):
                    for name, entry in index.scalars.items():
                        check_scalar(name, entry)

    def key(self, tensor: str) -> Value:
        """Return what of the evidence can change a bit of a tensor; empty if nothing."""
        kinds = self.kinds(tensor)
        if not kinds:
            return []
        return [
            [
                [kind, form, *_told(entry)]
                for kind in kinds
                for form, entry in sorted(index.forms(tensor, kind).items())
            ]
            for index in self.indexes
        ]

    def scalars_key(self) -> Value:
        """Return what of the single numbers can change a bit; empty if nothing."""
        if not self.reads_scalars:
            return []
        return [
            [[name, *_told(entry)] for name, entry in sorted(index.scalars.items())]
            for index in self.indexes
        ]

    def reads(self, tensor: str) -> tuple[tuple[BlobId, int], ...]:
        """Return the blobs that a tensor's tasks read, with their sizes."""
        return tuple(
            (entry.blob, entry.size)
            for _, forms in self._stored(tensor)
            for entry in forms.values()
        )

    def scalar_reads(self) -> tuple[tuple[BlobId, int], ...]:
        """Return the blobs of the single numbers that are read, with their sizes."""
        if not self.reads_scalars:
            return ()
        return tuple(
            (entry.blob, entry.size)
            for index in self.indexes
            for entry in index.scalars.values()
        )

    def all_reads(self, tensors: Iterable[str]) -> Iterator[BlobId]:
        """Yield the blobs of all evidence that is read, of these tensors and of numbers."""
        yield from (blob for name in tensors for blob, _ in self.reads(name))
        yield from (blob for blob, _ in self.scalar_reads())

    def memory(self, tensor: TensorEntry) -> int:
        """Return a bound on the bytes that a tensor's evidence takes while it is used."""
        wide = ITEM_BYTES["F64"]
        sizes = [
            max(_items(kind, tensor), *(e.items for e in forms.values()))
            for index in self.indexes
            for kind in self.kinds(tensor.name)
            if (forms := index.forms(tensor.name, kind))
        ]
        # While one is checked and scaled it is there up to four times.
        return wide * (sum(sizes) + 4 * max(sizes, default=0))

    def of_tensor(self, tensor: TensorEntry, read: Read) -> tuple[Evidence, ...]:
        """Return what each contribution attaches for a tensor: checked, normalised.

        Raises:
            FaultyContributionError: evidence is not acceptable; it names whose.
        """
        kinds = self.kinds(tensor.name)
        if not kinds:
            return ()
        found = []
        for item, index in zip(self.contributions, self.indexes, strict=True):
            with _blaming(item):
                arrays = {
                    kind: array_of(kind, index.forms(tensor.name, kind), tensor, read)
                    for kind in kinds
                }
            found.append({k: array for k, array in arrays.items() if array is not None})
        return tuple(found)

    def numbers(self, read: Read) -> tuple[Scalars, ...]:
        """Return the single numbers of each contribution; none if they are not read.

        Raises:
            FaultyContributionError: a number is not acceptable; it names whose.
        """
        if not self.reads_scalars:
            return ()
        found = []
        for item, index in zip(self.contributions, self.indexes, strict=True):
            with _blaming(item):
                found.append(
                    {n: number_of(n, e, read) for n, e in index.scalars.items()}
                )
        return tuple(found)

    def _require_here(self) -> None:
        """Refuse to merge without evidence that others may have.

        Raises:
            ContentMissingError: evidence that counts has not arrived.
        """
        for item in self.contributions:
            if item.evidence_digest not in {b"", item.manifest.evidence_digest}:
                short = item.content.hex()[:12]
                message = f"the evidence of contribution {short} has not arrived"
                hint = "`crdtmerge fetch` waits for it; a ban ends a false add"
                raise ContentMissingError(message, hint=hint)

    def _stored(self, tensor: str) -> Iterator[tuple[int, Forms]]:
        """Yield the place of each contribution, and the forms that are read of it."""
        kinds = self.kinds(tensor)
        for place, index in enumerate(self.indexes):
            for kind in kinds:
                forms = index.forms(tensor, kind)
                if forms:
                    yield place, forms


@contextmanager
def _blaming(item: Contribution) -> Iterator[None]:
    """Turn errors about evidence into errors of the contribution that attaches it."""
    try:
        yield
    except ContractError as e:
        raise FaultyContributionError(item.content, str(e)) from e


def _told(entry: TensorEntry) -> list[Value]:
    return [entry.dtype, list(entry.shape), entry.blob]


def _items(kind: str, tensor: TensorEntry) -> int:
    """Return how many numbers a normalised array of a kind has."""
    rows = tensor.shape[0] if tensor.shape else 1
    columns = tensor.items // max(rows, 1)
    sizes = {
        "items": tensor.items,
        "gram": columns * columns,
        "columns": columns,
        "rows": rows,
    }
    return sizes[KINDS[kind].shape]
