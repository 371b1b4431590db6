"""What this home attests, one small file a space: the model of its last whole resolve.

Owns the form of the file. Does not own the signature, which is made anew by each running
node (`nodes.witness`), nor when something is worth attesting (`operations.attesting`).

It is derived data, and may be removed at any time: a file that is damaged, or of a later
version, is like none. It is written beside a running node, without the home's lock: by a
rename, so that who reads it sees one file or the other.
"""

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from crdtmerge.bodies import SpaceId
from crdtmerge.codec import Value, decode, encode
from crdtmerge.digest import DIGEST_BYTES, Domain, digest
from crdtmerge.errors import EncodingError, MalformedManifestError
from crdtmerge.manifest import MANIFEST_BYTES_MAX, TensorEntry, tensor_from_value
from crdtmerge.resolve.resolution import model_digest
from crdtmerge.sync.attestations import CONTRACT_MAX, COUNTER_MAX, is_platform

from .disk import SYSTEM_DISK, Disk, explained, write_file

ATTESTED_FOLDER: Final = "attested"
VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class Made:
    """A model that was resolved here: of what, by what, and its tensors by name."""

    counter: int
    merge_id: bytes
    contract: int
    platform: str
    tensors: tuple[TensorEntry, ...]

    @property
    def model(self) -> bytes:
        """The model digest."""
        return model_digest(self.tensors)


class AttestedFiles:
    """The files of one home."""

    def __init__(self, home: Path, disk: Disk = SYSTEM_DISK) -> None:
        """Use the folder in `home`; it is made when there is something to keep."""
        self._folder = home / ATTESTED_FOLDER
        self._disk = disk

    def load(self, space: SpaceId) -> Made | None:
        """Return what is attested of a space, if anything is."""
        try:
            with self._disk.open(self._folder / space.hex()) as file:
                if file.size() > MANIFEST_BYTES_MAX:
                    return None
                data = file.read_at(0, file.size())
        except OSError:
            return None
        return _parsed(data)

    def keep(self, space: SpaceId, made: Made, unique: bytes) -> None:
        """Attest this from now on; `unique` names the file while it is written.

        Raises:
            MachineError: the disk refused; what was attested before still is.
        """
        path = self._folder / space.hex()
        part = self._folder / f"{space.hex()}.{unique.hex()}"
        with explained(f"writing {path}"):
            self._disk.make_folder(self._folder)
            try:
                write_file(self._disk, part, _bytes(made))
                self._disk.rename(part, path)
            except BaseException:
                with suppress(OSError):
                    self._disk.remove(part)
                raise

    def stamps(self) -> dict[str, tuple[int, int]]:
        """Return what tells whether a file is another than before, by name."""
        try:
            with os.scandir(self._folder) as found:
                stats = {
                    item.name: item.stat() for item in found if "." not in item.name
                }
        except OSError:
            return {}
        return {name: (s.st_ino, s.st_mtime_ns) for name, s in stats.items()}


def _bytes(made: Made) -> bytes:
    tensors = sorted(made.tensors, key=lambda entry: entry.name)
    value: list[Value] = [
        VERSION, made.counter, made.merge_id, made.contract, made.platform,
        [entry.to_value() for entry in tensors],
    ]  # fmt: skip
    data = encode(value)
    return digest(Domain.ATTESTED, data) + data


def _parsed(data: bytes) -> Made | None:
    seal, body = data[:DIGEST_BYTES], data[DIGEST_BYTES:]
    if digest(Domain.ATTESTED, body) != seal:
        return None
    try:
        value = decode(body, MANIFEST_BYTES_MAX)
        match value:
            case [
                int(version), int(counter), bytes(merge_id), int(contract),
                str(platform), [*tensors],
            ] if version == VERSION and (
                len(merge_id) == DIGEST_BYTES
                and 0 < counter <= COUNTER_MAX
                and 0 < contract <= CONTRACT_MAX
                and is_platform(platform)
            ):  # fmt: skip
                entries = tuple(map(tensor_from_value, tensors))
                return Made(counter, merge_id, contract, platform, entries)
    except (EncodingError, MalformedManifestError):
        pass
    return None
