"""Names that lead out of the folder they belong in: nothing is read or written there.

Of archives: tests/attacks/test_archives.py.
"""

import json
from pathlib import Path
from typing import Final

import pytest

from crdtmerge.bodies import Add
from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.errors import (
    BadInputError,
    FaultyContributionError,
    MalformedManifestError,
    NotFoundError,
)
from crdtmerge.manifest import decode_manifest
from nodes.home import open_home
from nodes.spaces import Spaces
from tests.archives import Shared
from tests.attacks.fortress import Fortress
from tests.attacks.guard import guarded, state_of, within_memory
from tests.attacks.test_bombs import BLOB, manifest_with
from tests.homes import write_model
from tests.properties.cast import CLEO, CONTENTS

RESOLVE_BYTES_MAX: Final = 96 << 20
"""What a resolve of a small model takes: buffers of a fixed size."""
NAMES: Final = (
    "../escaped",
    "../../escaped",
    "/tmp/escaped",
    "a/b",
    "a\\b",
    "..",
    ".",
    "",
    "C:escaped",
    "CON",
    "nul.txt",
    "a.",
    "a ",
    "a\nb",
    "a\x00b",
    "~/escaped" + "/",
    "x" * 300,
)


@pytest.mark.parametrize("name", NAMES)
def test_path_traversal_by_a_file_of_a_manifest(fortress: Fortress, name: str) -> None:
    """A file beside the tensors has a plain name, or the manifest is none."""
    data = manifest_with(["t", "U8", [1], BLOB], files=[[name, 1, BLOB]])
    with fortress.refuses(MalformedManifestError):
        decode_manifest(data)
    blob = fortress.home.blobs.put(data)
    body = Add(CONTENTS[0], blob, len(data), 1, DECIMAL_UNIT, b"", "")
    fortress.say(CLEO, body)
    fortress.keep()
    spaces = fortress.spaces()
    visible = spaces.view(fortress.space).visible
    (shown,) = [v for v in visible if v.content == CONTENTS[0]]
    with fortress.refuses(FaultyContributionError):
        spaces.manifest(shown)


@pytest.fixture(name="shared", scope="module")
def fixture_shared(tmp_path_factory: pytest.TempPathFactory) -> Shared:
    """One space for all: nothing here may change ann's home."""
    return Shared.at(tmp_path_factory.mktemp("shared") / "inner" / "most")


@pytest.mark.parametrize("name", ["../model.safetensors", "/etc/passwd", "a/../../b"])
def test_path_traversal_by_an_index(shared: Shared, tmp_path: Path, name: str) -> None:
    """An index of shards names files beside itself, and reads no others."""
    folder = write_model(tmp_path / "model" / "inner", 3, near=shared.base)
    weights = folder / "model.safetensors"
    weights.rename(tmp_path / "model" / "model.safetensors")
    index = {"weight_map": dict.fromkeys(("layer.weight", "layer.bias"), name)}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with guarded(shared.folder, BadInputError):
        shared.fleet.call(shared.ann, "contribute", path=folder)


def test_path_traversal_by_a_tensor_name(tmp_path: Path) -> None:
    """A tensor may be called anything: its name is no path when a model is written."""
    shared = Shared.at(tmp_path / "inner" / "most")
    name = "../../../escaped"
    with open_home(shared.ann, write=True) as home:
        spaces = Spaces(home.records, home.blobs)
        (space,) = spaces.all()
        shown = spaces.view(space).visible
        named = {t.name for v in shown for t in spaces.manifest(v).tensors}
    assert named
    tune = write_model(shared.folder / "tune9", 9, near=shared.base, **{name: [1.0]})
    with guarded(tmp_path, BadInputError):
        shared.fleet.call(shared.ann, "contribute", path=tune)
    before = {path for path in tmp_path.rglob("*") if shared.folder not in path.parents}
    with within_memory(RESOLVE_BYTES_MAX):
        shared.resolved(shared.ann)
    after = {path for path in tmp_path.rglob("*") if shared.folder not in path.parents}
    assert after == before


@pytest.mark.parametrize("given", ["../../x", "/", "..", "%2e%2e", "\x00"])
def test_path_traversal_by_a_name_on_the_command_line(
    shared: Shared, given: str
) -> None:
    """Spaces and contributions are found by name or id, never by path."""
    for verb, arguments in (
        ("resolve", {"space": given, "out": shared.folder / "out"}),
        ("ban", {"id": given}),
        ("remove", {"ids": [given]}),
    ):
        before = state_of(shared.folder)
        with pytest.raises((NotFoundError, BadInputError)):
            shared.fleet.call(shared.ann, verb, **arguments)
        assert state_of(shared.folder) == before
