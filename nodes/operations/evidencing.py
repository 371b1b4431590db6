"""The evidence that is contributed beside a model: which files, and that they are usable.

Owns how files become entries of a manifest. Does not own what is acceptable
(`crdtmerge.evidence`), nor how evidence is computed (`nodes.evidence`).

All that a merge would refuse is refused here, before anything is signed.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from crdtmerge.digest import BlobId
from crdtmerge.errors import BadInputError, ContractError
from crdtmerge.evidence.entries import FORMS, Index, check_all, index_of
from crdtmerge.evidence.kinds import KINDS, SCALAR, SCALARS_FILE
from crdtmerge.evidence.reading import Read, array_of, number_of
from crdtmerge.formats.header import StoredTensor, read_header
from crdtmerge.formats.json_text import parse_object
from crdtmerge.formats.progress import Progress, Report
from crdtmerge.formats.survey import Visit, plain_pass
from crdtmerge.manifest import EvidenceEntry, Manifest, TensorEntry
from crdtmerge.numerics import Data

SUFFIX: Final = ".safetensors"
SCALARS_BYTES_MAX: Final = 1 << 20

Put = Callable[[bytes], BlobId]


def read_evidence(
    words: Sequence[str], base: Manifest, put: Put, report: Report
) -> tuple[EvidenceEntry, ...]:
    """Return what `words` name, KIND=FILE or folders, with all bytes put into the home.

    Raises:
        BadInputError: a file is not there or damaged, or what it holds is no evidence of
            the base's tensors; it names the file.
    """
    files = _files(words)
    found: dict[tuple[str, str], EvidenceEntry] = {}
    held: dict[BlobId, Source] = {}
    sizes = [path.stat().st_size for path in files.values()]
    for place, (kind, path) in enumerate(files.items()):
        report(Progress("reading evidence", sum(sizes[:place]), sum(sizes)))
        for entry, source in _read(kind, path, put):
            found[kind, entry.tensor.name] = entry
            held[entry.tensor.blob] = source
    entries = tuple(found[place] for place in sorted(found))
    _check(entries, base, files, held)
    return entries


Source = StoredTensor | bytes


def _files(words: Sequence[str]) -> dict[str, Path]:
    """Return the file of each kind."""
    found: dict[str, Path] = {}
    for kind, path in (pair for word in words for pair in _named(word)):
        if kind in found:
            raise BadInputError(f"evidence of kind {kind!r} is given twice")
        found[kind] = path
    for path in found.values():
        if not path.is_file():
            raise BadInputError(f"{path}: there is no such file")
    return dict(sorted(found.items()))


def _named(word: str) -> Iterator[tuple[str, Path]]:
    kind, equals, file = word.partition("=")
    folder = Path(word)
    if folder.is_dir():
        yield from _of_folder(folder)
        return
    if not equals:
        message = f"{word!r} is no folder, and not KIND=FILE"
        raise BadInputError(
            message, hint="such as --evidence fisher=fisher.safetensors"
        )
    if kind not in FORMS and kind != SCALAR:
        message = f"evidence of kind {kind!r} is not known"
        raise BadInputError(message, hint=f"known: {', '.join((*FORMS, SCALAR))}")
    yield kind, Path(file)


def _of_folder(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield the files that `crdtmerge evidence compute` wrote."""
    names = sorted(path.name for path in folder.iterdir())
    kinds = [
        name.removesuffix(SUFFIX) for name in names if name.endswith(SUFFIX)
    ]  # of a kind that is unknown too: it is refused, not passed over
    unknown = sorted(set(kinds) - FORMS.keys())
    if unknown or not (kinds or SCALARS_FILE in names):
        message = (
            f"{folder}: {unknown[0] + SUFFIX!r} is no evidence of a known kind"
            if unknown
            else f"{folder}: there is no evidence in it"
        )
        raise BadInputError(message, hint=f"known: {', '.join((*FORMS, SCALAR))}")
    yield from ((kind, folder / f"{kind}{SUFFIX}") for kind in kinds)
    if SCALARS_FILE in names:
        yield SCALAR, folder / SCALARS_FILE


def _read(kind: str, path: Path, put: Put) -> Iterator[tuple[EvidenceEntry, Source]]:
    if kind == SCALAR:
        for name, number in _numbers(path).items():
            data = np.array([number], "<f8").tobytes()
            yield EvidenceEntry(SCALAR, TensorEntry(name, "F64", (), put(data))), data
        return
    for tensor in read_header(path):
        blob = put(_bytes(tensor))
        entry = TensorEntry(tensor.name, tensor.dtype, tensor.shape, blob)
        yield EvidenceEntry(kind, entry), tensor


def _bytes(tensor: StoredTensor) -> bytes:
    (seen,) = plain_pass([Visit(tensor, held=True)])
    return seen.data


def _numbers(path: Path) -> Mapping[str, float]:
    """Return the numbers of a JSON file."""
    try:
        if path.stat().st_size > SCALARS_BYTES_MAX:
            raise BadInputError(f"{path} is larger than any list of numbers")
        found = parse_object(path.read_bytes(), path.name)
    except OSError as e:
        raise BadInputError(f"{path}: {e.strerror}") from e
    for name, value in found.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise BadInputError(f"{path}: {name!r} is not a number")
    # A whole number of very many digits is infinite as a float, and refused as such.
    numbers = {name: float(str(value)) for name, value in found.items()}
    for name, number in numbers.items():
        if not math.isfinite(number):
            raise BadInputError(f"{path}: {name!r} is not finite")
    return numbers


def _check(
    entries: Iterable[EvidenceEntry],
    base: Manifest,
    files: Mapping[str, Path],
    held: Mapping[BlobId, Source],
) -> None:
    """Refuse what a merge would refuse, by form first and then by values."""
    tensors = {entry.name: entry for entry in base.tensors}
    index = index_of(entries)

    def read(entry: TensorEntry) -> Data:
        source = held[entry.blob]
        return source if isinstance(source, bytes) else _bytes(source)

    try:
        check_all(entries, tensors)
        _check_values(index, tensors, read)
    except ContractError as e:
        named = [str(path) for kind, path in files.items() if repr(kind) in str(e)]
        where = f"{named[0]}: " if named else ""
        raise BadInputError(f"{where}{e}", hint=e.hint) from e


def _check_values(
    index: Index,
    tensors: Mapping[str, TensorEntry],
    read: Read,
) -> None:
    for name in sorted(index.tensors):
        for kind in KINDS:
            array_of(kind, index.forms(name, kind), tensors[name], read)
    for name, entry in sorted(index.scalars.items()):
        number_of(name, entry, read)
