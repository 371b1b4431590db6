"""Tied weights: the same model, whether its head stands in its files or not."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from crdtmerge.errors import BadInputError
from crdtmerge.formats.folder import ModelFolder, open_tensor, read_folder
from crdtmerge.formats.ingest import describe, headers
from crdtmerge.formats.tying import by_blobs, by_bytes, fit_ties, have_same_bytes

EMBED, HEAD, NORM = "model.embed_tokens.weight", "lm_head.weight", "norm.weight"


def save(folder: Path, seed: int, *, head: str = "", config: object = None) -> Path:
    """Write a small model whose head is `tied`, `own`, or not there."""
    generator = torch.Generator().manual_seed(seed)
    embed = torch.randn(300, 7, generator=generator)
    tensors = {EMBED: embed, NORM: torch.ones(7), "last.norm.weight": torch.ones(7)}
    if head:
        own = torch.randn(300, 7, generator=generator)
        tensors[HEAD] = embed.clone() if head == "tied" else own
    folder.mkdir(exist_ok=True)
    save_file(tensors, folder / "model.safetensors")
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    return folder


def fitted(model: Path, base: Path) -> ModelFolder:
    """Return a model under the base's names, which both ways of comparing agree on."""
    ours, theirs = read_folder(model), read_folder(base)
    named = describe(theirs, "base")
    found = fit_ties(ours, headers(theirs, "base", b""), by_bytes(theirs))
    assert found == fit_ties(ours, named, by_blobs(named))
    return found


def names(folder: ModelFolder) -> list[str]:
    return [tensor.name for tensor in folder.tensors]


def test_a_copy_of_the_embedding_is_left_out(tmp_path: Path) -> None:
    """The base ties its head: a fine-tune that wrote it twice loses nothing."""
    base = save(tmp_path / "base", 0)
    found = fitted(save(tmp_path / "tune", 1, head="tied"), base)
    assert names(found) == names(read_folder(base))
    assert found.notes == (
        f"{HEAD} is left out: it is {EMBED}, to which the base ties it",
    )


def test_a_head_of_its_own_is_not_left_out(tmp_path: Path) -> None:
    """Where the base has no place for it, the error says so; nothing is dropped."""
    base = save(tmp_path / "base", 0)
    with pytest.raises(BadInputError, match=f"'{HEAD}'.*trained apart") as caught:
        fitted(save(tmp_path / "tune", 1, head="own"), base)
    assert "tie_word_embeddings" in caught.value.hint


def test_one_bit_makes_a_head_its_own(tmp_path: Path) -> None:
    """Equal means the bytes, to the last."""
    base, tune = save(tmp_path / "base", 0), save(tmp_path / "tune", 1, head="tied")
    tensors = load_file(tune / "model.safetensors")
    tensors[HEAD].view(torch.int32)[-1, -1] ^= 1
    save_file(tensors, tune / "model.safetensors")
    with pytest.raises(BadInputError, match="trained apart"):
        fitted(tune, base)


@pytest.mark.parametrize(
    "config",
    [{"tie_word_embeddings": True}, {"text_config": {"tie_word_embeddings": True}}],
)
def test_a_config_that_ties_gives_the_head(tmp_path: Path, config: object) -> None:
    """The base has a head of its own; the fine-tune's is its embedding, as it says."""
    base = save(tmp_path / "base", 0, head="own")
    tune = save(tmp_path / "tune", 1, config=config)
    found = fitted(tune, base)
    assert names(found) == names(read_folder(base))
    tensors = {tensor.name: tensor for tensor in found.tensors}
    assert bytes(open_tensor(tensors[HEAD])) == bytes(open_tensor(tensors[EMBED]))
    assert found.notes == (
        f"{HEAD} is {EMBED}, to which it is tied: the files have it once",
    )


def test_a_base_that_has_it_twice_gives_the_head(tmp_path: Path) -> None:
    """What is one tensor in the base is one in its fine-tune, with no config at all."""
    base = save(tmp_path / "base", 0, head="tied")
    assert names(fitted(save(tmp_path / "tune", 1), base)) == names(read_folder(base))


@pytest.mark.parametrize(
    "config", [None, {}, {"tie_word_embeddings": False}, {"tie_word_embeddings": 1}, []]
)
def test_nothing_is_guessed(tmp_path: Path, config: object) -> None:
    """A head that is missing stays so, unless base or config say what it is."""
    base = save(tmp_path / "base", 0, head="own")
    found = fitted(save(tmp_path / "tune", 1, config=config), base)
    assert HEAD not in names(found)
    assert found.notes == ()


def test_norms_are_equal_and_not_tied(tmp_path: Path) -> None:
    """Two tensors full of ones are no tie, whichever of the models lacks one."""
    more, less = save(tmp_path / "more", 0), save(tmp_path / "less", 1)
    tensors = load_file(less / "model.safetensors")
    del tensors[NORM]
    save_file(tensors, less / "model.safetensors")
    for model, base in ((more, less), (less, more)):
        assert fitted(model, base) == read_folder(model)


def test_a_delta_lacks_nothing(tmp_path: Path) -> None:
    """What a delta leaves out it leaves as it is in the base."""
    base = read_folder(save(tmp_path / "base", 0, head="tied"))
    named = describe(base, "base")
    delta = read_folder(save(tmp_path / "delta", 1))
    assert fit_ties(delta, named, by_blobs(named), whole=False) == delta


def test_pytorch_files_hold_all_names_of_a_tensor(tmp_path: Path) -> None:
    """T5 as its own .bin and as safetensors: transformers' two ways of saving one."""
    from transformers import T5Config, T5ForConditionalGeneration

    options: dict[str, Any] = {
        "vocab_size": 32,
        "d_model": 8,
        "d_kv": 4,
        "d_ff": 8,
        "num_heads": 2,
        "num_layers": 1,
        "tie_word_embeddings": True,
        "decoder_start_token_id": 0,
    }
    model = T5ForConditionalGeneration(T5Config(**options))
    model.save_pretrained(tmp_path / "once")
    (tmp_path / "often").mkdir()
    torch.save(model.state_dict(), tmp_path / "often" / "pytorch_model.bin")
    once, often = read_folder(tmp_path / "once"), read_folder(tmp_path / "often")
    assert len(often.tensors) == len(once.tensors) + 3
    there, back = (
        fitted(tmp_path / "often", tmp_path / "once"),
        fitted(tmp_path / "once", tmp_path / "often"),
    )
    assert describe(there, "base") == describe(once, "base")
    assert describe(back, "base") == describe(often, "base")


def test_same_bytes_of_other_sizes_differ(tmp_path: Path) -> None:
    """A beginning is not the whole."""
    zeros = {"a": torch.zeros(300_000), "b": torch.zeros(300_001)}
    save_file(zeros, tmp_path / "x.safetensors")
    a, b = read_folder(tmp_path).tensors
    assert have_same_bytes(a, a)
    assert not have_same_bytes(a, b)
