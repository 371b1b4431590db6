"""Contributions whose vocabulary is not the base's: refused, or aligned on request.

The oracle is NumPy on the rows by token; bytes are those that the store holds and signs.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from crdtmerge.errors import BadInputError
from crdtmerge.manifest import decode_manifest
from tests.homes import Fleet, snapshot
from tests.small_adapters import PREFIX, write_adapter
from tests.vocabularies import (
    BASE_TEXT,
    DOG_TEXT,
    EMBED,
    HEAD,
    TABLES,
    Table,
    ids_of,
    table,
    three,
    trained,
    write_speaker,
    write_tokenizer,
)


class Setting:
    """A home with a space on a base with a tokenizer."""

    def __init__(self, folder: Path) -> None:
        self.base, self.dog, self.zebra = three(folder)
        self.folder = folder
        self.fleet = Fleet.at(folder)
        self.home = self.fleet.init("home")
        self.call("space_create", name="s", base=self.base, strategy="linear")

    def call(self, verb: str, **arguments: object) -> Any:
        """Run one verb."""
        return self.fleet.call(self.home, verb, **arguments)

    def refused(self, **arguments: object) -> BadInputError:
        """Contribute, which must be refused and change nothing."""
        before = snapshot(self.home)
        with pytest.raises(BadInputError) as caught:
            self.call("contribute", **arguments)
        assert snapshot(self.home) == before
        return caught.value

    def tensors(self, answer: Any) -> dict[str, bytes]:
        """Return the bytes of a contribution, as its signed manifest names them."""
        with self.fleet.open(self.home) as (home, spaces, _):
            (space,) = spaces.all()
            visible = {v.content.hex(): v for v in spaces.view(space).visible}
            ((blob, size), *_) = visible[answer["content"]].manifests
            found = decode_manifest(bytes(home.blobs.read(blob, size)))
            return {
                e.name: bytes(home.blobs.read(e.blob, e.size)) for e in found.tensors
            }


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    return Setting(tmp_path)


def in_the_bases_rows(model: Path, base: Path, name: str) -> Table:
    """Return a table as it must be: the model's row of each token, else the base's."""
    made, theirs = table(base, name).copy(), table(model, name)
    known = ids_of(model)
    for token, number in ids_of(base).items():
        if token in known:
            made[number] = theirs[known[token]]
    return made


@pytest.mark.parametrize("name", ["dog", "zebra"])
def test_aligned_rows_are_what_is_hashed_and_signed(
    setting: Setting, name: str
) -> None:
    """Byte for byte; all other tensors are the model's."""
    model = setting.folder / name
    answer = setting.call("contribute", path=model, vocabulary="align")
    found = setting.tensors(answer)
    for tensor, data in load_file(model / "model.safetensors").items():
        expected = data
        if tensor in TABLES:
            expected = in_the_bases_rows(model, setting.base, tensor)
        assert found[tensor] == expected.tobytes(), tensor
    assert not list((setting.home / "temporary").iterdir())


def test_what_is_dropped_and_what_stays_the_bases_is_said(setting: Setting) -> None:
    """With numbers and the first names."""
    ours, theirs = ids_of(setting.dog), ids_of(setting.base)
    dropped = sorted(ours.keys() - theirs.keys(), key=ours.__getitem__)
    lacks = sorted(theirs.keys() - ours.keys(), key=theirs.__getitem__)
    answer = setting.call("contribute", path=setting.dog, vocabulary="align")
    notes = "\n".join(answer["notes"])
    for tokens, words in ((dropped, "dropped"), (lacks, "the base's rows stay")):
        named = ", ".join(repr(token) for token in tokens[:3])
        line = next(n for n in answer["notes"] if n.startswith(words))
        assert line.endswith(f"{len(tokens)} tokens ({named}, ...)"), notes


def test_other_rows_are_refused_by_default(setting: Setting) -> None:
    """The hint says how they are aligned."""
    error = setting.refused(path=setting.dog)
    assert "its vocabulary is not the base's: 44 rows, there 37" in str(error)
    assert "--vocabulary align" in error.hint


def test_another_order_of_as_many_tokens_is_refused_by_default(
    setting: Setting,
) -> None:
    """Shapes fit, and rows would be merged that mean other tokens."""
    other = trained(DOG_TEXT, 37)
    assert other.get_vocab_size() == 37
    model = write_speaker(setting.folder / "other", other, 7)
    assert "its vocabulary is not the base's" in str(setting.refused(path=model))
    answer = setting.call("contribute", path=model, vocabulary="align")
    expected = in_the_bases_rows(model, setting.base, EMBED)
    assert setting.tensors(answer)[EMBED] == expected.tobytes()


def test_the_same_vocabulary_is_the_same_contribution_either_way(
    setting: Setting,
) -> None:
    """Nothing is moved, and `--reference` can be had."""
    model = write_speaker(setting.folder / "m", trained(BASE_TEXT, 40, ["<|pad|>"]), 9)
    one = setting.call("contribute", path=model, vocabulary="align", reference=True)
    two = setting.call("contribute", path=model)
    assert one["content"] == two["content"]
    assert not one["notes"]


def test_rows_behind_the_bases_last_are_cut_where_they_lie(setting: Setting) -> None:
    """A fine-tune with one token more: nothing is written, and it can be referenced."""
    tokens = ["<|pad|>", "<|more|>"]
    model = write_speaker(setting.folder / "m", trained(BASE_TEXT, 40, tokens), 9)
    assert "38 rows, there 37" in str(setting.refused(path=model))
    answer = setting.call("contribute", path=model, vocabulary="align", reference=True)
    assert setting.tensors(answer)[HEAD] == table(model, HEAD)[:37].tobytes()
    (note,) = answer["notes"]
    assert note == "dropped, for the base lacks them: 1 token ('<|more|>')"


def test_moved_rows_cannot_be_referenced(setting: Setting) -> None:
    """They lie in no file of the user's."""
    error = setting.refused(path=setting.dog, vocabulary="align", reference=True)
    assert "no reference" in str(error)


def test_rows_are_taken_from_the_base_of_the_space_alone(setting: Setting) -> None:
    """A folder that was written to since is not it."""
    tensors = load_file(setting.base / "model.safetensors")
    tensors[EMBED] = tensors[EMBED] + 1
    save_file(tensors, setting.base / "model.safetensors")
    error = setting.refused(path=setting.dog, vocabulary="align")
    assert "is not that of the space's base" in str(error)


@pytest.mark.parametrize(
    ("lost", "why"),
    [(".", "it is not there"), ("tokenizer.json", "has no tokenizer")],
)
def test_without_the_bases_tokenizer_nothing_is_aligned(
    setting: Setting, lost: str, why: str
) -> None:
    """The error says what is missing."""
    path = setting.base / lost
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert why in str(setting.refused(path=setting.dog, vocabulary="align"))


def test_adapters_and_deltas_are_not_aligned(setting: Setting) -> None:
    """And refused with another tokenizer beside them."""
    layer, draw = f"{PREFIX}model.layers.0.mlp", np.random.default_rng(1)
    weights = {
        f"{layer}.lora_{part}.weight": draw.standard_normal(shape, np.float32)
        for part, shape in (("A", (2, 8)), ("B", (8, 2)))
    }
    adapter = write_adapter(setting.folder / "adapter", weights)
    setting.call("contribute", path=adapter)
    error = setting.refused(path=adapter, vocabulary="align")
    assert "kind lora cannot be aligned" in str(error)
    write_tokenizer(adapter, trained(DOG_TEXT, 37))
    assert "its vocabulary is not the base's" in str(setting.refused(path=adapter))


def test_a_policy_is_one_of_two(setting: Setting) -> None:
    """Refused by its name."""
    error = setting.refused(path=setting.dog, vocabulary="truncate")
    assert "'truncate' is none of refuse, align" in str(error)


def test_spare_rows_of_the_base_stay_the_models_own(tmp_path: Path) -> None:
    """A base with more rows than tokens, and a model with as many: nothing is moved."""
    tokenizer = trained(BASE_TEXT, 40)
    setting = Setting(tmp_path)
    base = write_speaker(tmp_path / "spare", tokenizer, 1, rows=48)
    home = setting.fleet.init("second")
    setting.fleet.call(home, "space_create", name="t", base=base, strategy="linear")
    setting.home = home
    model = write_speaker(tmp_path / "m", tokenizer, 2, rows=48)
    answer = setting.call("contribute", path=model, vocabulary="align")
    assert setting.tensors(answer)[EMBED] == table(model).tobytes()
    short = write_speaker(tmp_path / "short", tokenizer, 3, rows=40)
    answer = setting.call("contribute", path=short, vocabulary="align")
    expected = np.concatenate([table(short), table(base)[40:]])
    assert setting.tensors(answer)[EMBED] == expected.tobytes()
    assert json.loads((base / "config.json").read_text())["vocab_size"] == 48


def test_a_head_that_is_the_embedding_is_aligned_as_one(tmp_path: Path) -> None:
    """Where the base ties the two, a model that has both is brought to one first."""
    setting = Setting(tmp_path)
    tied = tmp_path / "tied"
    shutil.copytree(setting.base, tied)
    without_head(tied)
    setting.home = setting.fleet.init("second")
    setting.call("space_create", name="t", base=tied, strategy="linear")
    model = tmp_path / "model"
    shutil.copytree(setting.dog, model)
    tensors = load_file(model / "model.safetensors")
    save_file({**tensors, HEAD: tensors[EMBED]}, model / "model.safetensors")
    answer = setting.call("contribute", path=model, vocabulary="align")
    found = setting.tensors(answer)
    assert HEAD not in found
    assert found[EMBED] == in_the_bases_rows(model, tied, EMBED).tobytes()


def without_head(model: Path) -> None:
    path = model / "model.safetensors"
    save_file({n: t for n, t in load_file(path).items() if n != HEAD}, path)
