"""Names that are given to tensors before their bytes are read."""

import os
from pathlib import Path

from crdtmerge.formats.folder import read_folder
from crdtmerge.formats.source import FolderSource
from tests.homes import write_model


def test_bytes_written_in_place_have_another_name_though_their_time_is_set_back(
    tmp_path: Path,
) -> None:
    """Else a merge that was broken off goes on with tensors made of bytes that are gone."""
    (first, *_) = read_folder(write_model(tmp_path / "model", 1)).tensors
    before, name = first.path.stat(), FolderSource().stand_in(first)
    assert FolderSource().stand_in(first) == name
    with first.path.open("r+b") as file:
        file.seek(first.offset)
        file.write(bytes(first.size))
    os.utime(first.path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert FolderSource().stand_in(first) != name
