"""A sector that cannot be read is damage of one blob, and no failure of the node."""

import errno

import pytest

from crdtmerge.errors import CorruptBlobError
from nodes.store.disk import SystemFile
from nodes.upkeep.needs import find_needs
from tests.homes import wanted
from tests.unit.test_collecting import Setting, setting

__all__ = ["setting"]


def test_a_manifest_that_cannot_be_read_is_damaged(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is set aside to be had anew; what looks for needs goes on, and knows of it."""
    setting.call("contribute", path=setting.tunes[0])
    read_at = SystemFile.read_at
    with setting.fleet.open(setting.home) as (home, spaces, _):
        (space,) = spaces.all()
        [(manifest, size)] = spaces.view(space).visible[0].manifests
        path = home.blobs.path_of(manifest)

        def refused(file: SystemFile, offset: int, length: int) -> bytes:
            if file.is_named(path):
                raise OSError(errno.EIO, "Input/output error")
            return read_at(file, offset, length)

        monkeypatch.setattr(SystemFile, "read_at", refused)
        with pytest.raises(CorruptBlobError, match="cannot be read"):
            home.blobs.read(manifest, size)
        assert not home.blobs.has(manifest)
        assert wanted(spaces, space) == {manifest: size}
        assert manifest in find_needs(home, spaces).unknown
