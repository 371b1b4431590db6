"""What a manifest says of evidence: in which forms, for which tensors, in which shapes.

Owns what is acceptable before a byte of it is read. Does not own values (`reading`).

Evidence of kinds that this version does not know is kept and passed on, and means nothing
here: only an author is refused it, who may have mistyped.
"""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal, TypeAlias

from crdtmerge.errors import ContractError
from crdtmerge.evidence.kinds import KINDS, SCALAR, SCALARS, SCORE
from crdtmerge.manifest import EvidenceEntry, TensorEntry

Side: TypeAlias = Literal["items", "square", "sketch", "columns", "rows"]

MATRIX_DIMENSIONS: Final = 2

FORMS: Final[Mapping[str, Side]] = MappingProxyType(
    {
        "adam": "items",
        "adam_columns": "columns",
        "adam_rows": "rows",
        "energy": "items",
        "fisher": "items",
        "fisher_base": "items",
        "gram": "square",
        "gram_merged": "square",
        "gram_merged_sketch": "sketch",
        "gram_sketch": "sketch",
        "inputs": "columns",
        "magnitude": "columns",
        "outputs": "rows",
        "snip": "items",
        "snip_base": "items",
    }
)
"""The stored forms of tensors' evidence, and which shape each has."""

LINEAR_FORMS: Final = frozenset(
    form for kind in KINDS.values() if kind.linear for form in kind.forms
)

SUMS: Final = frozenset({"adam_rows", "adam_columns"})
"""Forms that stand for a kind together; of any other kind a tensor has one."""

DTYPES: Final = ("F64", "F32", "BF16", "F16")
"""Dtypes of evidence. Of eight bits there is none: a second moment needs the range."""

_SCALAR_DTYPE: Final = "F64"
_CATEGORY: Final = re.compile(r"[a-z0-9._-]{1,64}")

Forms: TypeAlias = Mapping[str, TensorEntry]
"""What is stored about one tensor, by form."""


@dataclass(frozen=True, slots=True)
class Index:
    """The evidence of one manifest: by tensor and form, and the numbers by name."""

    tensors: Mapping[str, Forms]
    scalars: Mapping[str, TensorEntry]

    def forms(self, tensor: str, kind: str) -> Forms:
        """Return in which forms a kind is stored for a tensor."""
        held = self.tensors.get(tensor, {})
        return {form: held[form] for form in KINDS[kind].forms if form in held}


def index_of(evidence: Iterable[EvidenceEntry]) -> Index:
    """Return an index of what a manifest lists."""
    tensors: dict[str, dict[str, TensorEntry]] = {}
    scalars: dict[str, TensorEntry] = {}
    for entry in evidence:
        if entry.kind == SCALAR:
            scalars[entry.tensor.name] = entry.tensor
        else:
            tensors.setdefault(entry.tensor.name, {})[entry.kind] = entry.tensor
    return Index(tensors, scalars)


def check_forms(forms: Forms, about: TensorEntry) -> None:
    """Refuse what does not fit the tensor that it is about, by dtype and shape.

    Raises:
        ContractError: it says which form, of which tensor, and what belongs there.
    """
    for form, entry in sorted(forms.items()):
        _check(form, entry, about)
    if len(SUMS & forms.keys()) == 1:
        message = f"tensor {about.name!r}: adam_rows and adam_columns go together"
        raise ContractError(message)
    for kind in KINDS.values():
        held = set(kind.forms) & forms.keys()
        if len(held) > 1 and held != SUMS:
            forms_of = " and ".join(map(repr, sorted(held)))
            message = f"tensor {about.name!r}: {forms_of} are one thing"
            raise ContractError(message, hint="attach one of them")


def check_all(
    evidence: Iterable[EvidenceEntry], tensors: Mapping[str, TensorEntry]
) -> None:
    """Refuse evidence that no merge could use, before it is signed.

    Raises:
        ContractError: a kind or a number is unknown, a tensor is not in the base, or a
            shape does not fit.
    """
    found = index_of(evidence)
    for name, forms in sorted(found.tensors.items()):
        unknown = sorted(forms.keys() - FORMS.keys())
        if unknown:
            message = f"evidence of kind {unknown[0]!r} is not known"
            hint = f"known: {', '.join((*FORMS, SCALAR))}"
            raise ContractError(message, hint=hint)
        if name not in tensors:
            message = f"evidence {min(forms)!r}: the base has no tensor {name!r}"
            raise ContractError(message, hint="evidence is named as tensors are")
        check_forms(forms, tensors[name])
    for name, entry in sorted(found.scalars.items()):
        check_scalar(name, entry)


def check_scalar(name: str, entry: TensorEntry) -> None:
    """Refuse a number of unknown meaning or form.

    Raises:
        ContractError: it says what belongs there.
    """
    category = name.removeprefix(SCORE)
    if name not in SCALARS and (category == name or not _CATEGORY.fullmatch(category)):
        message = f"evidence: a number called {name!r} means nothing"
        hint = f"known: {', '.join(SCALARS)}, and {SCORE}CATEGORY of a-z 0-9 . _ -"
        raise ContractError(message, hint=hint)
    if entry.dtype != _SCALAR_DTYPE or entry.shape != ():
        message = (
            f"the number {name!r} is {entry.dtype} of shape {list(entry.shape)}, not one"
            f" {_SCALAR_DTYPE}"
        )
        raise ContractError(message)


def _check(form: str, entry: TensorEntry, about: TensorEntry) -> None:
    said = f"evidence {form!r} of tensor {about.name!r}"
    shape, rows = about.shape, about.shape[0] if about.shape else 1
    if form in LINEAR_FORMS and len(shape) < MATRIX_DIMENSIONS:
        message = f"{said}: the tensor has {len(shape)} dimensions, and no inputs"
        raise ContractError(message)
    columns = math.prod(shape[1:])
    side = FORMS[form]
    if side == "sketch":
        fits = len(entry.shape) == MATRIX_DIMENSIONS and entry.shape[1] == columns
        fits = fits and 1 <= entry.shape[0] <= columns
        belongs = f"[1 to {columns}, {columns}]"
    else:
        shapes = {
            "items": shape,
            "square": (columns, columns),
            "columns": (columns,),
            "rows": (rows,),
        }
        fits, belongs = entry.shape == shapes[side], str(list(shapes[side]))
    if not fits:
        message = f"{said} has shape {list(entry.shape)}, where {belongs} belongs"
        raise ContractError(message, hint="it may be another layer's, or model's")
    if entry.dtype not in DTYPES:
        raise ContractError(f"{said} is {entry.dtype}, not one of {', '.join(DTYPES)}")
    if side == "square" and entry.dtype not in DTYPES[:2]:
        message = f"{said} is {entry.dtype}: in so few bits it is no Gram matrix"
        raise ContractError(message, hint="store it in F32, or as gram_sketch")
