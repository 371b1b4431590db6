"""Verifying a merged model: are its bytes what its resolution says?

Owns the comparison. Does not own whether the resolution itself is what the space would
resolve to: that takes the contributions.
"""

from pathlib import Path

from crdtmerge.digest import blob_id_of
from crdtmerge.errors import BadInputError, NotFoundError, VerificationError
from crdtmerge.formats.adapter import CONFIG_FILE
from crdtmerge.formats.folder import RESOLUTION_FILE, read_folder
from crdtmerge.formats.ingest import describe
from crdtmerge.formats.progress import Report
from crdtmerge.manifest import TensorEntry
from crdtmerge.resolve.parse import RESOLUTION_BYTES_MAX, parse_resolution
from crdtmerge.resolve.resolution import Adapted, Resolution


def read_resolution(folder: Path) -> Resolution:
    """Return the resolution of a merged model's folder.

    Raises:
        NotFoundError: the folder has none.
        BadInputError: it is not of the form.
        VerificationError: a digest in it is not that of what it stands beside.
    """
    path = folder / RESOLUTION_FILE
    hint = "give a folder that `crdtmerge resolve` or `crdtmerge merge` wrote"
    try:
        if path.stat().st_size > RESOLUTION_BYTES_MAX:
            message = f"{path} is above the limit of {RESOLUTION_BYTES_MAX} bytes"
            raise BadInputError(message)
        return parse_resolution(path.read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError) as e:
        message = f"{folder} has no {RESOLUTION_FILE}"
        raise NotFoundError(message, hint=hint) from e
    except (OSError, UnicodeDecodeError) as e:
        message = f"cannot read {path}: {e}"
        raise BadInputError(message, hint=hint) from e


def verify_folder(path: Path, report: Report | None = None) -> Resolution:
    """Recompute every digest of a merged model; return its resolution if all agree.

    Raises:
        VerificationError: names the first tensor that differs, is missing or is in
            excess, or the file that is damaged.
        NotFoundError: there is no resolution to compare with.
        BadInputError: the resolution is not of the form.
    """
    resolution = read_resolution(path)
    try:
        found = describe(read_folder(path), "base", report=report)
    except BadInputError as e:
        message = f"the model is damaged: {e}"
        raise VerificationError(message) from e
    # The model digest covers these entries and nothing else, and was checked on reading.
    _compare(resolution.tensors, found.tensors)
    if resolution.adapter:
        _compare_config(resolution.adapter, path / CONFIG_FILE)
    return resolution


def _compare_config(stated: Adapted, path: Path) -> None:
    """Refuse another config: it says how the factors act."""
    try:
        found = blob_id_of(path.read_bytes())
    except OSError as e:
        raise VerificationError(f"cannot read {path}: {e.strerror}") from e
    if found != stated.config:
        raise VerificationError(f"{path.name} is not what the resolution says")


def _compare(stated: tuple[TensorEntry, ...], found: tuple[TensorEntry, ...]) -> None:
    """Refuse the first tensor, by name, in which two models differ."""
    ours = {entry.name: entry for entry in stated}
    theirs = {entry.name: entry for entry in found}
    for name in sorted(ours.keys() | theirs.keys()):
        if name not in theirs:
            message = f"tensor {name!r} of the resolution is missing in the model"
        elif name not in ours:
            message = f"tensor {name!r} of the model is not in the resolution"
        elif ours[name] != theirs[name]:
            message = f"tensor {name!r} is not what the resolution says"
        else:
            continue
        hint = "model or resolution.json was changed since; resolve again"
        raise VerificationError(message, hint=hint)
