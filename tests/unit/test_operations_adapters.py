"""Adapters and deltas as contributions: what is taken, and what is refused by name."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from crdtmerge.errors import (
    BadInputError,
    CrdtMergeError,
    FaultyContributionError,
    MachineError,
    NothingToResolveError,
)
from tests.homes import Fleet, snapshot, write_model
from tests.small_adapters import PREFIX, Tensors, factors, write_adapter


class Setting:
    """One home with a space."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.fleet = Fleet.at(folder)
        self.home = self.fleet.init("home")
        self.base = write_model(folder / "base", 0)
        self.call("space_create", name="s", base=self.base, strategy="linear")

    def call(self, verb: str, **arguments: object) -> Any:
        """Run one verb on the home."""
        return self.fleet.call(self.home, verb, **arguments)

    def refused(
        self, error: type[CrdtMergeError], said: str, verb: str, **arguments: object
    ) -> CrdtMergeError:
        """Check that a verb refuses, says so, and leaves the home as it was."""
        before = snapshot(self.home)
        with pytest.raises(error, match=said) as found:
            self.call(verb, **arguments)
        assert snapshot(self.home) == before
        return found.value

    def merged(self, **arguments: object) -> Tensors:
        """Resolve and return the model."""
        out = self.folder / f"out{len(list(self.folder.glob('out*')))}"
        self.call("resolve", out=out, **arguments)
        found: Tensors = load_file(out / "model.safetensors")
        return found


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    return Setting(tmp_path)


# --- what is taken -----------------------------------------------------------------------


def test_a_pair_is_added_to_the_base(setting: Setting) -> None:
    """Alpha / r * B @ A, in the tensor that the pair is for, and nowhere else."""
    answer = setting.call("contribute", path=write_adapter(setting.folder / "a"))
    assert answer["kind"] == "lora"
    assert answer["notes"] == ["the adapter says that its base is 'ann/base'"]
    assert answer["tensors"] == 3
    base, merged = load_file(setting.base / "model.safetensors"), setting.merged()
    a, b = (part.astype(np.float64) for part in factors().values())
    assert np.allclose(merged["layer.weight"], base["layer.weight"] + 2 * (b @ a))
    for name in ("layer.bias", "head.weight"):
        assert merged[name].tobytes() == base[name].tobytes()


def test_signs_that_cancel_in_a_pair_do_not_matter(setting: Setting) -> None:
    """(A, B) and (-A, -B) are one adapter: factors are never averaged apart."""
    turned = {name: -values for name, values in factors().items()}
    setting.call("contribute", path=write_adapter(setting.folder / "one"))
    alone = setting.merged()
    setting.call("contribute", path=write_adapter(setting.folder / "two", turned))
    both = setting.merged()
    assert both["layer.weight"].tobytes() == alone["layer.weight"].tobytes()


def test_a_module_saved_whole_may_be_of_another_dtype(setting: Setting) -> None:
    """Trained heads are often wider than the base: read as they are, and written back."""
    head = np.random.default_rng(4).standard_normal((3, 5))
    tensors = {**factors(), f"{PREFIX}head.weight": head}
    adapter = write_adapter(setting.folder / "a", tensors, modules_to_save=["head"])
    answer = setting.call("contribute", path=adapter)
    assert setting.call("check", id=answer["content"])["usable"]
    merged = setting.merged()["head.weight"]
    assert merged.tobytes() == head.astype(np.float32).tobytes()
    out = setting.folder / "adapter"
    setting.call("resolve", out=out, **{"as": "adapter"})
    (saved,) = (
        tensor
        for name, tensor in load_file(out / "adapter_model.safetensors").items()
        if name.endswith("head.weight")
    )
    assert saved.tobytes() == merged.tobytes()


def test_a_delta_is_what_it_adds(setting: Setting) -> None:
    """Differences of some tensors, in another dtype than the base's, are added."""
    delta = np.linspace(-1, 1, 15).reshape(3, 5)
    folder = setting.folder / "delta"
    folder.mkdir()
    save_file({"head.weight": delta}, folder / "model.safetensors")
    answer = setting.call("contribute", path=folder, kind="delta")
    assert answer["kind"] == "delta"
    base, merged = load_file(setting.base / "model.safetensors"), setting.merged()
    assert np.allclose(merged["head.weight"], base["head.weight"] + delta, atol=1e-6)
    assert merged["layer.weight"].tobytes() == base["layer.weight"].tobytes()


@pytest.mark.parametrize("head", ["bert.", "a.b."])
def test_a_prefix_of_the_model_class_is_seen_through(
    setting: Setting, head: str
) -> None:
    """An adapter of a class that wraps the base's names its tensors with a prefix."""
    named = {
        name.replace(PREFIX, PREFIX + head): values
        for name, values in factors().items()
    }
    setting.call("contribute", path=write_adapter(setting.folder / "a"))
    wrapped = write_adapter(setting.folder / "b", named)
    answer = setting.call("contribute", path=wrapped)
    assert not answer["new"], "it is the same contribution"


def test_what_an_adapter_holds_whole_but_unchanged_says_nothing(
    setting: Setting,
) -> None:
    """PEFT saves all biases with bias='all'; those of the base are left out."""
    base = load_file(setting.base / "model.safetensors")
    kept = {**factors(), f"{PREFIX}layer.base_layer.bias": base["layer.bias"]}
    setting.call("contribute", path=write_adapter(setting.folder / "a"))
    answer = setting.call("contribute", path=write_adapter(setting.folder / "b", kept))
    assert not answer["new"]
    kept[f"{PREFIX}layer.base_layer.bias"] = base["layer.bias"] + 1
    changed = setting.call("contribute", path=write_adapter(setting.folder / "c", kept))
    assert changed["new"]
    assert changed["tensors"] == 4


def test_adapters_by_reference_are_read_where_they_lie(setting: Setting) -> None:
    """Nothing but the scale, which is in no file, is copied."""
    adapter = write_adapter(setting.folder / "a")
    setting.call("contribute", path=adapter, reference=True)
    merged = setting.merged()
    (adapter / "adapter_model.safetensors").unlink()
    with pytest.raises(CrdtMergeError, match=r"adapter_model\.safetensors"):
        setting.merged(strategy="ties")  # what linear made is there already
    assert merged["layer.weight"].any()


# --- what is refused ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"use_dora": True}, "DoRA"),
        ({"peft_type": "IA3"}, "'IA3', not LORA"),
        ({"lora_bias": True}, "lora_bias"),
        ({"trainable_token_indices": [1]}, "trainable_token_indices"),
        ({"target_parameters": ["experts"]}, "target_parameters"),
        ({"layer_replication": [[0, 1]]}, "layer_replication"),
        ({"loftq_config": {"loftq_bits": 4}}, "LoftQ"),
        ({"init_lora_weights": "pissa_niter_4"}, "pissa_niter_4"),
        ({"init_lora_weights": "olora"}, "olora"),
        ({"use_something_new": True}, "'use_something_new', which this version"),
        ({"r": 0}, "no rank"),
        ({"r": 3}, "the rank 3, its factors"),
        ({"rank_pattern": {"layer": 5}}, "the rank 5"),
        ({"rank_pattern": {"(": 5}}, "pattern"),
        ({"lora_alpha": "eight"}, "lora_alpha is 'eight'"),
        ({"lora_alpha": 1e30}, "lora_alpha"),
    ],
)
def test_what_a_config_switches_on_is_refused_by_name(
    setting: Setting, config: dict[str, object], said: str
) -> None:
    """Never merged as if it were plain LoRA."""
    adapter = write_adapter(setting.folder / "a", None, **config)
    setting.refused(BadInputError, said, "contribute", path=adapter)


def test_keys_that_are_off_are_no_obstacle(setting: Setting) -> None:
    """A later PEFT writes new keys, switched off, into every config."""
    adapter = write_adapter(setting.folder / "a", use_something_new=False, more=None)
    assert setting.call("contribute", path=adapter)["new"]


def _renamed(old: str, new: str) -> Tensors:
    return {name.replace(old, new): values for name, values in factors().items()}


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        (
            _renamed("layer.", "other."),
            "'other.weight', which the base lacks.*ann/base",
        ),
        (_renamed("layer.", "head."), r"'head.weight' are \[2, 5\] and \[17, 2\]"),
        ({k: v for k, v in factors().items() if "_A" in k}, "lacks a factor"),
        ({f"{PREFIX}layer.bias": np.ones(5, np.float32)}, "no pair"),
        ({**factors(), f"{PREFIX}score.weight": np.ones((2, 2))}, "a trained 'score"),
        (
            {**factors(), f"{PREFIX}layer.lora_magnitude_vector": np.ones(17)},
            "DoRA",
        ),
        ({**factors(), f"{PREFIX}layer.lora_B.bias": np.ones(17)}, "lora_B.bias"),
        ({k: v.astype(np.int32) for k, v in factors().items()}, "only floating-point"),
        ({k: v * np.float32(np.nan) for k, v in factors().items()}, "NaN"),
        ({k: v * np.float32(1e3) for k, v in factors().items()}, "headroom"),
        ({k: v * np.float32(1e25) for k, v in factors().items()}, "beyond float32"),
    ],
)
def test_an_adapter_that_does_not_fit_is_refused(
    setting: Setting, tensors: Tensors, said: str
) -> None:
    """Another base, other shapes, damaged or hostile values: named, nothing kept."""
    adapter = write_adapter(setting.folder / "a", tensors)
    setting.refused(BadInputError, said, "contribute", path=adapter)


def test_a_quantised_base_is_named_as_the_reason(tmp_path: Path) -> None:
    """Packed weights have no arithmetic: the base must be what was quantised."""
    setting = Setting(tmp_path)
    packed = np.ones((17, 5), np.uint8)
    base = write_model(tmp_path / "packed", 0, layer_weight=packed)
    setting.call("space_create", name="q", base=base, strategy="linear")
    adapter = write_adapter(tmp_path / "a")
    error = setting.refused(
        BadInputError, "U8 in the base", "contribute", path=adapter, space="q"
    )
    assert "quantised" in error.hint


def test_copies_of_a_head_must_agree(setting: Setting) -> None:
    """PEFT saves a head's bias twice with bias='all': two values would be a guess."""
    twice = {
        **factors(),
        f"{PREFIX}layer.bias": np.ones(5, np.float32),
        f"{PREFIX}layer.modules_to_save.bias": np.zeros(5, np.float32),
        f"{PREFIX}layer.original_module.bias": np.full(5, 7, np.float32),
    }
    adapter = write_adapter(setting.folder / "a", twice)
    setting.refused(BadInputError, "another", "contribute", path=adapter)
    twice[f"{PREFIX}layer.modules_to_save.bias"] += 1
    agreed = write_adapter(setting.folder / "b", twice)
    assert setting.call("contribute", path=agreed)["tensors"] == 4


def test_a_weight_given_whole_and_by_factors_is_refused(setting: Setting) -> None:
    """A resized embedding beside its factors would be counted twice."""
    both = {**factors(), f"{PREFIX}layer.base_layer.weight": np.ones((17, 5), "<f4")}
    adapter = write_adapter(setting.folder / "a", both)
    setting.refused(BadInputError, "whole and by factors", "contribute", path=adapter)


def test_pickled_factors_are_the_same_contribution(setting: Setting) -> None:
    """Older PEFT wrote adapter_model.bin; safetensors beside it go first."""
    setting.call("contribute", path=write_adapter(setting.folder / "a"))
    pickled = write_adapter(setting.folder / "b")
    weights = {name: torch.from_numpy(part) for name, part in factors().items()}
    torch.save(weights, pickled / "adapter_model.bin")
    (pickled / "adapter_model.safetensors").unlink()
    assert not setting.call("contribute", path=pickled)["new"]
    both = write_adapter(setting.folder / "c")
    (both / "adapter_model.bin").write_bytes(b"\x80\x04")
    assert not setting.call("contribute", path=both)["new"]


def test_an_adapter_without_weights_is_refused(setting: Setting) -> None:
    """A config alone is none, nor is one beside a file that is no PyTorch file."""
    adapter = write_adapter(setting.folder / "a")
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
    setting.refused(BadInputError, "no PyTorch file", "contribute", path=adapter)
    (adapter / "adapter_model.bin").unlink()
    error = setting.refused(BadInputError, "neither", "contribute", path=adapter)
    assert "save_pretrained" in error.hint


@pytest.mark.parametrize("text", ["", "[]", '{"peft_type": ', '{"peft_type": "LORA"}'])
def test_a_damaged_config_is_refused(setting: Setting, text: str) -> None:
    """Not JSON, not an object, nothing in it."""
    adapter = write_adapter(setting.folder / "a")
    (adapter / "adapter_config.json").write_text(text)
    setting.refused(BadInputError, "adapter_config.json", "contribute", path=adapter)


def test_a_kind_must_be_what_lies_there(setting: Setting) -> None:
    """Saying lora of a model, or full of an adapter, is a mistake to be told."""
    adapter = write_adapter(setting.folder / "a")
    refused = setting.refused
    refused(BadInputError, "is an adapter", "contribute", path=adapter, kind="full")
    refused(BadInputError, "no adapter", "contribute", path=setting.base, kind="lora")
    refused(BadInputError, "none of", "contribute", path=setting.base, kind="half")
    refused(BadInputError, "is an adapter", "space_create", name="t", base=adapter,
            strategy="linear")  # fmt: skip


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ({"other": np.ones(3)}, "'other', which the base lacks"),
        ({"layer.bias": np.ones(6)}, r"the shape \[6\]"),
        ({"layer.bias": np.ones(5, np.int32)}, "only floating-point"),
        ({"layer.bias": np.full(5, np.inf)}, "item 0 is infinite"),
        ({"layer.bias": np.full(5, 1e300)}, "beyond float32"),
        ({"layer.bias": np.full(5, 1e6)}, "headroom"),
    ],
)
def test_a_delta_that_does_not_fit_is_refused(
    setting: Setting, tensors: Tensors, said: str
) -> None:
    """Deltas obey the limits that fine-tunes do."""
    folder = setting.folder / "delta"
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors")
    setting.refused(BadInputError, said, "contribute", path=folder, kind="delta")


# --- resolving to an adapter -------------------------------------------------------------


def test_an_adapter_cannot_hold_everything(setting: Setting) -> None:
    """Full models, biases alone, whole-weight strategies, absurd ranks: named."""
    out = setting.folder / "out"
    tune = write_model(setting.folder / "tune", 1, near=setting.base)
    content = setting.call("contribute", path=tune)["content"]
    setting.call("contribute", path=write_adapter(setting.folder / "a"))
    form = {"as": "adapter", "out": out}
    setting.refused(BadInputError, "gives tensor .* whole", "resolve", **form)
    setting.call("remove", id=content)
    setting.refused(BadInputError, "rank", "resolve", rank=1 << 17, **form)
    setting.refused(
        BadInputError, "whole weights", "resolve", strategy="linear",
        params={"normalize": "false"}, **form,
    )  # fmt: skip
    setting.refused(BadInputError, "a rank is", "resolve", out=out, rank=2)
    setting.refused(BadInputError, "one file", "resolve", shard_size=9, **form)
    only = [c["content"] for c in setting.call("status")["spaces"][0]["contributions"]]
    setting.refused(
        NothingToResolveError, "leaves nothing", "resolve", without=only, **form
    )
    if Path("/proc/self").exists():  # a folder in which nobody can create anything
        setting.refused(MachineError, "cannot create", "resolve", out="/proc/merged")
    setting.refused(BadInputError, "none of", "resolve", out=out, **{"as": "picture"})
    folder = setting.folder / "delta"
    folder.mkdir()
    save_file({"layer.bias": np.ones(5, np.float32)}, folder / "model.safetensors")
    setting.call("contribute", path=folder, kind="delta")
    setting.refused(BadInputError, "'layer.bias'.*no weight", "resolve", **form)
    assert not out.exists()


def test_an_adapter_has_a_resolution_that_verifies(setting: Setting) -> None:
    """It names the same merge as the model, and one changed byte is found."""
    out = setting.folder / "adapter"
    setting.call("contribute", path=write_adapter(setting.folder / "a"))
    model = setting.call("resolve", out=setting.folder / "model")
    answer = setting.call("resolve", out=out, **{"as": "adapter"})
    assert answer["rank"] == 2
    assert answer["merge_id"] == model["merge_id"]
    assert setting.call("verify", dir=out)["recomputed"]
    config = json.loads((out / "adapter_config.json").read_text())
    assert (config["r"], config["target_modules"]) == (2, ["layer"])
    again = setting.folder / "again"
    setting.call("resolve", out=again, threads=1, **{"as": "adapter"})
    for file in out.iterdir():
        assert file.read_bytes() == (again / file.name).read_bytes()
    stated = json.loads((out / "resolution.json").read_text())
    stated["adapter"]["rank"] = 1
    (out / "resolution.json").write_text(
        json.dumps(stated, sort_keys=True, indent=2) + "\n"
    )
    with pytest.raises(CrdtMergeError, match="computed again"):
        setting.call("verify", dir=out)


def test_a_signed_adapter_that_breaks_the_headroom_is_its_authors_fault(
    setting: Setting,
) -> None:
    """Whoever passes by our checks is named when it is resolved."""
    from crdtmerge.codec import DECIMAL_UNIT
    from crdtmerge.formats.adapter import read_adapter
    from crdtmerge.formats.header import StoredTensor
    from crdtmerge.formats.ingest import describe_adapter
    from crdtmerge.formats.survey import Visit
    from nodes.operations.contents import base_manifest, bringing_in
    from nodes.operations.live import Context
    from nodes.operations.publishing import publish

    huge = {name: values * np.float32(1e3) for name, values in factors().items()}
    adapter = read_adapter(write_adapter(setting.folder / "a", huge))
    with setting.fleet.open(setting.home) as (_, spaces, verbs):
        context: Context = verbs._context
        (space,) = spaces.all()
        model = describe_adapter(adapter, base_manifest(context, space))
        with bringing_in(context, lambda _: None) as bringing:
            stored = [s for s in model.sources if isinstance(s, StoredTensor)]
            assert len(list(bringing.survey([Visit(s) for s in stored]))) == len(stored)
            bringing.keep(model)
            publish(
                context,
                space,
                lambda r: r.contribute(model.manifest, weight=DECIMAL_UNIT, note=""),
            )
    out = setting.folder / "out"
    with pytest.raises(FaultyContributionError, match="headroom") as found:
        setting.call("resolve", out=out)
    assert found.value.content == model.manifest.content_id
    assert not out.exists()


# --- what a hostile review found ----------------------------------------------------------


def two_towers(setting: Setting) -> str:
    """Found a space on a base of two equal parts; return its name."""
    tensors = {
        f"{part}.layer.weight": np.full((17, 5), number, np.float32)
        for number, part in enumerate(("text", "vision"))
    }
    folder = setting.folder / "towers"
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors")
    setting.call("space_create", name="two", base=folder, strategy="linear")
    return "two"


def test_an_adapter_that_fits_two_parts_is_refused(setting: Setting) -> None:
    """It is never added to a part that was not meant."""
    space, adapter = two_towers(setting), write_adapter(setting.folder / "a")
    error = setting.refused(
        BadInputError, "any of 'text.*'vision", "contribute", path=adapter, space=space
    )
    assert "adapt the whole model" in error.hint
    named = write_adapter(setting.folder / "b", _renamed("layer.", "vision.layer."))
    assert setting.call("contribute", path=named, space=space)["new"]


def test_names_too_long_for_a_manifest_are_refused_before_signing(
    setting: Setting,
) -> None:
    """A manifest that nobody can read would stop the whole space."""
    module = "m" * 496
    folder = setting.folder / "long"
    folder.mkdir()
    save_file(
        {f"{module}.weight": np.ones((17, 5), "<f4")}, folder / "model.safetensors"
    )
    setting.call("space_create", name="long", base=folder, strategy="linear")
    named = {
        name.replace(f"{PREFIX}layer", module): values
        for name, values in factors().items()
    }
    adapter = write_adapter(setting.folder / "a", named)
    setting.refused(
        BadInputError, "can be signed", "contribute", path=adapter, space="long"
    )


def pair_of_rank(rank: int) -> Tensors:
    """A pair for `layer.weight` of any rank."""
    return {
        f"{PREFIX}layer.lora_A.weight": np.full((rank, 5), 0.01, np.float32),
        f"{PREFIX}layer.lora_B.weight": np.full((17, rank), 0.01, np.float32),
    }


def test_one_rank_does_not_make_an_adapter_costly_for_all(setting: Setting) -> None:
    """The default is the rank that a product can have; above 1,024 it is refused."""
    wide = write_adapter(setting.folder / "wide", pair_of_rank(400), r=400)
    setting.call("contribute", path=wide)
    for number, rank in enumerate((None, 999)):
        out = setting.folder / f"out{number}"
        answer = setting.call("resolve", out=out, rank=rank, **{"as": "adapter"})
        assert answer["rank"] == 5
        assert setting.call("verify", dir=out)["recomputed"]
    absurd = write_adapter(setting.folder / "absurd", pair_of_rank(1025), r=1025)
    setting.refused(BadInputError, r"\[1025, 5\]", "contribute", path=absurd)


def large_base(setting: Setting, dtype: str, value: float) -> str:
    """Found a space on a base of large values; return its name."""
    folder = setting.folder / "large"
    folder.mkdir()
    weight = np.full((17, 5), value, dtype)
    save_file({"layer.weight": weight}, folder / "model.safetensors")
    setting.call("space_create", name="large", base=folder, strategy="linear")
    return "large"


def test_the_bases_exponent_counts_where_the_base_is_not_read(setting: Setting) -> None:
    """What a model takes, an adapter takes too: the headroom is that of the base."""
    space = large_base(setting, "<f4", 500.0)
    delta = np.float32(100) * np.ones((17, 5), np.float32)
    pair = {
        f"{PREFIX}layer.lora_A.weight": delta[:2],
        f"{PREFIX}layer.lora_B.weight": np.eye(17, 2, dtype=np.float32),
    }
    adapter = write_adapter(setting.folder / "a", pair, lora_alpha=2)
    setting.call("contribute", path=adapter, space=space)
    (setting.folder / "large" / "model.safetensors").unlink()
    answer = setting.call(
        "resolve", out=setting.folder / "out", space=space, **{"as": "adapter"}
    )
    assert answer["relative_error"] < 1e-6
    found = load_file(setting.folder / "out" / "adapter_model.safetensors")
    product = (
        found[f"{PREFIX}layer.lora_B.weight"] @ found[f"{PREFIX}layer.lora_A.weight"]
    )
    assert np.allclose(product[:2], 100)


def test_a_sum_that_the_dtype_cannot_hold_is_its_contributions_fault(
    setting: Setting,
) -> None:
    """A task vector inside the headroom can lead out of F16: refused with its name."""
    space = large_base(setting, "<f2", -1e4)
    folder = setting.folder / "delta"
    folder.mkdir()
    values = np.full((17, 5), -9e4, np.float32)
    save_file({"layer.weight": values}, folder / "model.safetensors")
    setting.refused(
        BadInputError, "'layer.weight'.*largest finite F16", "contribute",
        path=folder, kind="delta", space=space,
    )  # fmt: skip


def test_a_changed_config_of_an_adapter_is_found(setting: Setting) -> None:
    """The config says how factors act, so it is verified as the tensors are."""
    out = setting.folder / "out"
    setting.call("contribute", path=write_adapter(setting.folder / "a"))
    setting.call("resolve", out=out, **{"as": "adapter"})
    config = json.loads((out / "adapter_config.json").read_text())
    config["lora_alpha"] *= 100
    (out / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(CrdtMergeError, match=r"adapter_config\.json is not what"):
        setting.call("verify", dir=out)


def test_a_tied_head_that_is_saved_as_well_says_nothing(setting: Setting) -> None:
    """Its bytes are the embedding's, under a name that the base does not have."""
    base = load_file(setting.base / "model.safetensors")
    tied = {**factors(), f"{PREFIX}lm_head.weight": base["head.weight"]}
    answer = setting.call("contribute", path=write_adapter(setting.folder / "a", tied))
    assert answer["tensors"] == 3


def test_configs_of_old_versions_are_read(setting: Setting) -> None:
    """PEFT's own defaults stand in for what it did not write then."""
    adapter = write_adapter(setting.folder / "a", pair_of_rank(8), merge_weights=True)
    config = {"peft_type": "LORA", "target_modules": ["layer"], "merge_weights": False}
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    assert setting.call("contribute", path=adapter)["new"]
