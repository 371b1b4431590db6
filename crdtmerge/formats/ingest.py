"""What is done with a model before it is offered to others: naming it and checking it.

Owns the manifest of a folder and the checks of its values. Does not own their limits
(`numerics`), nor storing the bytes.
"""

from collections.abc import Callable, Iterator

from crdtmerge.digest import BlobId, blob_id, chunk_digest
from crdtmerge.errors import BadInputError, ContractError
from crdtmerge.formats.folder import ModelFolder, open_tensor, read_chunks
from crdtmerge.formats.header import StoredTensor
from crdtmerge.formats.progress import Progress, Report
from crdtmerge.manifest import FLOAT_DTYPES, Manifest, TensorEntry
from crdtmerge.numerics import TensorFacts, check_base, check_headroom, inspect


def hash_tensor(stored: StoredTensor) -> tuple[BlobId, list[bytes]]:
    """Return the blob id of a tensor and its chunk digests, reading it once.

    Raises:
        BadInputError: the file changed since its header was read.
    """
    chunks = [chunk_digest(chunk) for chunk in read_chunks(stored)]
    return blob_id(stored.size, chunks), chunks


def describe(
    folder: ModelFolder,
    kind: str,
    base: bytes = b"",
    notes: str = "",
    report: Report | None = None,
) -> Manifest:
    """Return the manifest of a model, hashing every tensor.

    `base` is the content id of the base, empty where `kind` is `base`.

    Raises:
        BadInputError: a file changed since its header was read.
    """
    entries = []
    for stored in _each(folder, "hashing", report):
        blob, _ = hash_tensor(stored)
        entries.append(TensorEntry(stored.name, stored.dtype, stored.shape, blob))
    return Manifest(kind, base, tuple(entries), notes=notes)


def tensor_facts(stored: StoredTensor) -> TensorFacts:
    """Return what the numeric contract needs to know of a float tensor.

    Raises:
        BadInputError: the file changed since its header was read.
    """
    return inspect(open_tensor(stored), stored.dtype)


def check_content(
    folder: ModelFolder,
    base: Callable[[str], TensorFacts] | None = None,
    report: Report | None = None,
) -> dict[str, TensorFacts]:
    """Refuse values that no resolve could use; return the facts of each float tensor.

    `base` gives the facts of the base's tensor of a name, and is None for a base itself.
    Names and shapes must have been compared with the base's before.

    Raises:
        BadInputError: names the first tensor that holds NaN or infinity, or leaves the
            headroom over the base, with the limit.
    """
    facts: dict[str, TensorFacts] = {}
    for stored in _each(folder, "checking", report):
        if stored.dtype not in FLOAT_DTYPES:
            continue
        facts[stored.name] = found = tensor_facts(stored)
        label = f"tensor {stored.name!r}"
        try:
            if base is None:
                check_base(found, label)
            else:
                check_headroom(found, base(stored.name), label)
        except ContractError as e:
            raise BadInputError(str(e), hint=e.hint) from e
    return facts


def _each(
    folder: ModelFolder, work: str, report: Report | None
) -> Iterator[StoredTensor]:
    """Yield the tensors, and report how many bytes were worked on after each."""
    done = 0
    for stored in folder.tensors:
        yield stored
        done += stored.size
        if report:
            report(Progress(work, done, folder.size))
