"""Vocabularies: what is read, what is made of several, and which row goes where.

The oracles are the tokenizers library, for ids, and NumPy on the rows, for bytes.
"""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers import models as models_

from crdtmerge.errors import BadInputError
from crdtmerge.formats.alignment import BLOCK_BYTES, Scratch, Table, tables_of
from crdtmerge.formats.folder import open_tensor, read_folder
from crdtmerge.formats.header import StoredTensor
from crdtmerge.formats.tokenizer import (
    Vocabulary,
    difference,
    read_vocabulary,
    same_files,
)
from crdtmerge.formats.tokenizer_output import check_given_ids, union_document
from crdtmerge.formats.vocabulary import (
    AVERAGE,
    MEAN,
    ZERO,
    Member,
    Merged,
    RowMap,
    Rule,
    merged,
    row_map,
)
from tests.vocabularies import (
    BASE_TEXT,
    DOG_TEXT,
    EMBED,
    HEAD,
    ids_of,
    three,
    trained,
    write_speaker,
    write_tokenizer,
)


def known(folder: Path) -> Vocabulary:
    found = read_vocabulary(folder)
    assert found is not None
    return found


def member(rows: int, **ids: int) -> Member:
    return Member("m", Vocabulary(Path(), ids, {}), rows)


def members(*folders: Path) -> list[Member]:
    found = [(f, known(f), read_folder(f)) for f in folders]
    return [Member(f.name, v, tables_of(m)[0].shape[0]) for f, v, m in found]


# --- reading -------------------------------------------------------------------------


def test_ids_are_those_of_the_library(tmp_path: Path) -> None:
    """Words and added tokens alike."""
    for folder in three(tmp_path):
        assert known(folder).ids == ids_of(folder)
        check_given_ids(known(folder))


def test_vocab_json_is_read_where_there_is_no_other(tmp_path: Path) -> None:
    """With added tokens beside it, as older models have it."""
    (tmp_path / "vocab.json").write_text('{"a": 0, "b": 1}')
    (tmp_path / "added_tokens.json").write_text('{"<x>": 2}')
    assert known(tmp_path).ids == {"a": 0, "b": 1, "<x>": 2}


def test_pieces_alone_are_refused_with_the_way_out(tmp_path: Path) -> None:
    """SentencePiece's own file is binary; no tokenizer at all is not an error."""
    assert read_vocabulary(tmp_path) is None
    (tmp_path / "tokenizer.model").write_bytes(b"\x0a\x0b")
    with pytest.raises(BadInputError, match=r"tokenizer\.json") as caught:
        read_vocabulary(tmp_path)
    assert "save_pretrained" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("[]", "not a JSON object"),
        ("{", "is not JSON"),
        ("{}", "no model with a vocabulary"),
        ('{"model": {"vocab": {"a": "0"}}}', "not a text with a whole number"),
        ('{"model": {"vocab": {"a": true}}}', "not a text with a whole number"),
        ('{"model": {"vocab": {"a": -1}}}', "has the id -1"),
        ('{"model": {"vocab": {"a": 1, "b": 1}}}', "the id 1 to 'a' and 'b'"),
        (
            '{"model": {"vocab": {"a": 1}}, "added_tokens": [{"id": 2}]}',
            "without content",
        ),
        (
            '{"model": {"vocab": {"a": 1}}, "added_tokens": [{"id": 2, "content": "a"}]}',
            "the ids 1 and 2",
        ),
    ],
)
def test_a_damaged_tokenizer_is_refused(tmp_path: Path, text: str, wrong: str) -> None:
    """Whatever is wrong in it."""
    (tmp_path / "tokenizer.json").write_text(text)
    with pytest.raises(BadInputError, match=wrong):
        read_vocabulary(tmp_path)


def test_ids_that_loaders_would_not_give_are_refused(tmp_path: Path) -> None:
    """The library has no regard for the number of an added token."""
    write_tokenizer(tmp_path, trained(BASE_TEXT, 30, ["<x>"]))
    path = tmp_path / "tokenizer.json"
    document = json.loads(path.read_text())
    document["added_tokens"][-1]["id"] = 99
    path.write_text(json.dumps(document))
    assert ids_of(tmp_path)["<x>"] != 99
    with pytest.raises(BadInputError, match="'<x>' the id 99, and loaders give it"):
        check_given_ids(known(tmp_path))


def test_only_rows_that_mean_two_things_are_a_difference(tmp_path: Path) -> None:
    """A token in a row that the other has no token for is none."""
    ours = Vocabulary(tmp_path, {"a": 0, "b": 1, "new": 2}, {})
    assert difference(ours, Vocabulary(tmp_path, {"a": 0, "b": 1}, {})) == ""
    assert "'b'" in difference(ours, Vocabulary(tmp_path, {"b": 0, "a": 1}, {}))
    assert "id 2" in difference(ours, Vocabulary(tmp_path, {"a": 0, "old": 2}, {}))


def test_equal_files_need_no_reading(tmp_path: Path) -> None:
    """Two folders without any are not the same."""
    one, two, none = (tmp_path / name for name in ("one", "two", "none"))
    none.mkdir()
    for folder in (one, two):
        write_tokenizer(folder, trained(BASE_TEXT, 30))
    assert same_files(one, two)
    write_tokenizer(two, trained(DOG_TEXT, 30))
    assert not same_files(one, two)
    assert not same_files(none, none)


# --- the vocabulary of the output ----------------------------------------------------


def test_a_union_keeps_the_bases_ids_and_orders_the_rest_by_vocabulary(
    tmp_path: Path,
) -> None:
    """Whatever the order in which the others are listed."""
    base, dog, zebra = members(*three(tmp_path))
    found = merged([base, dog, zebra], 0, union=True)
    ids = base.vocabulary.ids
    assert {t: found.ids[t] for t in ids} == ids
    everything = {t for m in (base, dog, zebra) for t in m.vocabulary.ids}
    assert found.ids.keys() == everything
    assert sorted(found.ids.values()) == list(range(len(everything)))
    assert merged([zebra, base, dog], 1, union=True).ids == found.ids
    assert merged([base, zebra, dog], 0, union=True).ids == found.ids


def test_rows_are_as_many_as_the_owner_has_or_the_tokens_need() -> None:
    """And a multiple of what is asked for."""
    models = [member(10, a=0, b=1), member(2, a=0, c=1)]
    assert merged(models, 0, union=False).rows == 10
    assert merged(models, 1, union=False).rows == 2
    assert merged(models, 1, union=True).rows == 3
    assert merged(models, 1, union=True, tokens=["x", "a"], multiple=8).rows == 8
    assert merged(models, 1, union=True, tokens=["x", "a"]).ids["x"] == 3


def test_a_missing_token_takes_the_bases_row_or_the_only_one_or_the_average() -> None:
    """In that order; a row that nobody has is a mean."""
    models = [member(3, a=0, b=1, pad=9), member(3, a=1, c=0, d=2), member(2, d=0, c=1)]
    output = Merged(0, {"a": 0, "b": 1, "c": 2, "d": 3, "pad": 4}, 5)
    based = row_map(models, 2, output, 0, {})
    assert based.models.tolist() == [0, 0, 2, 2, MEAN]
    assert based.rows.tolist()[:4] == [0, 1, 1, 0]
    assert not based.averages
    free = row_map(models, 0, output, None, {})
    assert free.models.tolist() == [0, 0, AVERAGE, AVERAGE, MEAN]
    assert free.averages == {2: ((1, 0), (2, 1)), 3: ((1, 2), (2, 0))}
    other = row_map(models, 2, output, None, {})
    assert other.models.tolist()[:2] == [AVERAGE, 0]


def test_models_that_are_merged_together_stand_in_before_others() -> None:
    """The others only where none of these has a row."""
    models = [member(1, x=0), member(2, a=0, b=1), member(2, a=1, c=0)]
    output = Merged(0, {"a": 0, "b": 1, "c": 2}, 3)
    far = row_map(models, 0, output, None, {})
    assert far.averages == {0: ((1, 0), (2, 1))}
    close = row_map(models, 0, output, None, {}, near={0, 1})
    assert close.models.tolist() == [1, 1, 2]
    assert close.rows.tolist() == [0, 1, 0]
    assert not close.averages


def test_a_rule_goes_before_all_and_by_force_before_the_models_own() -> None:
    """Without force a model that has the token keeps its row."""
    models = [member(3, a=0, b=1), member(3, a=2)]
    output = merged(models, 0, union=False)
    rules = {"a": Rule(0, 1), "b": Rule(ZERO)}
    assert row_map(models, 1, output, 0, rules).models.tolist()[:2] == [1, ZERO]
    forced = {"a": Rule(0, 1, force=True)}
    for place in (0, 1):
        found = row_map(models, place, output, 0, forced)
        assert (found.models[0], found.rows[0]) == (0, 1)


def test_rows_without_a_token_stay_a_models_own_where_it_can_be() -> None:
    """Else they are the owner's: a row of another token is never taken for one."""
    models = [member(4, a=0), member(3, a=0), member(4, b=3, a=0)]
    output = merged(models, 0, union=False)
    assert row_map(models, 1, output, 0, {}).models.tolist() == [1, 1, 1, 0]
    assert row_map(models, 2, output, 0, {}).models.tolist() == [2, 2, 2, 0]
    assert row_map(models, 0, output, 0, {}).is_start_of(0)


# --- the tokenizer of the output -----------------------------------------------------


def test_the_library_gives_a_union_the_ids_that_were_meant(tmp_path: Path) -> None:
    """And its words are met in text: their merges are there."""
    models = members(*three(tmp_path))
    output = merged(models, 0, union=True, tokens=["<|new|>"])
    text = json.dumps(union_document(models, output))
    made = Tokenizer.from_str(text)
    assert made.get_vocab() == output.ids
    assert "Ġhills" in made.encode("the hills").tokens
    assert "Ġquick" in made.encode("the quick").tokens
    assert "<|im_start|>" in made.encode("<|im_start|>hello").tokens
    assert made.encode("<|pad|>").ids == [models[0].vocabulary.ids["<|pad|>"]]
    assert made.decode(made.encode("zebra over the mat").ids) == "zebra over the mat"


def test_a_union_of_added_tokens_alone_adds_no_word(tmp_path: Path) -> None:
    """Text without them is cut as it was."""
    for name, added in (("a", ["<x>"]), ("b", ["<y>", "<x>"])):
        write_speaker(tmp_path / name, trained(BASE_TEXT, 40, added), 1)
    models = members(tmp_path / "a", tmp_path / "b")
    output = merged(models, 0, union=True)
    document = union_document(models, output)
    before = models[0].vocabulary.document
    assert document["model"] == before["model"]
    assert Tokenizer.from_str(json.dumps(document)).get_vocab() == output.ids


def test_words_that_would_never_be_met_are_refused(tmp_path: Path) -> None:
    """Tokenizers that cut text in other ways have no union of words."""
    write_speaker(tmp_path / "a", trained(BASE_TEXT, 40), 1)
    spaces = trained(DOG_TEXT, 40, words=pre_tokenizers.Whitespace())
    write_speaker(tmp_path / "b", spaces, 2)
    models = members(tmp_path / "a", tmp_path / "b")
    with pytest.raises(BadInputError, match="pre_tokenizer"):
        union_document(models, merged(models, 0, union=True))


def test_merges_of_the_older_form_are_read_too(tmp_path: Path) -> None:
    """Pairs were once written as one text with a space."""
    three(tmp_path)
    folders = [tmp_path / name for name in ("base", "dog")]
    path = folders[0] / "tokenizer.json"
    document = json.loads(path.read_text())
    document["model"]["merges"] = [" ".join(m) for m in document["model"]["merges"]]
    models = members(*folders)
    output = merged(models, 0, union=True)
    expected = union_document(models, output)
    path.write_text(json.dumps(document))
    assert union_document(members(*folders), output) == expected


def unigram(folder: Path, pieces: list[str], added: list[str]) -> Member:
    vocabulary = [(piece, -float(i)) for i, piece in enumerate(pieces)]
    tokenizer = Tokenizer(models_.Unigram(vocabulary, unk_id=0))
    tokenizer.add_special_tokens(added)
    write_tokenizer(folder, tokenizer)
    found = known(folder)
    assert found.ids == ids_of(folder)
    return Member(folder.name, found, found.size)


def test_pieces_with_scores_have_a_union_of_added_tokens_alone(tmp_path: Path) -> None:
    """Scores of two models mean nothing side by side."""
    base = unigram(tmp_path / "a", ["<unk>", "x", "y"], ["<p>"])
    other = unigram(tmp_path / "b", ["<unk>", "x", "y"], ["<q>"])
    output = merged([base, other], 0, union=True)
    made = Tokenizer.from_str(json.dumps(union_document([base, other], output)))
    assert made.get_vocab() == output.ids
    words = unigram(tmp_path / "c", ["<unk>", "x", "z"], [])
    with pytest.raises(BadInputError, match="scores"):
        union_document([base, words], merged([base, words], 0, union=True))


# --- tables --------------------------------------------------------------------------


def stored(folder: Path, **tensors: np.ndarray) -> dict[str, StoredTensor]:
    folder.mkdir(exist_ok=True)
    named = {name.replace("_", ".", 1): value for name, value in tensors.items()}
    save_file(named, folder / "model.safetensors")
    return {t.name: t for t in read_folder(folder).tensors}


def test_tables_are_known_by_name_and_size(tmp_path: Path) -> None:
    """A bias of the head is one; norms and layers are none."""
    tensors = {
        EMBED: np.zeros((12, 4), np.float32),
        HEAD: np.zeros((12, 4), np.float32),
        "lm_head.bias": np.zeros(12, np.float32),
        "model.norm.weight": np.zeros(4, np.float32),
        "model.layers.0.mlp.weight": np.zeros((12, 4), np.float32),
    }
    save_file(tensors, tmp_path / "model.safetensors")
    found = [t.name for t in tables_of(read_folder(tmp_path))]
    assert found == ["lm_head.bias", HEAD, EMBED]


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"model.strange.weight": (12, 2)}, "is 'model.strange.weight'"),
        ({"lm_head.weight": (13, 4)}, "is 'lm_head.weight'"),
        ({EMBED: None}, "no tensor that is known"),
    ],
)
def test_tables_that_cannot_be_told_are_refused(
    tmp_path: Path, more: dict[str, tuple[int, ...] | None], why: str
) -> None:
    """By name, with the shapes."""
    shapes = {EMBED: (12, 4), "model.norm.weight": (4,)} | more
    tensors = {n: np.zeros(s, np.float32) for n, s in shapes.items() if s is not None}
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(BadInputError, match=why):
        tables_of(read_folder(tmp_path))


def test_rows_are_gathered_byte_for_byte(tmp_path: Path) -> None:
    """From several tables, in any order, over more than one block."""
    draw = np.random.default_rng(5)
    width = BLOCK_BYTES // 4 // 100  # floats: a block has a hundred rows
    ours = draw.standard_normal((130, width)).astype(np.float32)
    theirs = draw.standard_normal((250, width)).astype(np.float32)
    tensors = [
        stored(tmp_path / str(i), lm_head=t)["lm.head"]
        for i, t in enumerate((ours, theirs))
    ]
    models = draw.integers(0, 2, 300)
    rows = draw.integers(0, 130, 300)
    models[40:280], rows[40:280] = 1, np.arange(5, 245)
    models[290] = ZERO
    found = aligned(tmp_path, tensors, RowMap(models, rows))
    expected = np.stack(
        [
            (ours, theirs)[m][r] if m >= 0 else np.zeros_like(ours[0])
            for m, r in zip(models, rows, strict=True)
        ]
    )
    assert found == expected.tobytes()


def aligned(folder: Path, tensors: list[StoredTensor], rows: RowMap) -> bytes:
    scratch = Scratch(folder / "scratch")
    table = Table("t", dict(enumerate(tensors)))
    made = scratch.align(table, 0, rows)
    assert not (folder / "scratch").exists()
    scratch.write()
    return bytes(open_tensor(made))


def test_averages_and_means_are_rounded_once(tmp_path: Path) -> None:
    """Against float64, in which these sums are exact or nearly so."""
    draw = np.random.default_rng(6)
    arrays = [draw.standard_normal((6, 5)).astype(np.float32) for _ in range(3)]
    tensors = [
        stored(tmp_path / str(i), lm_head=t)["lm.head"] for i, t in enumerate(arrays)
    ]
    models = np.array([0, AVERAGE, MEAN, 1, MEAN, ZERO])
    averages = {1: ((0, 3), (1, 2), (2, 5))}
    data = aligned(tmp_path, tensors, RowMap(models, np.zeros(6, np.int64), averages))
    found = np.frombuffer(data, np.float32).reshape(6, 5)
    wide = [t.astype(np.float64) for t in arrays]
    average = ((wide[0][3] + wide[1][2] + wide[2][5]) / 3).astype(np.float32)
    assert found[1].tobytes() == average.tobytes()
    kept = found[[0, 1, 3, 5]].astype(np.float64)
    mean = (kept.sum(axis=0) / 4).astype(np.float32)
    assert found[2].tobytes() == found[4].tobytes() == mean.tobytes()
    assert not found[5].any()


def test_a_table_that_is_only_cut_stays_where_it_is(tmp_path: Path) -> None:
    """Nothing is written; it ends earlier."""
    array = np.arange(20, dtype=np.float32).reshape(10, 2)
    tensor = stored(tmp_path / "m", lm_head=array)["lm.head"]
    scratch = Scratch(tmp_path / "scratch")
    rows = RowMap(np.zeros(7, np.int64), np.arange(7))
    made = scratch.align(Table("t", {0: tensor}), 0, rows)
    scratch.write()
    assert (made.path, made.offset, made.shape) == (tensor.path, tensor.offset, (7, 2))
    assert bytes(open_tensor(made)) == array[:7].tobytes()
    assert not (tmp_path / "scratch").exists()


def test_rows_of_another_float_dtype_are_rounded_once(tmp_path: Path) -> None:
    """Wider ones lose nothing; averages see them as they are."""
    draw = np.random.default_rng(8)
    wide = draw.standard_normal((4, 6)).astype(np.float32)
    narrow = draw.standard_normal((4, 6)).astype(np.float16)
    one = stored(tmp_path / "a", lm_head=wide)["lm.head"]
    two = stored(tmp_path / "b", lm_head=narrow)["lm.head"]
    averages = {3: ((0, 1), (1, 1))}
    rows = RowMap(np.array([0, 1, 0, AVERAGE]), np.array([0, 2, 1, 0]), averages)
    average = (wide[1].astype(np.float64) + narrow[1].astype(np.float64)) / 2
    found = np.frombuffer(aligned(tmp_path, [one, two], rows), np.float32)
    expected = [wide[0], narrow[2].astype(np.float32), wide[1], average.astype("f4")]
    assert found.tobytes() == np.concatenate(expected).tobytes()
    (tmp_path / "scratch").unlink()
    turned = RowMap(
        np.array([1, 0, 1, AVERAGE]), np.array([2, 0, 0, 0]), {3: ((1, 1), (0, 1))}
    )
    found = np.frombuffer(aligned(tmp_path, [one, two], turned), np.float32)
    expected = [narrow[2], wide[0], narrow[0], average]
    wanted = [row.astype(np.float32) for row in expected]
    assert found.tobytes() == np.concatenate(wanted).tobytes()
    (tmp_path / "scratch").unlink()
    mine = RowMap(np.array([1, 0]), np.array([0, 1]))
    data = aligned(tmp_path, [two, one], mine)
    expected16 = [wide[0].astype(np.float16), narrow[1]]
    assert data == np.concatenate(expected16).tobytes()


def test_rows_of_another_form_are_refused(tmp_path: Path) -> None:
    """Whole numbers, another width, or no such table."""
    one = stored(tmp_path / "a", lm_head=np.zeros((3, 2), np.float32))["lm.head"]
    two = stored(tmp_path / "b", lm_head=np.zeros((3, 2), np.int32))["lm.head"]
    three = stored(tmp_path / "c", lm_head=np.zeros((3, 4), np.float32))["lm.head"]
    rows = RowMap(np.array([1, 0, 0]), np.array([0, 1, 2]))
    for other, form in ((two, "I32"), (three, r"F32 \[4\]")):
        with pytest.raises(BadInputError, match=form):
            aligned(tmp_path, [one, other], rows)
    with pytest.raises(BadInputError, match="lacks 't'"):
        aligned(tmp_path, [one], rows)


def test_a_file_that_changes_meanwhile_is_refused(tmp_path: Path) -> None:
    """It is not the one whose header was read."""
    tensor = stored(tmp_path / "m", lm_head=np.zeros((3, 2), np.float32))["lm.head"]
    stored(tmp_path / "m", lm_head=np.ones((3, 2), np.float32))
    with pytest.raises(BadInputError, match="changed while"):
        aligned(tmp_path, [tensor], RowMap(np.array([0, 0]), np.array([1, 0])))
