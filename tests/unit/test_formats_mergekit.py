"""mergekit's configurations: what they come to, and what is refused, with which words."""

import re
from pathlib import Path

import pytest

from crdtmerge.errors import BadInputError, CrdtMergeError, UnknownNameError
from crdtmerge.formats.mergekit import Configuration, read_configuration
from crdtmerge.formats.yaml_text import Number, parse_yaml

UNIT = 10**9
TWO = (
    "models: [{model: a, parameters: {weight: 1}}, {model: b, parameters: {weight: 3}}]"
)


def read(folder: Path, text: str) -> Configuration:
    path = folder / "merge.yml"
    path.write_text(text)
    found = read_configuration(path)
    assert isinstance(found, Configuration), "it has no slices"
    return found


def refused(folder: Path, text: str) -> CrdtMergeError:
    with pytest.raises(CrdtMergeError) as caught:
        read(folder, text)
    assert str(caught.value).startswith("merge.yml")
    assert caught.value.exit_code == 3
    return caught.value


def parameters(found: Configuration) -> dict[str, str]:
    return dict(found.recipe.parameters)


# --- what a file comes to --------------------------------------------------------------


def test_paths_are_taken_from_the_files_folder(tmp_path: Path) -> None:
    """Wherever the command runs; a base is a path too."""
    text = f"merge_method: ties\nbase_model: sub/../base\n{TWO}"
    found = read(tmp_path, text)
    assert found.base == tmp_path / "base"
    assert [m.path for m in found.models] == [tmp_path / "a", tmp_path / "b"]
    assert [m.name for m in found.models] == ["a", "b"]
    assert [m.weight for m in found.models] == [UNIT, 3 * UNIT]


def test_mergekits_words_become_ours(tmp_path: Path) -> None:
    """Density is what stays, rescale the norm, nuslerp's words lose their prefix."""
    head = f"base_model: base\n{TWO}\nmerge_method: "
    dare = read(tmp_path, f"{head}dare_ties\nparameters: {{density: 0.3, lambda: 2}}")
    assert parameters(dare) == {
        "p": "0.7", "lambda": "2", "normalize": "false", "rescale": "l1",
    }  # fmt: skip
    plain = read(tmp_path, f"{head}dare_linear\nparameters: {{rescale: false}}")
    assert parameters(plain)["rescale"] == "none"
    rows = read(tmp_path, f"{head}nuslerp\nparameters: {{nuslerp_row_wise: true}}")
    assert parameters(rows) == {"flatten": "true", "row_wise": "true"}


@pytest.mark.parametrize(("t", "weights"), [("0.25", (0.75, 0.25)), ("0", (1, 0))])
@pytest.mark.parametrize("listed", ["{model: base}, {model: a}", "{model: a}"])
def test_slerps_t_becomes_two_weights(
    tmp_path: Path, t: str, weights: tuple[float, float], listed: str
) -> None:
    """1 - t of the base, t of the other, whether the base is listed or not."""
    text = f"merge_method: slerp\nbase_model: base\nmodels: [{listed}]"
    found = read(tmp_path, f"{text}\nparameters: {{t: {t}}}")
    assert [(m.name, m.weight) for m in found.models] == [
        ("base", weights[0] * UNIT),
        ("a", weights[1] * UNIT),
    ]


def test_a_listed_base_counts_in_linear_and_is_skipped_elsewhere(
    tmp_path: Path,
) -> None:
    """As in mergekit, where linear takes in a base that is only named, too."""
    three = TWO[:-1] + ", {model: base, parameters: {weight: 5, density: 0.1}}]"
    ties = read(tmp_path, f"merge_method: ties\nbase_model: base\n{three}")
    assert [m.name for m in ties.models] == ["a", "b"]
    assert parameters(ties)["density"] == "1"
    assert "play no part" in ties.notes[0]
    three = three.replace(", density: 0.1", "")
    linear = read(tmp_path, f"merge_method: linear\nbase_model: base\n{three}")
    assert [(m.name, m.weight // UNIT) for m in linear.models] == [
        ("a", 1),
        ("b", 3),
        ("base", 5),
    ]
    text = "merge_method: linear\nbase_model: base\nmodels: [{model: a}]\n"
    named = read(tmp_path, f"{text}parameters: {{weight: 2}}")
    assert [(m.name, m.weight // UNIT) for m in named.models] == [("a", 2), ("base", 2)]
    assert (
        "counts the base_model"
        in refused(tmp_path, f"merge_method: linear\nbase_model: base\n{TWO}").hint
    )


def test_own_parameters_stand_where_they_differ(tmp_path: Path) -> None:
    """What all have alike is the recipe's, however it was written."""
    head = (
        "merge_method: ties\nbase_model: base\nparameters: {weight: 1, density: 0.5}\n"
    )
    text = "models: [{model: a, parameters: {density: %s}}, {model: b%s}]"
    mixed = read(tmp_path, head + text % ("0.25", ""))
    assert parameters(mixed)["density"] == "0.5"
    assert [m.parameters for m in mixed.models] == [(("density", "0.25"),), ()]
    alike = read(tmp_path, head + text % (".25", ", parameters: {density: 2.5e-1}"))
    assert parameters(alike)["density"] == "0.25"
    assert [m.parameters for m in alike.models] == [(), ()]
    once = read(
        tmp_path, head.replace("0.5", "0.25") + "models: [{model: a}, {model: b}]"
    )
    assert once == alike


def test_own_densities_of_dare_are_turned_into_chances(tmp_path: Path) -> None:
    text = f"merge_method: dare_linear\nbase_model: base\n{TWO}".replace(
        "weight: 3", "weight: 3, density: 0.4"
    )
    found = read(tmp_path, text)
    assert parameters(found)["p"] == "0"
    assert found.models[1].parameters == (("p", "0.6"),)


@pytest.mark.parametrize(
    ("text", "units"),
    [
        ("1e-3", UNIT // 1000),
        ("1.0e-3", UNIT // 1000),
        ("'1e-3'", UNIT // 1000),
        ("2E+1", 20 * UNIT),
        ("-.5", -UNIT // 2),
        ("0.333333333", 333_333_333),
        ("0.1000000000000", UNIT // 10),
        ("1000", 1000 * UNIT),
    ],
)
def test_numbers_are_taken_exactly(tmp_path: Path, text: str, units: int) -> None:
    """In any spelling that mergekit reads, exponents too, and never through a float."""
    found = read(tmp_path, f"merge_method: linear\n{TWO}".replace("1}", f"{text}}}", 1))
    assert found.models[0].weight == units


@pytest.mark.parametrize(
    ("keys", "dtype"),
    [
        ("dtype: bfloat16", "BF16"),
        ("dtype: torch.float16", "F16"),
        ("dtype: float32\nout_dtype: bfloat16", "BF16"),
        ("out_dtype: float64", "F64"),
        ("dtype:", ""),
    ],
)
def test_the_output_dtype_is_out_dtype_else_dtype(
    tmp_path: Path, keys: str, dtype: str
) -> None:
    found = read(tmp_path, f"merge_method: linear\n{TWO}\n{keys}")
    assert found.recipe.output_dtype == dtype


def test_what_changes_nothing_is_noted(tmp_path: Path) -> None:
    """int8_mask says how mergekit keeps a mask; density without sparsification nothing."""
    head = f"base_model: base\n{TWO}\nmerge_method: "
    found = read(
        tmp_path, f"{head}ties\nparameters: {{int8_mask: true}}\ndtype: float32"
    )
    assert [note.split()[0] for note in found.notes] == ["int8_mask", "dtype"]
    found = read(tmp_path, f"{head}task_arithmetic\nparameters: {{density: 0.5}}")
    assert found.notes == ("density changes nothing in task_arithmetic",)


def test_a_model_may_be_a_mapping(tmp_path: Path) -> None:
    """Mergekit's long form of a reference."""
    text = "merge_method: median\nmodels: [{model: {model: {model: a}}}, {model: b}]"
    assert [m.name for m in read(tmp_path, text).models] == ["a", "b"]


# --- what is refused -------------------------------------------------------------------

TIES = f"merge_method: ties\nbase_model: base\n{TWO}\n"


@pytest.mark.parametrize(
    ("text", "reason", "advice"),
    [
        ("a: [1", "is not YAML: line 1, column", ""),
        ("a: 1\na: 2", "line 2: the key 'a' is given twice", ""),
        ("- model: a", "is not a mapping with merge_method", ""),
        ("", "is not a mapping", ""),
        ("a: !!python/object:os.system {}", "is not plain", ""),
        ("1: a", "a key is not a plain name", ""),
        ("<<: {a: 1}", "a key is not a plain name", ""),
        ("a: 1\n---\nb: 2", "holds several documents", "one after another"),
        ("a: *b", "is not YAML: line 1", ""),
        (TWO, "merge_method is missing", "one of "),
        ("merge_method: 3\n" + TWO, "merge_method is not a name", ""),
        ("merge_method: tise\n" + TWO, "no merge_method 'tise'", "did you mean 'ties'"),
        ("merge_metod: ties\n" + TWO, "'merge_metod' is not known", "'merge_method'"),
        (
            TIES + "slices: []",
            "models and slices stand beside one another",
            "has one of them",
        ),
        (TIES + "tokenizer: {pad: 3}", "tokenizer: 'pad' is not known", "source"),
        (TIES + "chat_template: chatml", "'chatml' is no template", "Jinja"),
        (TIES + "parameters: {densty: 1}", "'densty' is not known", "'density'"),
        (TIES + "parameters: {gamma: 1}", "'gamma' is not known", "known: weight"),
        (TIES + "parameters: {rescale: true}", "not supported yet for ties", "false"),
        (
            "merge_method: linear\nmodels: [a, b]",
            "models, number 1: not a mapping",
            "- model: FOLDER",
        ),
        (TIES + "parameters: [1]", "parameters: not a mapping", ""),
        (TIES + "parameters: []", "parameters: not a mapping", ""),
        (TIES.replace("{weight: 3}", "[]"), "number 2, parameters: not a mapping", ""),
        (TIES + "parameters: {density: 1.5}", "not a number from 0 to 1", ""),
        (TIES + "parameters: {density: true}", "not a number from 0 to 1", ""),
        (TIES + "parameters: {normalize: maybe}", "not true or false", ""),
        (TIES + "parameters: {lambda: x}", "'x', which is not a number", "decimal"),
        (TIES + "parameters: {lambda: 010}", "'010', which is not a number", "decimal"),
        (TIES + "parameters: {lambda: 1:30}", "which is not a number", "decimal"),
        (TIES + "parameters: {lambda: .inf}", "which is not a number", ""),
        (TIES + "parameters: {lambda: 1e99999999}", "which is not a number", ""),
        (TIES + "parameters: {lambda: 1e-10}", "more than 9 decimal places", "round"),
        (TIES + "dtype: fp16", "dtype 'fp16' is none of", "known: float64"),
        (TIES + "dtype: bfloat", "dtype 'bfloat' is none of", "mean 'bfloat16'"),
        (TIES + "dtype: 16", "dtype 'not text' is none of", ""),
        (TIES.replace("base_model: base\n", ""), "ties needs a base_model", "tuned"),
        (TIES.replace("weight: 3", "wieght: 3"), "number 2, .* 'wieght'", "'weight'"),
        (
            TIES.replace("weight: 3", "normalize: no"),
            "holds for the whole",
            "at the top",
        ),
        (TIES.replace("weight: 3", ""), "model 'b' has no weight", "give `parameters"),
        (TIES.replace("weight: 3", "weight: heavy"), "'heavy', which is not a n", ""),
        (TIES.replace("weight: 3", "weight: 1001"), "number from -1000 to 1000", ""),
        (TIES.replace("model: b", "model: a"), "a is listed twice", ""),
        (TIES.replace("model: b", "model: x/../a"), "a is listed twice", ""),
        (TIES.replace("model: b", "model: 7"), "not the path of a folder, as text", ""),
        (TIES.replace("{model: b", "{model: b+lora"), "not on the base_model", "PEFT"),
        (TIES.replace("{model: b", "{model: b+"), "is not MODEL\\+ADAPTER", ""),
        (TIES.replace("base_model: base", "base_model: base+x"), "is to be one", ""),
        (TIES.replace("model: b", "model: b@main"), "MODEL@REVISION", "hf download"),
        (
            "merge_method: passthrough\nmodels: [{model: a+x}]",
            "not on the base_model",
            "or say `base_model: a` and task_arithmetic",
        ),
        (TIES.replace("{model: b", "{modle: b"), "number 2: 'modle' is not", "'model'"),
        (TIES.replace("model: b, ", ""), "number 2: it lacks `model`", ""),
        ("merge_method: ties\nmodels: a", "models is not a list", "- model: FOLDER"),
        ("merge_method: ties\nbase_model: b\nmodels: [a]", "number 1: not a map", ""),
        ("merge_method: median\nmodels: []", "models is not a list", ""),
        (TIES.replace("ties", "slerp"), "'weight' is not known", "known: none"),
        (
            "merge_method: slerp\nbase_model: base\nmodels: [{model: a}, {model: b}]",
            "one other model, not with 2",
            "nuslerp",
        ),
        (
            "merge_method: slerp\nbase_model: base\nmodels: [{model: base}]",
            "one other model, not with 0",
            "",
        ),
        ("merge_method: slerp\nmodels: [{model: a}]", "slerp needs a base_model", ""),
        (
            "merge_method: slerp\nbase_model: base\nmodels: [{model: a}]",
            "slerp needs `t`",
            "0 is the base_model",
        ),
        (
            "merge_method: slerp\nbase_model: b\nmodels: [{model: a}]\nparameters: {t: []}",
            "slerp needs `t`",
            "",
        ),
        (
            "merge_method: nuslerp\nmodels: [{model: a, parameters: {weight: 1}}]",
            "exactly 2 models beside the base, not 1",
            "",
        ),
        (
            "merge_method: ties\nbase_model: base\nmodels: [{model: base}]",
            "the base is the only model",
            "",
        ),
        (
            "merge_method: nearswap\nbase_model: base\nmodels: [{model: a}]",
            "nearswap needs `t`",
            "",
        ),
        (
            "merge_method: model_stock\nbase_model: base\nmodels: [{model: a}]",
            "model_stock merges 2 or more models beside the base, not 1",
            "",
        ),
        (
            "merge_method: passthrough\nbase_model: base\nmodels: [{model: a}]",
            "passthrough merges exactly 1 model, not 2",
            "counts the base_model as a model",
        ),
        (
            "merge_method: karcher\nmodels: [{model: a}]\nparameters: {max_iter: 2.5}",
            "max_iter is not a whole number from 0 to 1000",
            "",
        ),
        (
            TIES.replace("ties", "breadcrumbs") + "parameters: {rescale: true}",
            "not supported yet for breadcrumbs",
            "",
        ),
        (
            TIES.replace("ties", "wsm") + "parameters: {decay: quick}",
            "decay is none of linear, cosine, sqrt",
            "",
        ),
        (
            TIES.replace("ties", "dare_ties") + "parameters: {density: 0}",
            "a density of 0 drops everything",
            "weight 0",
        ),
    ],
)
def test_what_is_not_understood_is_refused(
    tmp_path: Path, text: str, reason: str, advice: str
) -> None:
    """The message says where and what, the hint what to do; nothing is ignored."""
    error = refused(tmp_path, text)
    assert re.search(reason, str(error)), str(error)
    assert advice in error.hint


def test_every_key_is_checked_at_every_level(tmp_path: Path) -> None:
    """A key that nobody knows is refused wherever a mapping can stand."""
    places = [
        "surprise: 1\n" + TIES,
        TIES + "parameters: {surprise: 1}",
        TIES.replace("weight: 3", "weight: 3, surprise: 1"),
        TIES.replace("{model: b", "{surprise: 1, model: b"),
        TIES.replace("{model: b", "{model: {surprise: 1, model: b}"),
        TIES.replace("base_model: base", "base_model: {surprise: 1, model: base}"),
    ]
    for text in places:
        error = refused(tmp_path, text)
        assert isinstance(error, UnknownNameError)
        assert "'surprise' is not known" in str(error)


# --- YAML ------------------------------------------------------------------------------


def test_yaml_keeps_numbers_as_they_were_written() -> None:
    """Nothing is rounded on the way; the rest are plain values."""
    text = "{a: 0.10, b: [1, x, true, no, null], c: 2026-01-01, d: &k {e: 1}, f: *k}"
    assert parse_yaml(text) == {
        "a": Number("0.10"),
        "b": [Number("1"), "x", True, False, None],
        "c": "2026-01-01",
        "d": {"e": Number("1")},
        "f": {"e": Number("1")},
    }


@pytest.mark.parametrize(
    "text",
    [
        "[" * 50_000,
        "a: &a [*a]",
        "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
        + "".join(
            f"{c}: &{c} [*{p},*{p},*{p},*{p},*{p},*{p},*{p},*{p},*{p},*{p}]\n"
            for p, c in zip("abcdefgh", "bcdefghi", strict=True)
        ),
        "[" * 40 + "]" * 40,
    ],
    ids=["deep", "endless", "bomb", "nested"],
)
def test_a_small_file_cannot_ask_for_much(text: str) -> None:
    """Aliases that expand without end, nesting without bottom."""
    with pytest.raises(BadInputError, match=r"holds more than|too deep|is not YAML"):
        parse_yaml(text)


def test_a_large_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "merge.yml"
    path.write_text("#" * (256 * 1024 + 1))
    with pytest.raises(BadInputError, match="above the limit"):
        read_configuration(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(BadInputError, match="not UTF-8"):
        read_configuration(path)
    with pytest.raises(BadInputError, match="cannot read"):
        read_configuration(tmp_path / "none.yml")
