"""Adapters as PEFT really saves them: contributed, resolved, and given back to PEFT."""

from pathlib import Path
from typing import Any

import pytest
import torch

from crdtmerge.errors import BadInputError
from tests import adapters
from tests.homes import Fleet

pytestmark = pytest.mark.filterwarnings("ignore")

GPT2_OPTIONS: dict[str, Any] = {
    "r": 4,
    "lora_alpha": 8,
    "target_modules": ["c_attn", "c_proj", "wte"],
    "fan_in_fan_out": True,
    "rank_pattern": {"mlp.c_proj": 2},
    "alpha_pattern": {"attn.c_proj": 3},
    "use_rslora": True,
    "bias": "lora_only",
}
BERT_OPTIONS: dict[str, Any] = {
    "r": 4,
    "task_type": "SEQ_CLS",
    "target_modules": ["query", "dense"],
    "bias": "all",
}


class Friends:
    """One home with a space around a real architecture."""

    def __init__(self, folder: Path, base: Path, strategy: str = "linear") -> None:
        self.folder, self.base = folder, base
        self.fleet = Fleet.at(folder)
        self.home = self.fleet.init("home")
        self.call("space_create", name="s", base=base, strategy=strategy)

    def call(self, verb: str, **arguments: object) -> Any:
        """Run one verb on the home."""
        return self.fleet.call(self.home, verb, **arguments)

    def resolved(self, **arguments: object) -> adapters.Tensors:
        """Resolve into a folder of its own; return the tensors."""
        out = self.folder / f"out{len(list(self.folder.glob('out*')))}"
        self.call("resolve", out=out, **arguments)
        return adapters.tensors_of(out)


def same(ours: adapters.Tensors, theirs: adapters.Tensors) -> None:
    """Check that two models agree but for float32 rounding of another order."""
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name], rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize(
    ("make", "options"), [(adapters.gpt2, GPT2_OPTIONS), (adapters.bert, BERT_OPTIONS)]
)
def test_one_adapter_resolves_to_what_peft_merges(
    tmp_path: Path, make: Any, options: dict[str, Any]
) -> None:
    """Unequal ranks and alphas, rsLoRA, (in, out) layers, embeddings, heads, biases."""
    base = make(tmp_path / "base")
    adapter = adapters.adapt(base, tmp_path / "adapter", 1, **options)
    friends = Friends(tmp_path, base)
    answer = friends.call("contribute", path=adapter)
    assert answer["kind"] == "lora"
    resolved = friends.resolved()
    same(resolved, adapters.merged_by_peft(base, adapter))
    changed = [
        n for n, t in adapters.tensors_of(base).items() if (resolved[n] != t).any()
    ]
    assert len(changed) >= 4, "the adapter must change something"


def test_adapters_of_unequal_rank_and_targets_average(tmp_path: Path) -> None:
    """Two adapters and a full fine-tune: the mean of the three merged models."""
    base = adapters.gpt2(tmp_path / "base")
    one = adapters.adapt(base, tmp_path / "one", 1, **GPT2_OPTIONS)
    two = adapters.adapt(
        base, tmp_path / "two", 2, r=8, target_modules=["c_fc"], fan_in_fan_out=True
    )
    full = adapters.gpt2(tmp_path / "full", seed=5)
    friends = Friends(tmp_path, base)
    for path in (one, two, full):
        friends.call("contribute", path=path)
    models = [adapters.merged_by_peft(base, one), adapters.merged_by_peft(base, two)]
    models.append(adapters.tensors_of(full))
    resolved = friends.resolved()
    mean = {n: sum(m[n].double() for m in models) / 3 for n in resolved}
    same(resolved, {n: torch.as_tensor(t).float() for n, t in mean.items()})


@pytest.mark.parametrize(
    ("make", "options"),
    [
        (adapters.gpt2, GPT2_OPTIONS | {"bias": "none"}),
        (adapters.bert, BERT_OPTIONS),
    ],
)
def test_a_resolved_adapter_is_loaded_by_peft_as_the_merged_model(
    tmp_path: Path, make: Any, options: dict[str, Any]
) -> None:
    """At a rank that holds all directions, PEFT merges it to the model we resolve."""
    base = make(tmp_path / "base")
    friends = Friends(tmp_path, base)
    for seed in (1, 2):
        friends.call(
            "contribute",
            path=adapters.adapt(base, tmp_path / f"a{seed}", seed, **options),
        )
    answer = friends.call(
        "resolve", out=tmp_path / "adapter", rank=8, **{"as": "adapter"}
    )
    assert answer["rank"] == 8
    assert answer["relative_error"] < 1e-6
    same(friends.resolved(), adapters.merged_by_peft(base, tmp_path / "adapter"))


def test_an_adapter_resolves_without_its_base(tmp_path: Path) -> None:
    """The base's files may be gone; a smaller rank leaves out the least it can."""
    base = adapters.gpt2(tmp_path / "base")
    options = {**GPT2_OPTIONS, "bias": "none"}
    friends = Friends(tmp_path, base)
    for seed in (1, 2):
        path = adapters.adapt(base, tmp_path / f"a{seed}", seed, **options)
        friends.call("contribute", path=path)
    whole = friends.resolved()
    start = adapters.tensors_of(base)
    (base / "model.safetensors").unlink()
    answer = friends.call(
        "resolve", out=tmp_path / "small", rank=3, **{"as": "adapter"}
    )
    assert friends.call("verify", dir=tmp_path / "small")["recomputed"]
    changed = {n: (whole[n] - start[n]).double() for n in whole}
    best = sum(
        (torch.linalg.svdvals(tau)[3:] ** 2).sum()
        for tau in changed.values()
        if tau.ndim == 2
    )
    total = sum((tau**2).sum() for tau in changed.values())
    least = float((best / total) ** 0.5)
    assert least <= answer["relative_error"] * (1 + 1e-4)
    assert answer["relative_error"] < 1.02 * least


def test_square_weights_are_kept_as_their_relatives_are(tmp_path: Path) -> None:
    """PEFT's flag is that of the layer it met last; a model may have both kinds."""
    base = adapters.gpt2(tmp_path / "base", tie_word_embeddings=False)
    friends = Friends(tmp_path, base)
    adapter = adapters.adapt(
        base, tmp_path / "a", 1, r=4, target_modules=["attn.c_proj", "lm_head"]
    )
    friends.call("contribute", path=adapter)
    same(friends.resolved(), adapters.merged_by_peft(base, adapter))
    friends.call("resolve", out=tmp_path / "adapter", **{"as": "adapter"})
    same(friends.resolved(), adapters.merged_by_peft(base, tmp_path / "adapter"))


def test_a_delta_becomes_an_adapter_where_its_layer_is_known(tmp_path: Path) -> None:
    """Biases tell of GPT-2's layers; of its embedding nothing does, so it is refused."""
    base = adapters.gpt2(tmp_path / "base")
    friends = Friends(tmp_path, base)
    shapes = {n: t.shape for n, t in adapters.tensors_of(base).items()}
    names = [f"transformer.h.0.attn.{n}.weight" for n in ("c_attn", "c_proj")]
    delta = adapters.save_delta(tmp_path / "delta", {n: shapes[n] for n in names})
    friends.call("contribute", path=delta, kind="delta")
    friends.call("resolve", out=tmp_path / "adapter", **{"as": "adapter"})
    same(friends.resolved(), adapters.merged_by_peft(base, tmp_path / "adapter"))
    wte = "transformer.wte.weight"
    more = adapters.save_delta(tmp_path / "more", {wte: shapes[wte]})
    friends.call("contribute", path=more, kind="delta")
    with pytest.raises(BadInputError, match="only a delta changes"):
        friends.call("resolve", out=tmp_path / "other", **{"as": "adapter"})


def test_modules_whose_names_end_alike_are_told_apart(tmp_path: Path) -> None:
    """PEFT takes a name for every module that ends in it; ours are exact."""
    base, model = adapters.convolutions(tmp_path / "base")
    friends = Friends(tmp_path, base)
    adapter = adapters.adapt_module(
        model(), tmp_path / "a", 1, r=4, target_modules=["conv1"]
    )  # fmt: skip
    friends.call("contribute", path=adapter)
    ours = friends.resolved()
    same(ours, adapters.merged_module(model(), adapter))
    friends.call("resolve", out=tmp_path / "out", rank=4, **{"as": "adapter"})
    same(ours, adapters.merged_module(model(), tmp_path / "out"))


def test_statistics_are_merged_but_stand_in_no_adapter(tmp_path: Path) -> None:
    """A normalisation has a counter that no merge makes, so it is refused by name."""
    base, model = adapters.convolutions(tmp_path / "base")
    friends = Friends(tmp_path, base)
    adapter = adapters.adapt_module(
        model(), tmp_path / "a", 1, target_modules=["conv1"], modules_to_save=["bn"]
    )
    friends.call("contribute", path=adapter)
    ours, theirs = friends.resolved(), adapters.merged_module(model(), adapter)
    same({n: t for n, t in ours.items() if n in theirs}, theirs)
    with pytest.raises(BadInputError, match=r"'block\.bn\..*integers"):
        friends.call("resolve", out=tmp_path / "out", **{"as": "adapter"})
