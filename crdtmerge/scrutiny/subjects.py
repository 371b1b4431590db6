"""Who is looked at: contributions beside their base, tensor by tensor, as vectors.

Owns which tensors are looked at, and reading them: the task vector and the whole
weights that a contribution gives. Does not own what is measured of them (`products`,
`symmetries`), nor where bytes lie (`TensorSource`).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

from crdtmerge.changes import Change, Whole, changes_of, task_vector_of
from crdtmerge.digest import ContentId
from crdtmerge.errors import ContractError
from crdtmerge.manifest import FLOAT_DTYPES, Manifest, TensorEntry
from crdtmerge.numerics import Data, Difference, Items, Shifted, Tau, inspect
from crdtmerge.resolve.reading import TensorSource, read_tensor

Weights: TypeAlias = Items | Shifted
"""A whole tensor: stored as it is, or the base plus a task vector."""


@dataclass(frozen=True, slots=True)
class Subject:
    """One contribution: what it is called, its kind, and what it says of each tensor."""

    content: ContentId
    kind: str
    changes: dict[str, Change]

    def change(self, entry: TensorEntry) -> Change | None:
        """Return what it makes of a tensor of the base; None if it leaves it alone."""
        found = self.changes.get(entry.name)
        if isinstance(found, Whole) and found.entry.dtype == entry.dtype:
            return None if found.entry.blob == entry.blob else found
        return found


@dataclass(frozen=True, slots=True)
class Company:
    """The base, and contributions of it in the order of their content ids.

    `tensors` are those of the base that have values to compare: floats, with items.
    """

    base: Manifest
    subjects: tuple[Subject, ...]
    tensors: tuple[TensorEntry, ...]

    def place(self, content: ContentId) -> int:
        """Return where a contribution stands among the subjects."""
        return [subject.content for subject in self.subjects].index(content)


def subject_of(manifest: Manifest, base: Manifest) -> Subject:
    """Return a contribution as it is looked at; tensors that it lacks it leaves alone.

    Raises:
        BadInputError: it does not fit the base.
    """
    changes = changes_of(manifest, base, "base")
    return Subject(manifest.content_id, manifest.kind, changes)


def company_of(base: Manifest, subjects: Iterable[Subject]) -> Company:
    """Return contributions as they are compared."""
    tensors = tuple(e for e in base.tensors if e.dtype in FLOAT_DTYPES and e.items)
    return Company(base, tuple(sorted(subjects, key=lambda s: s.content)), tensors)


class Reader:
    """Reads tensors as vectors, and refuses what is no number."""

    def __init__(self, source: TensorSource) -> None:
        """Keep the source; nothing is read before it is asked for."""
        self._source = source

    def read(self, entry: TensorEntry) -> Data:
        """Return a stored tensor; raises as `read_tensor` does."""
        return read_tensor(self._source, entry)

    def tau(self, change: Change, entry: TensorEntry, base: Data) -> Tau:
        """Return the task vector that a change gives to the tensor `entry` of the base.

        Raises:
            ContractError: it holds NaN or infinity, or is beyond float32.
        """
        label = f"tensor {entry.name!r}"
        if not isinstance(change, Whole):
            return Items(task_vector_of(change, self.read, label).data, "F32")
        data, dtype = self.read(change.entry), change.entry.dtype
        facts = inspect(data, dtype)
        if not facts.finite:
            raise ContractError(f"{label} holds NaN or infinity: {facts.fault}")
        return Difference(data, base, dtype, label, entry.dtype)


def check_base(entry: TensorEntry, base: Data) -> None:
    """Check that a tensor of the base is a number everywhere.

    Raises:
        ContractError: it holds NaN or infinity; no contribution is to blame.
    """
    facts = inspect(base, entry.dtype)
    if not facts.finite:
        message = f"the base's tensor {entry.name!r} holds NaN or infinity"
        raise ContractError(f"{message}: {facts.fault}")


def weights_of(tau: Tau, entry: TensorEntry, base: Data) -> Weights:
    """Return the whole tensor of which `tau` is the task vector."""
    if isinstance(tau, Difference):
        return Items(tau.theta, tau.dtype)
    return Shifted(tau.data, base, entry.dtype)
