"""A contribution's vocabulary beside that of its base: the same, or made so on request.

Owns the two policies, and that rows of the base are the base's. Does not own the
comparison, nor which row goes where (`vocabularies`).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from crdtmerge.errors import BadInputError
from crdtmerge.formats.alignment import Scratch, tables_of
from crdtmerge.formats.folder import ModelFolder, read_folder
from crdtmerge.formats.progress import Report
from crdtmerge.formats.survey import Visit, plain_pass
from crdtmerge.manifest import Manifest

from .vocabularies import align_to_base, check_same, check_same_tokens

REFUSE: Final = "refuse"
ALIGN: Final = "align"
POLICIES: Final = (REFUSE, ALIGN)

SAY_ALIGN: Final = (
    "`contribute --vocabulary align` puts its rows in the base's order, by token"
)
SAY_MERGED: Final = (
    "merge it into its model, and contribute that with --vocabulary align"
)


def policy_asked(given: str | None) -> str:
    """Return the policy for a vocabulary that is not the base's.

    Raises:
        BadInputError: it is none.
    """
    policy = given or REFUSE
    if policy not in POLICIES:
        message = f"vocabulary {policy!r} is none of {', '.join(POLICIES)}"
        raise BadInputError(message)
    return policy


def check_tokens(path: Path, where: Path) -> None:
    """Refuse an adapter or a delta whose own tokenizer is not that of the base.

    Raises:
        BadInputError: names the first token that differs.
    """
    check_same_tokens(path, where, SAY_MERGED)


def check_vocabulary(folder: ModelFolder, where: Path) -> None:
    """Refuse a model whose rows are not those of the base at `where`, if that is there.

    Raises:
        BadInputError: says how they differ.
    """
    try:
        base = read_folder(where)
    except BadInputError:
        return  # it is moved or gone: shapes are compared in any case
    check_same(folder, base, SAY_ALIGN)


@contextmanager
def aligned(
    folder: ModelFolder, base: Manifest, where: Path, scratch: Path, report: Report
) -> Iterator[tuple[ModelFolder, tuple[str, ...]]]:
    """Lend a model in the rows of the base at `where`, and what is to be told of it.

    What is written for it is in the file `scratch`, which goes with the block.

    Raises:
        BadInputError: the base is not there or not the one of the space, or one of the two
            has no tokenizer that is read.
        MachineError: the disk refused.
    """
    try:
        theirs = read_folder(where)
    except BadInputError as e:
        message = f"rows are aligned by the base's tokenizer, and it is not there: {e}"
        hint = "`crdtmerge space join TICKET --base DIR` says where the base is now"
        raise BadInputError(message, hint=hint) from e
    writing = Scratch(scratch)
    found, notes = align_to_base(folder, theirs, writing)
    try:
        if writing.size:
            _check_base(theirs, base, report)
        writing.write(report)
        yield found, notes
    finally:
        scratch.unlink(missing_ok=True)


def _check_base(theirs: ModelFolder, base: Manifest, report: Report) -> None:
    """Refuse a folder whose tables are not those of the base: rows are copied from it."""
    blobs = {entry.name: entry.blob for entry in base.tensors}
    tables = tables_of(theirs)
    seen = plain_pass([Visit(t) for t in tables], report, "checking the base")
    for tensor, found in zip(tables, seen, strict=True):
        if blobs.get(tensor.name) != found.blob:
            message = (
                f"{tensor.name!r} in {theirs.path} is not that of the space's base"
            )
            hint = "`crdtmerge space join TICKET --base DIR` says where the base is now"
            raise BadInputError(message, hint=hint)
