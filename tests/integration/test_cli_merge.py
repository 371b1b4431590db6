"""The command `merge`: mergekit's configurations, with no node, no home, no space."""

import json
import os
import re
import shutil
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from crdtmerge.errors import BadInputError
from crdtmerge.formats.folder import read_folder
from crdtmerge.formats.ingest import Model, describe
from crdtmerge.formats.source import FolderSource
from crdtmerge.formats.survey import Seen, Visit, plain_pass
from nodes import cli
from nodes.operations import merging_models
from tests.homes import Fleet, write_model
from tests.small_adapters import PREFIX, factors, write_adapter

TIES = (
    "merge_method: ties\nbase_model: base\nmodels:\n"
    "- {model: one, parameters: {weight: 1}}\n"
    "- {model: two, parameters: {weight: 0.5}}\n"
)
HEAVY = "- {model: heavy, parameters: {weight: 1000}}\n"
LINEAR = TIES.replace("ties", "linear").replace("base_model: base\n", "")


@dataclass
class Bench:
    """A folder with a base and two fine-tunes; commands run in it."""

    folder: Path
    capsys: pytest.CaptureFixture[str]

    def run(self, *words: object) -> tuple[int, str, str]:
        """Run one command; return its exit code, stdout and stderr."""
        self.capsys.readouterr()
        code = cli.run([str(word) for word in words])
        found = self.capsys.readouterr()
        return code, found.out, found.err

    def write(self, text: str, name: str = "merge.yml") -> Path:
        """Write a configuration."""
        path = self.folder / name
        path.write_text(text)
        return path

    def merge(self, text: str, out: str = "out", *words: str) -> dict[str, Any]:
        """Merge, which must succeed; return what `--json` says."""
        code, said, err = self.run("merge", self.write(text), out, "--json", *words)
        assert (code, err) == (0, "")
        facts: dict[str, Any] = json.loads(said)
        return facts

    def refused(self, text: str, out: str = "out", *words: str) -> dict[str, Any]:
        """Check that a merge fails, and leaves everything as it was; return why."""
        path = self.write(text)
        before = content(self.folder)
        code, said, err = self.run("merge", path, out, "--json", *words)
        assert content(self.folder) == before
        assert said == ""
        error: dict[str, Any] = json.loads(err)["error"]
        assert error["exit_code"] == code != 0
        return error


def content(folder: Path) -> dict[str, bytes]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.fixture
def bench(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Bench:
    monkeypatch.delenv("CRDTMERGE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "nobody"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "nobody"))
    monkeypatch.chdir(tmp_path)
    steps = np.arange(4)
    base = write_model(tmp_path / "base", 0, steps=steps)
    (base / "tokenizer.json").write_text("{}")
    write_model(tmp_path / "one", 1, near=base, steps=steps + 1)
    write_model(tmp_path / "two", 2, near=base, steps=steps + 2)
    return Bench(tmp_path, capsys)


def test_a_merge_needs_no_home_and_leaves_none(bench: Bench) -> None:
    """The models come in, a folder that loads goes out, and nothing else is written."""
    before = set(content(bench.folder))
    facts = bench.merge(TIES)
    written = {name for name in content(bench.folder) if name not in before}
    assert written == {
        "merge.yml",
        *(
            f"out/{name}"
            for name in (
                "README.md",
                "config.json",
                "model.safetensors",
                "resolution.json",
                "tokenizer.json",
            )
        ),
    }
    tensors = load_file(bench.folder / "out" / "model.safetensors")
    assert tensors["steps"].tolist() == [
        0,
        1,
        2,
        3,
    ]  # the base's: integers do not merge
    assert facts["out"] == str(bench.folder / "out")
    assert facts["space"] == ""
    assert facts["recipe"]["strategy"] == "ties/1"
    assert facts["recipe"]["parameters"]["density"] == "1"
    stated = json.loads((bench.folder / "out" / "resolution.json").read_text())
    for name in ("model_digest", "merge_id", "visible_root", "base", "space"):
        assert stated[name] == facts[name]


@pytest.mark.parametrize("threads", ["1", "3"])
def test_two_runs_write_equal_bytes(bench: Bench, threads: str) -> None:
    """Every file, whatever the threads, the folder and the words in the file."""
    bench.merge(TIES)
    words = TIES.replace("0.5", "5e-1") + "parameters: {density: 1.0, lambda: 1}\n"
    (bench.folder / "there").mkdir()
    for name in ("base", "one", "two"):
        shutil.copytree(bench.folder / name, bench.folder / "there" / name)
    bench.write(words, "there/other.yml")
    done = bench.run("merge", "there/other.yml", "again", "--threads", threads)
    assert done[0] == 0
    assert content(bench.folder / "again") == content(bench.folder / "out")


@pytest.mark.parametrize(
    ("configuration", "words"),
    [
        (TIES, "ties density=1"),
        (TIES + "parameters: {density: 0.3, normalize: false}", ""),
        (TIES.replace("ties", "dare_ties") + "parameters: {density: 0.5}", ""),
        (TIES.replace("ties", "dare_linear") + "parameters: {density: 0.5}", ""),
        (TIES.replace("ties", "task_arithmetic") + "parameters: {lambda: 0.3}", ""),
        (TIES.replace("ties", "nuslerp"), ""),
        (TIES.replace("ties", "metagpt"), ""),
        (TIES.replace("ties", "median"), ""),
    ],
)
def test_bytes_are_those_of_a_space(
    bench: Bench, configuration: str, words: str
) -> None:
    """Same contributions, weights and recipe: same model, same merge id, masks too."""
    facts = bench.merge(configuration)
    parameters = facts["recipe"]["parameters"].items()
    pairs = [
        word for key, value in parameters for word in ("--param", f"{key}={value}")
    ]
    home = ["--home", "home"]
    strategy = facts["recipe"]["strategy"].partition("/")[0]
    for command in (
        ["init"],
        ["space", "create", "s", "--base", "base", "--strategy", "linear"],
        ["contribute", "one"],
        ["contribute", "two", "--weight", "0.5"],
        ["resolve", "--out", "shared", "--strategy", strategy, *pairs],
    ):
        assert bench.run(*home, *command)[0] == 0
    stated = json.loads((bench.folder / "shared" / "resolution.json").read_text())
    assert facts["model_digest"] == stated["model_digest"]
    assert facts["merge_id"] == stated["merge_id"]
    assert facts["visible_root"] == stated["visible_root"]
    model = (bench.folder / "shared" / "model.safetensors").read_bytes()
    assert (bench.folder / "out" / "model.safetensors").read_bytes() == model


def test_slerp_is_the_spaces_with_the_base_as_a_model(bench: Bench) -> None:
    """T = 0 and t = 1 are the ends, bit for bit; between lies the arc."""
    text = "merge_method: slerp\nbase_model: base\nmodels: [{model: one}]\nparameters: "
    for t, end in (("0", "base"), ("1", "one")):
        bench.merge(f"{text}{{t: {t}}}", f"out-{t}")
        made = load_file(bench.folder / f"out-{t}" / "model.safetensors")
        expected = load_file(bench.folder / end / "model.safetensors")
        for name in expected.keys() - {"steps"}:
            assert made[name].tobytes() == expected[name].tobytes()
    bench.merge(f"{text}{{t: 0.25}}", "out-between")
    stated = json.loads((bench.folder / "out-between/resolution.json").read_text())
    assert sorted(c["weight"] for c in stated["contributions"]) == ["0.25", "0.75"]


def test_without_a_base_models_stand_on_nothing(bench: Bench) -> None:
    """The first gives companions and integers; the merge id differs from one with it."""
    facts = bench.merge(LINEAR)
    assert facts["base"] == ""
    made = load_file(bench.folder / "out" / "model.safetensors")
    assert made["steps"].tolist() == [1, 2, 3, 4]
    assert not (bench.folder / "out" / "tokenizer.json").exists()
    one, two = (
        load_file(bench.folder / name / "model.safetensors") for name in ("one", "two")
    )
    for name in made.keys() - {"steps"}:
        mean = (one[name].astype(float) + two[name].astype(float) / 2) / 1.5
        assert np.abs(made[name] - mean).max() < 1e-6
    based = bench.merge(f"{LINEAR}base_model: one", "based")
    assert based["contributions"] == facts["contributions"]
    assert based["merge_id"] != facts["merge_id"]
    for out in ("out", "based"):
        assert bench.run("verify", out)[0] == 0


def test_without_a_base_nuslerp_turns_whole_weights(bench: Bench) -> None:
    """The first model gives names and integers, and is no base to measure from."""
    write_model(bench.folder / "away", 9, steps=np.arange(4))
    text = LINEAR.replace("linear", "nuslerp").replace("two", "away")
    bench.merge(text.replace("0.5", "1"))
    made, one, away = (
        load_file(bench.folder / name / "model.safetensors")
        for name in ("out", "one", "away")
    )
    for name in made.keys() - {"steps"}:
        a, b = one[name].astype(float), away[name].astype(float)
        cosine = (a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum())
        middle = (a + b) / np.sqrt(2 + 2 * cosine)
        assert np.abs(made[name] - middle).max() < 1e-6


def test_own_parameters_stand_in_the_resolution(bench: Bench) -> None:
    """They are part of what the merge id names."""
    text = TIES.replace("weight: 1", "weight: 1, density: 0.4")
    facts = bench.merge(text)
    stated = json.loads((bench.folder / "out" / "resolution.json").read_text())
    own = [c["parameters"] for c in stated["contributions"]]
    assert sorted(own, key=len) == [{}, {"density": "0.4"}]
    other = bench.merge(text.replace("0.4", "0.6"), "other")
    assert other["recipe"] == facts["recipe"]
    assert other["merge_id"] != facts["merge_id"]
    assert other["model_digest"] != facts["model_digest"]


def test_one_model_under_two_names_is_two_models(bench: Bench) -> None:
    """Equal contents with other weights each count, and the record says both."""
    shutil.copytree(bench.folder / "one", bench.folder / "copy")
    facts = bench.merge(TIES.replace("model: two", "model: copy"))
    assert len(set(facts["contributions"])) == 1
    assert len(facts["contributions"]) == 2
    assert bench.run("verify", "out")[0] == 0
    single = bench.merge(
        TIES.replace("- {model: two, parameters: {weight: 0.5}}", ""), "x"
    )
    assert single["merge_id"] != facts["merge_id"]


def test_verify_says_what_it_can_tell(bench: Bench) -> None:
    """The digests always; a changed weight, parameter or tensor is found."""
    bench.merge(TIES.replace("weight: 1", "weight: 1, density: 0.4"))
    code, said, _ = bench.run("verify", "out", "--json")
    facts = json.loads(said)
    assert (code, facts["digests"], facts["recomputed"]) == (0, True, False)
    assert "from a configuration" in facts["reason"]
    path = bench.folder / "out" / "resolution.json"
    text = path.read_text()
    for before, after in (('"0.5"', '"0.7"'), ('"0.4"', '"0.3"')):
        assert before in text
        path.write_text(text.replace(before, after))
        code, _, err = bench.run("verify", "out")
        assert code == 8
        assert "root in resolution.json is not that of its contributions" in err
    path.write_text(text.replace('"lambda": "1"', '"lambda": "2"'))
    assert bench.run("verify", "out")[0] == 8
    path.write_text(text)
    model = bench.folder / "out" / "model.safetensors"
    data = bytearray(model.read_bytes())
    data[-1] ^= 1
    model.write_bytes(bytes(data))
    assert bench.run("verify", "out")[0] == 8


def test_people_read_what_was_made_and_what_was_passed_over(bench: Bench) -> None:
    """The digest in full, notes on stderr."""
    path = bench.write(TIES + "parameters: {int8_mask: true}\ndtype: bfloat16")
    code, said, err = bench.run("merge", path, "out")
    assert code == 0
    assert "merged 2 models to" in said
    assert "ties/1 density=1 lambda=1 normalize=true" in said
    assert "note: int8_mask changes nothing in ties" in err
    assert "note: dtype is the output's: models are merged as they are" in err
    stored = read_folder(bench.folder / "out").tensors
    assert {t.dtype for t in stored} == {"BF16", "I64"}


def test_people_read_that_values_differ(bench: Bench) -> None:
    """The line of the recipe has what all share, and is not all that was merged by."""
    text = TIES.replace("weight: 1", "weight: 1, density: 0.4")
    path = bench.write(text + "parameters: {density: [{filter: bias, value: 1}]}")
    code, said, err = bench.run("merge", path, "out")
    assert code == 0, err
    stated = json.loads((bench.folder / "out" / "resolution.json").read_text())
    rules = len(stated["recipe"]["rules"])
    assert rules
    assert f"with          {rules} rule" in said
    assert "own values of 1 model: see resolution.json" in said


# --- refusals --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("a: [", "BadInputError", "merge.yml is not YAML: line 1"),
        ("- a", "BadInputError", "merge.yml is not a mapping"),
        (TIES.replace("ties", "tise"), "UnknownNameError", "no merge_method 'tise'"),
        (TIES + "parameters: {densty: 1}", "UnknownNameError", "'densty' is not known"),
        (TIES.replace("0.5", "x"), "BadInputError", "weight is 'x', which is not a"),
        (TIES.replace("0.5", "1e-10"), "BadInputError", "more than 9 decimal places"),
        (TIES.replace("two", "three"), "BadInputError", "model 'three': there is no"),
        (TIES.replace("two", "org/hub"), "BadInputError", "model 'org/hub': there is"),
        (
            TIES.replace("two", "short"),
            "BadInputError",
            "'short': model.safetensors is truncated",
        ),
        (
            TIES.replace("two", "shape"),
            "BadInputError",
            "model 'shape': tensor 'layer.b",
        ),
        (
            TIES.replace("two", "dtype"),
            "BadInputError",
            "model 'dtype': tensor 'layer.b",
        ),
        (
            TIES.replace("two", "fewer"),
            "BadInputError",
            "model 'fewer': the model lacks",
        ),
        (
            TIES.replace("two", "nan"),
            "BadInputError",
            "model 'nan': tensor 'layer.bias'",
        ),
        (
            TIES.replace("two", "far"),
            "BadInputError",
            "model 'far': tensor 'layer.bias'",
        ),
        (TIES.replace("two", "empty"), "BadInputError", "'empty': .* no safetensors"),
        (
            TIES.replace("base_model: base", "base_model: none"),
            "BadInputError",
            "'none'",
        ),
        (
            LINEAR.replace("weight: 1", "weight: -0.5"),
            "ContractError",
            "the weights sum to zero",
        ),
        (
            TIES.replace("ties", "median").replace("0.5", "-1"),
            "ContractError",
            "negative weight has no meaning to median",
        ),
        (
            TIES.replace("ties", "nuslerp").replace("0.5", "-1"),
            "ContractError",
            "negative weight has no meaning to nuslerp",
        ),
        (
            TIES.replace("0.5", "1000") + HEAVY,
            "ContractError",
            "sum of .weights. is 2001",
        ),
    ],
)
def test_bad_input_is_refused_and_leaves_no_output(
    bench: Bench, text: str, kind: str, message: str
) -> None:
    """Which model, which tensor, what is wrong: in one line, with exit code 3."""
    folder, base = bench.folder, bench.folder / "base"
    bias = load_file(base / "model.safetensors")["layer.bias"]
    steps = np.arange(4)
    write_model(folder / "shape", 3, near=base, layer_bias=bias[:-1], steps=steps)
    whole = bias.astype(np.int32)
    write_model(folder / "dtype", 3, near=base, layer_bias=whole, steps=steps)
    write_model(folder / "fewer", 3, near=base, layer_bias=None, steps=steps)
    write_model(folder / "nan", 3, near=base, layer_bias=bias * np.nan, steps=steps)
    write_model(folder / "far", 3, near=base, layer_bias=bias * 1000, steps=steps)
    shutil.copytree(folder / "one", folder / "heavy")
    (folder / "empty").mkdir()
    write_model(folder / "short", 3, near=base, steps=steps)
    cut = folder / "short" / "model.safetensors"
    cut.write_bytes(cut.read_bytes()[:-9])
    error = bench.refused(text)
    assert error["type"] == kind
    assert re.search(message, error["message"]), error["message"]
    assert error["exit_code"] == 3


def test_an_output_in_the_way_stays(bench: Bench) -> None:
    """Without --force; with it too, where it is a model or holds the configuration."""
    bench.merge(TIES)
    assert "not empty" in bench.refused(TIES)["message"]
    bench.merge(TIES.replace("0.5", "0.25"), "out", "--force")
    for place in ("base", "two", "./one"):
        error = bench.refused(TIES, place, "--force")
        assert "one of the models" in error["message"]
        assert error["exit_code"] == 5
    error = bench.refused(TIES, ".", "--force")
    assert "holds the configuration" in error["message"]


def test_a_model_that_is_written_to_meanwhile_is_refused(bench: Bench) -> None:
    """The bytes that were hashed are the bytes that are merged."""
    folder = read_folder(bench.folder / "one")
    source = FolderSource()
    source.watch(folder.tensors)
    manifest = describe(folder, "base")
    source.add(Model(folder.path, manifest, folder.tensors))
    entry = manifest.tensors[0]
    stored = folder.tensors[0]
    data = source.read(entry.blob, entry.size)
    raw = stored.path.read_bytes()[stored.offset : stored.offset + stored.size]
    assert bytes(data) == raw
    source.check_unchanged()
    path = bench.folder / "one" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-4] + struct.pack("<f", 0.5))
    os.utime(path, ns=(1, 1))
    with pytest.raises(BadInputError, match="changed while it was being merged"):
        source.check_unchanged()


@pytest.mark.parametrize("text", [TIES, LINEAR, TIES.replace("ties", "breadcrumbs")])
def test_names_that_come_late_are_the_names_of_the_bytes(
    bench: Bench, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hashed while they are merged or before, models make the same folder."""
    hashed: list[Path] = []

    def noted(visits: Sequence[Visit], *more: Any, **options: Any) -> Iterator[Seen]:
        hashed.extend(visit.tensor.path for visit in visits)
        return plain_pass(visits, *more, **options)

    monkeypatch.setattr(merging_models, "plain_pass", noted)
    bench.merge(text, "late")
    assert not hashed
    monkeypatch.setattr(merging_models, "_is_late", lambda _: False)
    bench.merge(text, "early")
    assert hashed
    assert content(bench.folder / "late") == content(bench.folder / "early")


def test_shards_are_read_as_one_model(bench: Bench) -> None:
    """A model in two files with an index gives the bytes of one in a single file."""
    facts = bench.merge(TIES)
    tensors = load_file(bench.folder / "two" / "model.safetensors")
    sharded = bench.folder / "sharded"
    sharded.mkdir()
    placed = {}
    for i, name in enumerate(sorted(tensors)):
        file = f"model-{i}.safetensors"
        save_file({name: tensors[name]}, sharded / file)
        placed[name] = file
    index = sharded / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": placed}))
    again = bench.merge(TIES.replace("model: two", "model: sharded"), "again")
    assert again["model_digest"] == facts["model_digest"]
    assert again["merge_id"] == facts["merge_id"]


def test_the_configuration_in_the_readme_is_merged(bench: Bench) -> None:
    """As it stands there, but for the folders' names."""
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    (text,) = re.findall(r"```yaml\n(.*?)```", readme, re.DOTALL)
    text = text.replace("model: mine", "model: one").replace(
        "model: yours", "model: two"
    )
    facts = bench.merge(text)
    assert facts["recipe"]["parameters"]["density"] == "0.2"
    assert facts["recipe"]["output_dtype"] == "BF16"


ADAPTED = TIES + "- {model: base+lora, parameters: {weight: 1}}\n"


def test_an_adapter_on_the_base_merges_as_in_a_space(bench: Bench) -> None:
    """Mergekit's MODEL+ADAPTER: the same contribution as `contribute` makes of it."""
    write_adapter(bench.folder / "lora")
    facts = bench.merge(ADAPTED)
    spelled = "{model: {model: base, lora: ./lora}, parameters"
    again = bench.merge(ADAPTED.replace("{model: base+lora, parameters", spelled), "b")
    assert again["model_digest"] == facts["model_digest"]
    fleet = Fleet.at(bench.folder)
    home = fleet.init("home")
    fleet.call(
        home, "space_create", name="s", base=bench.folder / "base", strategy="ties",
        params=facts["recipe"]["parameters"],
    )  # fmt: skip
    for name, weight in (("one", "1"), ("two", "0.5"), ("lora", "1")):
        fleet.call(home, "contribute", path=bench.folder / name, weight=weight)
    resolved = fleet.call(home, "resolve", out=bench.folder / "resolved")
    assert resolved["model_digest"] == facts["model_digest"]
    assert bench.run("verify", bench.folder / "out")[0] == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (ADAPTED, "there is no adapter at .*lora"),
        (TIES.replace("two", "lora"), "there is no folder|write BASE.ADAPTER"),
        (LINEAR.replace("two", "one+lora"), "not on the base_model"),
    ],
)
def test_an_adapter_that_is_not_there_is_named(
    bench: Bench, text: str, said: str
) -> None:
    """Nor may it be on another model than the base, or stand for a model."""
    assert re.search(said, bench.refused(text)["message"])


def test_an_adapter_is_no_model(bench: Bench) -> None:
    """Listed alone it is refused with how to write it; a strange one by name."""
    write_adapter(bench.folder / "lora")
    error = bench.refused(TIES.replace("two", "lora"))
    assert "is an adapter" in error["message"]
    assert "MODEL+ADAPTER" in error["hint"]
    other = {name.replace("layer", "other"): v for name, v in factors().items()}
    assert f"{PREFIX}other.lora_A.weight" in other
    write_adapter(bench.folder / "strange", other)
    error = bench.refused(ADAPTED.replace("+lora", "+strange"))
    assert "'other.weight', which the base lacks" in error["message"]


# --- the output --------------------------------------------------------------------------


def test_an_output_that_cannot_be_is_refused_before_anything_is_hashed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is in the way, no room, too many files, a quantised base: headers tell."""

    def hashed(*_: object, **__: object) -> None:
        raise AssertionError("a model was hashed")

    monkeypatch.setattr("nodes.operations.merging_models.plain_pass", hashed)
    monkeypatch.setattr("crdtmerge.formats.source.blob_id_of", hashed)
    (bench.folder / "taken").mkdir()
    (bench.folder / "taken" / "file").write_text("mine")
    assert bench.refused(TIES, "taken")["exit_code"] == 5
    error = bench.refused(TIES, "out", "--shard-size", "some")
    assert error["message"] == "'some' is no size"
    assert bench.refused(TIES, "out", "--shard-size", "0")["exit_code"] == 3
    config = bench.folder / "base" / "config.json"
    before = config.read_text()
    config.write_text('{"quantization_config": {"bits": 4}}')
    steps = np.arange(4, dtype=np.int32)
    for name in ("base", "one", "two"):
        tensors = load_file(bench.folder / name / "model.safetensors")
        model = bench.folder / name / "model.safetensors"
        save_file(tensors | {"steps": steps}, model)
    assert "the base is quantised" in bench.refused(TIES)["message"]
    config.write_text(before)
    real = shutil.disk_usage(bench.folder)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: real._replace(free=1000))
    error = bench.refused(TIES)
    assert error["exit_code"] == 6
    assert "1000 are free" in error["message"]
    monkeypatch.setattr(shutil, "disk_usage", lambda _: real)
    for text in (TIES, TIES.replace("ties", "dare_ties")):
        code, _, err = bench.run("merge", bench.write(text), "out")
        assert code == 1
        assert "a model was hashed" in err


def test_the_card_of_a_merge_tells_of_its_models(bench: Bench) -> None:
    """Their names and licences; what stays behind of the base is noted."""
    (bench.folder / "base" / "README.md").write_text("---\nlicense: mit\n---\nmine")
    (bench.folder / "one" / "LICENSE").write_text("text")
    (bench.folder / "base" / "onnx").mkdir()
    facts = bench.merge(TIES)
    assert facts["card"] == str(bench.folder / "out" / "README.md")
    assert facts["shards"] == 1
    assert any("'onnx/'" in note for note in facts["notes"])
    card = (bench.folder / "out" / "README.md").read_text()
    assert "* `base`: `mit`\n" in card
    assert "* `one`: see `LICENSE` there\n" in card
    assert "* `two`: none is stated\n" in card
    assert "mine" not in card
    assert facts["model_digest"] in card
    bench.merge(LINEAR, "bare")
    card = (bench.folder / "bare" / "README.md").read_text()
    assert "Configuration and tokenizer are those of `one`." in card
    assert "The base" not in card


def test_a_model_that_is_not_there_is_told_where_it_may_be(bench: Bench) -> None:
    """It is on the Hub, or it was meant from where the command runs."""
    error = bench.refused(TIES.replace("two", "org/two"))
    assert "model 'org/two': there is no folder" in error["message"]
    assert "`hf download org/two --local-dir DIR`" in error["hint"]
    error = bench.refused(TIES.replace("base_model: base", "base_model: org/base"))
    assert "model 'org/base': there is no folder" in error["message"]
    deep = bench.folder / "deep"
    deep.mkdir()
    code, _, err = bench.run("merge", bench.write(TIES, "deep/merge.yml"), "out")
    assert code == 3
    assert f"not from this one: write {bench.folder.resolve() / 'base'}" in err


def test_what_is_read_is_the_bases_only_where_there_is_one(bench: Bench) -> None:
    """The first of the models stands for it in shapes and files alone."""
    read = bench.merge(LINEAR)["read"]
    assert read["base"] == 0 < read["contributions"]
    assert bench.merge(TIES, "based")["read"]["base"] > 0
