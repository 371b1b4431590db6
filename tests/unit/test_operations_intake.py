"""A model is read once when it is taken in, and all of it comes in or nothing."""

import json
import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from crdtmerge.digest import BlobId, blob_id_of
from crdtmerge.errors import BadInputError, CrdtMergeError
from crdtmerge.manifest import Manifest, TensorEntry, decode_manifest
from nodes.store.sources import Sources
from tests.homes import Fleet, snapshot, write_model
from tests.small_adapters import factors, write_adapter

MIB = 1 << 20
ITEMS = 3 * MIB // 2 + 5
"""Of the large tensor: 6 MiB and a bit in float32, over one block and seven chunks."""


class Setting:
    """A home with a base of some MiB, and what is brought to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.fleet = Fleet.at(folder)
        self.home = self.fleet.init("home")
        large = np.random.default_rng(1).standard_normal(ITEMS).astype(np.float32)
        self.base = write_model(folder / "base", 0, large=large)
        self.tune = write_model(folder / "tune", 1, near=self.base, large=large * 2)
        self.answer: Any = None
        self.call("space_create", name="s", base=self.base, strategy="linear")

    def call(self, verb: str, **arguments: object) -> Any:
        """Run one verb."""
        return self.fleet.call(self.home, verb, **arguments)

    def contribute(self, **arguments: object) -> Any:
        """Contribute the fine-tune, or what is named."""
        return self.call("contribute", **{"path": self.tune, **arguments})

    def delta(self) -> Path:
        """Write a delta of two tensors, in another dtype than the base's."""
        rng, folder = np.random.default_rng(5), self.folder / "delta"
        folder.mkdir()
        tensors: dict[str, Any] = {
            "large": rng.standard_normal(ITEMS).astype(np.float16),
            "head.weight": rng.standard_normal((3, 5)),
        }
        save_file(tensors, folder / "model.safetensors")
        return folder

    def manifest(self, answer: Any) -> tuple[Manifest, dict[str, bytes]]:
        """Return the manifest of a contribution as stored, and its tensors' bytes."""
        with self.fleet.open(self.home) as (home, spaces, _):
            (space,) = spaces.all()
            (visible,) = [
                v
                for v in spaces.view(space).visible
                if v.content.hex() == answer["content"]
            ]
            ((blob, size), *_) = visible.manifests
            found = decode_manifest(bytes(home.blobs.read(blob, size)))
            assert found.content_id == visible.content
            data = {
                e.name: bytes(home.blobs.read(e.blob, e.size)) for e in found.tensors
            }
        return found, data


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    """Return a home with a space."""
    return Setting(tmp_path)


def named_by_hand(path: Path) -> dict[str, tuple[BlobId, bytes]]:
    """Return tensors and their names by the format's library and one piece each."""
    return {
        name: (blob_id_of(values.tobytes()), values.tobytes())
        for name, values in load_file(path).items()
    }


@pytest.mark.parametrize("reference", [False, True])
@pytest.mark.parametrize("kind", ["full", "delta"])
def test_a_model_has_the_names_and_bytes_of_its_files(
    setting: Setting, kind: str, reference: bool
) -> None:
    """As if it had been read whole, named at once and copied."""
    path = setting.tune if kind == "full" else setting.delta()
    answer = setting.contribute(path=path, kind=kind, reference=reference)
    manifest, data = setting.manifest(answer)
    expected = named_by_hand(path / "model.safetensors")
    assert {e.name: (e.blob, data[e.name]) for e in manifest.tensors} == expected
    base = setting.call("status")["spaces"][0]["base"]
    entries = tuple(
        TensorEntry(name, dtype, tuple(shape), expected[name][0])
        for name, dtype, shape in sorted(described(path / "model.safetensors"))
    )
    by_hand = Manifest(kind, bytes.fromhex(base), entries)
    assert manifest == by_hand
    assert answer["new_bytes"] == sum(len(data) for _, data in expected.values())


def described(path: Path) -> Iterator[tuple[str, str, list[int]]]:
    """Yield what a file says of its tensors."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    for name, entry in json.loads(data[8 : 8 + length]).items():
        if name != "__metadata__":
            yield name, entry["dtype"], entry["shape"]


def test_an_adapter_has_the_names_and_bytes_of_its_file(setting: Setting) -> None:
    """Factors as they lie, the scale beside them, heads under the base's name."""
    kept = {
        **factors(),
        "base_model.model.head.weight": np.ones((3, 5), np.float32),
    }
    adapter = write_adapter(setting.folder / "adapter", kept)
    manifest, data = setting.manifest(setting.contribute(path=adapter))
    a, b = (values.tobytes() for values in factors().values())
    assert data == {
        "head.weight": np.ones((3, 5), np.float32).tobytes(),
        "layer.weight.lora_A": a,
        "layer.weight.lora_B": b,
        "layer.weight.lora_scale": struct.pack("<d", 2.0),
    }
    assert all(e.blob == blob_id_of(data[e.name]) for e in manifest.tensors)


class Reads:
    """Counts the bytes that are read of each file of the user's."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.bytes: dict[Path, int] = {}
        self.then: Callable[[int], None] = lambda _: None
        real = Sources.read

        def read(sources: Sources, tensor: Any, start: int, length: int) -> bytes:
            data = real(sources, tensor, start, length)
            self.bytes[tensor.path] = self.bytes.get(tensor.path, 0) + len(data)
            self.then(sum(self.bytes.values()))
            return data

        monkeypatch.setattr(Sources, "read", read)


def rchar() -> int:
    """Return how many bytes this process has read by system calls, of anything."""
    return int(Path("/proc/self/io").read_text().split()[1])


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="Linux counts it")
@pytest.mark.parametrize("reference", [False, True])
@pytest.mark.parametrize("kind", ["full", "delta", "base"])
def test_each_byte_is_read_once(setting: Setting, kind: str, reference: bool) -> None:
    """By the system's own count; the base is not read at all, nor is what is inspected."""
    path = setting.delta() if kind == "delta" else setting.tune
    size = sum(
        len(data) for _, data in named_by_hand(path / "model.safetensors").values()
    )
    with setting.fleet.open(setting.home) as (_, _, verbs):
        before = rchar()
        if kind == "base":
            asked = {"name": "other", "base": str(path), "strategy": "linear"}
            verbs.call("space_create", asked, lambda _: None)
        else:
            words: dict[str, object] = {"kind": kind, "reference": reference}
            words |= {"path": str(path), "uninspected": True}
            verbs.call("contribute", words, lambda _: None)
        count = rchar() - before
    assert size <= count < size + MIB // 2, "besides headers, manifests, rows"


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="Linux counts it")
def test_an_adapter_is_read_once_however_its_parts_are_compared(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Factors, a head that is kept twice, and copies of the base's own tensors."""
    head = np.ones((3, 5), np.float32)
    kept = {
        **factors(),
        "base_model.model.head.modules_to_save.weight": head,
        "base_model.model.layer.base_layer.bias": load_file(
            setting.base / "model.safetensors"
        )["layer.bias"],
    }
    adapter = write_adapter(setting.folder / "adapter", kept)
    reads = Reads(monkeypatch)
    setting.contribute(path=adapter)
    size = sum(values.nbytes for values in kept.values())
    assert sum(reads.bytes.values()) == size


def edit(path: Path) -> None:
    """Write into the part that was read already."""
    with path.open("r+b") as file:
        file.seek(2 * MIB)
        file.write(b"other")


def cut(path: Path) -> None:
    """Make the file shorter while it is read."""
    os.truncate(path, path.stat().st_size - MIB)


def replace(path: Path) -> None:
    """Put an equal file in its place."""
    other = path.with_name("other")
    other.write_bytes(path.read_bytes())
    other.replace(path)


@pytest.mark.parametrize("verb", ["contribute", "reference", "space_create"])
@pytest.mark.parametrize("change", [edit, cut, replace, Path.unlink])
def test_a_file_that_changes_meanwhile_is_refused(
    setting: Setting,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[Path], None],
    verb: str,
) -> None:
    """Named, and nothing is kept; a cut file is an error, and no signal."""
    file = setting.tune / "model.safetensors"
    before = snapshot(setting.home)
    done: list[int] = []

    def then(count: int) -> None:
        if count >= 4 * MIB and not done:
            done.append(count)
            change(file)

    Reads(monkeypatch).then = then
    arguments: dict[str, object] = {"path": setting.tune}
    if verb == "space_create":
        arguments = {"name": "o", "base": setting.tune, "strategy": "linear"}
    elif verb == "reference":
        arguments["reference"] = True
    name = "space_create" if verb == "space_create" else "contribute"
    with pytest.raises(BadInputError, match=r"model\.safetensors changed") as refusal:
        setting.call(name, **arguments)
    assert done
    assert "do not write" in refusal.value.hint
    assert snapshot(setting.home) == before


def test_ctrl_c_in_the_middle_leaves_nothing(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was written of some tensors goes at once."""
    before = snapshot(setting.home)

    def then(count: int) -> None:
        if count > 5 * MIB:
            raise KeyboardInterrupt

    reads = Reads(monkeypatch)
    reads.then = then
    with pytest.raises(KeyboardInterrupt):
        setting.contribute()
    assert snapshot(setting.home) == before
    reads.then = lambda _: None
    assert setting.contribute()["new"]


@pytest.mark.parametrize("place", [0, ITEMS // 2, ITEMS - 1])
@pytest.mark.parametrize("kind", ["full", "delta", "base"])
def test_a_bad_value_anywhere_is_found_on_the_way(
    setting: Setting, kind: str, place: int
) -> None:
    """The first, one in the middle of a block, the last; its number is told."""
    folder = setting.delta() if kind == "delta" else setting.tune
    tensors = load_file(folder / "model.safetensors")
    tensors["large"][place] = np.nan
    save_file(tensors, folder / "model.safetensors")
    before = snapshot(setting.home)
    verb, asked = "contribute", {"path": folder, "kind": kind}
    if kind == "base":
        verb, asked = (
            "space_create",
            {"name": "o", "base": folder, "strategy": "linear"},
        )
    with pytest.raises(BadInputError, match=rf"'large'.*item {place} is NaN"):
        setting.call(verb, **asked)
    assert snapshot(setting.home) == before


def test_a_delta_beyond_a_narrow_dtype_is_found_by_the_bases_bytes(
    tmp_path: Path,
) -> None:
    """Where base and task vector are both large, their sum is looked at."""
    fleet = Fleet.at(tmp_path)
    home, base, delta = fleet.init("home"), tmp_path / "base", tmp_path / "delta"
    values = np.full(ITEMS, 40000, np.float16)
    for folder in (base, delta):
        folder.mkdir()
    save_file({"w": values}, base / "model.safetensors")
    fleet.call(home, "space_create", name="s", base=base, strategy="linear")
    change = np.zeros(ITEMS, np.float32)
    change[-1] = 25000
    save_file({"w": change}, delta / "model.safetensors")
    fleet.call(home, "contribute", path=delta, kind="delta")  # 65000 is a float16
    change[ITEMS // 2] = 30000
    save_file({"w": change}, delta / "model.safetensors")
    with pytest.raises(BadInputError, match="'w': with the base it is beyond"):
        fleet.call(home, "contribute", path=delta, kind="delta")


def test_the_bar_goes_to_the_end(setting: Setting) -> None:
    """One bar, that only grows, to 100%, with the bytes of the model as its whole."""
    told: list[Any] = []
    with setting.fleet.open(setting.home) as (_, _, verbs):
        answer = verbs.call("contribute", {"path": str(setting.tune)}, told.append)
    assert {item["work"] for item in told} == {"storing", "inspecting"}
    told = [item for item in told if item["work"] == "storing"]
    done = [item["done"] for item in told]
    assert done == sorted(done)
    assert {item["total"] for item in told} == {answer["bytes"]}
    assert done[-1] == answer["bytes"]
    assert len(done) > 4, "more than one step for the large tensor"


# --- names and headers that lie -----------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["../../evil", "/etc/evil", "a/../../evil", "C:\\evil"]
)
def test_a_path_in_a_tensor_s_name_is_only_a_name(tmp_path: Path, name: str) -> None:
    """It is stored by digest and written into headers: no file is called so."""
    fleet = Fleet.at(tmp_path / "deep" / "er")
    fleet.folder.mkdir(parents=True)
    home, base, tune = (fleet.init("home"), tmp_path / "b", tmp_path / "t")
    for folder, value in ((base, 1), (tune, 2)):
        folder.mkdir()
        save_file({name: np.full(9, value, np.float32)}, folder / "model.safetensors")
    fleet.call(home, "space_create", name="s", base=base, strategy="linear")
    fleet.call(home, "contribute", path=tune)
    out = tmp_path / "out"
    fleet.call(home, "resolve", out=out)
    assert list(load_file(out / "model.safetensors")) == [name]
    assert not list(tmp_path.rglob("*evil*"))
    assert not Path("/etc/evil").exists()


@pytest.mark.parametrize(
    "shard", ["../t/a.safetensors", "/etc/passwd", "x/a.safetensors"]
)
def test_a_path_in_a_shard_s_name_is_refused(setting: Setting, shard: str) -> None:
    """An index may not lead out of its folder."""
    folder = setting.folder / "sharded"
    folder.mkdir()
    index = {"weight_map": {"large": shard}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    before = snapshot(setting.home)
    with pytest.raises(BadInputError, match="plain file names"):
        setting.contribute(path=folder)
    assert snapshot(setting.home) == before


def lying(change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    """Return what rewrites a header, leaving the data where it is."""

    def rewrite(path: Path) -> None:
        data = path.read_bytes()
        (length,) = struct.unpack("<Q", data[:8])
        header = json.loads(data[8 : 8 + length])
        change(header)
        text = json.dumps(header).encode().ljust(length)
        path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])

    return rewrite


def longer(header: dict[str, Any]) -> None:
    """Claim more bytes than the file has."""
    header["large"]["shape"] = [1 << 33]
    begin, _ = header["large"]["data_offsets"]
    header["large"]["data_offsets"] = [begin, begin + (4 << 33)]


def overlapping(header: dict[str, Any]) -> None:
    """Claim the bytes of another tensor."""
    begin, _ = header["large"]["data_offsets"]
    header["head.weight"]["data_offsets"] = [begin, begin + 60]


def negative(header: dict[str, Any]) -> None:
    """Begin before the data."""
    header["head.weight"]["data_offsets"] = [-60, 0]


def smaller(header: dict[str, Any]) -> None:
    """Claim a shape that its bytes do not have."""
    header["large"]["shape"] = [7]


@pytest.mark.parametrize("change", [longer, overlapping, negative, smaller])
def test_a_header_that_lies_is_refused(
    setting: Setting, change: Callable[[dict[str, Any]], None]
) -> None:
    """Before anything is read, allocated or written."""
    lying(change)(setting.tune / "model.safetensors")
    before = snapshot(setting.home)
    with pytest.raises(CrdtMergeError) as refusal:
        setting.contribute()
    assert isinstance(refusal.value, BadInputError)
    assert snapshot(setting.home) == before
