"""What goes along from the base: its files as they are, its dtype and quantisation not."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig

from crdtmerge.errors import BadInputError
from crdtmerge.formats.companions import companions_of, not_taken
from crdtmerge.formats.folder import read_folder
from crdtmerge.formats.licences import Licence, licence_of
from crdtmerge.formats.model_config import ModelConfig
from crdtmerge.recipe import OUTPUT_DTYPES
from tests.homes import write_model

PLAIN = {"model_type": "llama", "z": 1, "torch_dtype": "bfloat16", "name": "ü"}
TORCH = {
    "F64": torch.float64,
    "F32": torch.float32,
    "BF16": torch.bfloat16,
    "F16": torch.float16,
    "F8_E4M3": torch.bfloat16,  # transformers loads no model under an 8-bit dtype
    "F8_E5M2": torch.bfloat16,
}


def parsed(value: object) -> ModelConfig:
    return ModelConfig.parse(json.dumps(value).encode())


@pytest.mark.parametrize(
    "text", [b'{ "torch_dtype" : "float16",\n\n"a": 1.50}', b"[", b"7"]
)
def test_a_configuration_keeps_its_bytes(text: bytes) -> None:
    """Where the recipe names no dtype, or the one that was said; or it is no JSON."""
    assert ModelConfig.parse(text).for_output("") == text
    assert ModelConfig.parse(text).for_output("F16") == text


@pytest.mark.parametrize(("dtype", "expected"), TORCH.items())
def test_the_dtype_is_one_that_transformers_takes(
    tmp_path: Path, dtype: str, expected: torch.dtype
) -> None:
    """All that a recipe can ask for; all else stays, in its order."""
    assert TORCH.keys() == set(OUTPUT_DTYPES) - {""}
    text = parsed(PLAIN).for_output(dtype)
    (tmp_path / "config.json").write_bytes(text)
    loaded = AutoConfig.from_pretrained(tmp_path)
    assert loaded.dtype == expected
    found = json.loads(text)
    assert list(found) == list(PLAIN)
    assert {**found, "torch_dtype": "bfloat16"} == PLAIN


def test_the_parts_of_a_model_follow_too() -> None:
    """Text and vision towers have configurations of their own; null stays null."""
    inner = {
        "dtype": "float32",
        "vision_config": {"torch_dtype": "float32", "dtype": None},
    }
    value = {"text_config": inner, "dtype_note": "float32", "config": {"dtype": "x"}}
    found = json.loads(parsed(value).for_output("BF16"))
    assert found == {
        **value,
        "text_config": {
            "dtype": "bfloat16",
            "vision_config": {"torch_dtype": "bfloat16", "dtype": None},
        },
    }


def test_a_quantised_base_is_refused_and_what_only_says_so_is_not() -> None:
    """Packed weights mean nothing apart from their scales; plain floats load as such."""
    config = parsed({**PLAIN, "quantization_config": {"quant_method": "gptq"}})
    for dtypes in (["F16", "I32"], ["U8"], ["F8_E4M3", "BF16"]):
        with pytest.raises(BadInputError, match=r"quantised.*quantization_config"):
            config.check_weights(dtypes)
        parsed(PLAIN).check_weights(dtypes)
    config.check_weights(["BF16", "I64", "BOOL"])
    assert json.loads(config.for_output("")) == PLAIN
    files: dict[str, Path | bytes] = {"config.json": config.text}
    (note,) = companions_of(files, ["BF16"], "").notes
    assert "quantization_config is left out" in note


def test_what_stays_behind_is_told(tmp_path: Path) -> None:
    """Folders, and what no system could write; not stale weights, nor hidden files."""
    base = write_model(tmp_path / "base", 0)
    (base / "1_Pooling").mkdir()
    (base / "a:b.txt").write_text("x")
    for name in (
        "pytorch_model.bin",
        ".gitattributes",
        "resolution.json",
        "merges.txt",
    ):
        (base / name).write_text("x")
    (base / "README.md").write_text("of the base")
    files = dict(read_folder(base).files)
    left_out = not_taken(base, files)
    assert left_out == ("1_Pooling/", "a:b.txt")
    beside = companions_of(files, ["F32"], "", left_out)
    (note,) = beside.notes
    assert note.endswith("'1_Pooling/', 'a:b.txt'")
    out = tmp_path / "out"
    out.mkdir()
    beside.write(out)
    assert {p.name for p in out.iterdir()} == {"config.json", "merges.txt"}
    assert (
        beside.size
        == sum(p.stat().st_size for p in out.iterdir())
        - (out / "config.json").stat().st_size
    )
    (base / "merges.txt").unlink()
    with pytest.raises(BadInputError, match=r"cannot read merges\.txt"):
        beside.write(tmp_path)


@pytest.mark.parametrize(
    ("card", "expected"),
    [
        ("---\nlicense: apache-2.0\n---\n# x", ("apache-2.0", "", "")),
        ("\ufeff---\r\nlicense: mit\r\n---\r\n", ("mit", "", "")),
        (
            "---\nlicense: other\nlicense_name: my  own\nlicense_link: LICENSE\n---\n",
            ("other", "my own", "LICENSE"),
        ),
        ("---\nlicense: [mit, bsd]\n---\n", ("mit, bsd", "", "")),
        ("# no front matter\nlicense: mit\n", ("", "", "")),
        ("---\nlicense: mit\n", ("", "", "")),
        ("---\nlicense: {a: b}\n---\n", ("", "", "")),
        ("---\nlicense: mit\nlicense: gpl\n---\n", ("", "", "")),
        ("---\nlicense: !!python/object:os.system x\n---\n", ("", "", "")),
    ],
)
def test_a_licence_is_what_the_card_states_and_no_guess(
    tmp_path: Path, card: str, expected: tuple[Any, ...]
) -> None:
    """What is not of the form states nothing, and stops no merge."""
    (tmp_path / "README.md").write_text(card, newline="")
    assert licence_of(tmp_path) == Licence(*expected)
    assert licence_of(tmp_path / "nowhere") == Licence()


def test_a_licence_file_is_named(tmp_path: Path) -> None:
    """Its text is not read into a name."""
    for name in ("LICENSE", "Use-Policy.md", "license.txt", "unlicensed.md"):
        (tmp_path / name).write_text("MIT")
    assert licence_of(tmp_path).files == ("LICENSE", "Use-Policy.md", "license.txt")
