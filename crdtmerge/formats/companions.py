"""The files beside the weights that a merged model takes over from its base.

Owns which of them go along, which cannot, and copying them. Does not own what
`config.json` says (`model_config`), nor the model card, which is written anew: the base's
tells of another model.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from crdtmerge.errors import BadInputError
from crdtmerge.formats.folder import (
    COMPANION_BYTES_MAX,
    RESOLUTION_FILE,
    WEIGHT_SUFFIXES,
)
from crdtmerge.formats.model_config import CONFIG_FILE, QUANTISATION, ModelConfig
from crdtmerge.formats.writer import write_file

CARD_FILE: Final = "README.md"
LISTED_MAX: Final = 5

_OURS: Final = frozenset({CARD_FILE.lower(), RESOLUTION_FILE})


@dataclass(frozen=True, slots=True)
class Companions:
    """What goes along by name, a file to copy or its bytes; the configuration apart.

    `dtype` is what the recipe makes of floats, empty where they keep theirs. `left_out`
    are names in the base's folder that do not go along. `notes` tell of them, and of what
    is said otherwise than by the base.
    """

    files: Mapping[str, Path | bytes] = field(default_factory=dict)
    config: ModelConfig | None = None
    dtype: str = ""
    left_out: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Bytes of all files, as far as they can be seen."""
        return sum(map(_size_of, self.files.values()))

    @property
    def notes(self) -> list[str]:
        """What the user should know, a sentence each."""
        found = []
        if self.left_out:
            listed = ", ".join(repr(name) for name in self.left_out[:LISTED_MAX])
            more = len(self.left_out) - LISTED_MAX
            listed += f" and {more} more" if more > 0 else ""
            found.append(f"not taken over from the base's folder: {listed}")
        if self.config is not None and self.config.is_quantised:
            found.append(
                f"{QUANTISATION} is left out of {CONFIG_FILE}: the weights are plain floats"
            )
        return found

    def write(self, folder: Path) -> None:
        """Copy the files to a folder, and write the configuration that fits the output.

        Raises:
            BadInputError: a file of the base cannot be read any more.
            MachineError: the disk is full or refuses.
        """
        for name, given in self.files.items():
            write_file(folder / name, bytes_of(name, given))
        if self.config is not None:
            text = self.config.for_output(self.dtype)
            write_file(folder / CONFIG_FILE, text)


def companions_of(
    files: Mapping[str, Path | bytes],
    dtypes: Iterable[str],
    output_dtype: str,
    left_out: tuple[str, ...] = (),
) -> Companions:
    """Return what goes along with a merged model, of what stands beside its base.

    `dtypes` are those of the base's tensors; `output_dtype` is what the recipe makes of
    floats, empty where they keep theirs.

    Raises:
        BadInputError: the base is quantised, or a file of it cannot be read.
    """
    kept = {n: given for n, given in files.items() if n.lower() not in _OURS}
    given = kept.pop(CONFIG_FILE, None)
    config = None
    if given is not None:
        config = ModelConfig.parse(bytes_of(CONFIG_FILE, given))
        config.check_weights(dtypes)
    return Companions(kept, config, output_dtype, left_out)


def not_taken(folder: Path, taken: Iterable[str]) -> tuple[str, ...]:
    """Return what a user may miss: folders, and files too large or oddly named.

    Weights of other formats are not missed: they are the base's. Where the base is a file
    by itself, what lies around it is no part of it.
    """
    if not folder.is_dir():
        return ()
    kept = frozenset(taken)
    return tuple(
        sorted(
            item.name + ("/" if item.is_dir() else "")
            for item in folder.iterdir()
            if item.name not in kept
            and not item.name.startswith(".")
            and not item.name.lower().endswith(WEIGHT_SUFFIXES)
            and item.name != RESOLUTION_FILE
        )
    )


def _size_of(given: Path | bytes) -> int:
    if isinstance(given, bytes):
        return len(given)
    return given.stat().st_size if given.is_file() else 0


def bytes_of(name: str, given: Path | bytes) -> bytes:
    """Return the bytes of a file that goes along.

    Raises:
        BadInputError: it cannot be read, or is too large.
    """
    if isinstance(given, bytes):
        return given
    try:
        with given.open("rb") as file:
            data = file.read(COMPANION_BYTES_MAX + 1)
    except OSError as e:
        message = f"cannot read {name} of the base: {e.strerror}"
        raise BadInputError(message) from e
    if len(data) > COMPANION_BYTES_MAX:
        message = f"{name} of the base grew above {COMPANION_BYTES_MAX} bytes"
        raise BadInputError(message)
    return data
