"""Merged folders: equal bytes everywhere, loadable, recorded, verifiable."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from crdtmerge.digest import ContentId, blob_id_of
from crdtmerge.errors import (
    BadInputError,
    ConflictError,
    ContentMissingError,
    NotFoundError,
    VerificationError,
)
from crdtmerge.formats.companions import CARD_FILE
from crdtmerge.formats.folder import MODEL_FILE, RESOLUTION_FILE, read_folder
from crdtmerge.formats.shards import lay_out_model
from crdtmerge.recipe import Rule
from crdtmerge.resolve.ground import Footing
from crdtmerge.resolve.model import resolve_model
from crdtmerge.resolve.output import Output
from crdtmerge.resolve.parse import parse_resolution
from crdtmerge.resolve.plan import make_plan
from crdtmerge.resolve.resolution import (
    Resolution,
    Source,
    model_digest,
    root_without_space,
)
from crdtmerge.resolve.verify import read_resolution, verify_folder
from crdtmerge.strategies import STRATEGIES, make_recipe
from tests.models import UNIT, Merge, about, make_merge, resolve, shuffled

NAMES = sorted(STRATEGIES)
ROOT = Path(__file__).parents[2]
Change = Callable[[dict[str, Any]], object]


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("hash_seed", ["0", "4242"])
def test_replicas_write_equal_bytes(tmp_path: Path, hash_seed: str) -> None:
    """Order, threads, process and hash seed change neither model nor resolution."""
    code = (
        "import sys; from pathlib import Path;"
        " from tests.models import resolve_all;"
        " resolve_all(Path(sys.argv[1]))"
    )
    subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "other")],
        check=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)},
    )
    for name in NAMES:
        folder = name.replace("/", "-")
        resolve(shuffled(1), tmp_path / "one" / folder, name)
        with ThreadPoolExecutor(2) as executor:
            two = tmp_path / "two" / folder
            resolve(shuffled(2), two, name, executor=executor, threads=2)
        expected = content(tmp_path / "one" / folder)
        assert expected.keys() == {MODEL_FILE, CARD_FILE, RESOLUTION_FILE}
        assert content(two) == expected
        assert content(tmp_path / "other" / folder) == expected


@pytest.mark.parametrize("name", NAMES)
def test_merged_folder_loads_and_verifies(tmp_path: Path, name: str) -> None:
    """PyTorch loads every tensor finite; the folder agrees with its own record."""
    made = resolve(make_merge(), tmp_path / "out", name)
    tensors = load_file(tmp_path / "out" / MODEL_FILE)
    assert tensors.keys() == {entry.name for entry in made.tensors}
    assert all(bool(t.isfinite().all()) for t in tensors.values())
    assert verify_folder(tmp_path / "out") == made


def test_merged_folder_is_a_model_folder(tmp_path: Path) -> None:
    """It can be read like any model, and its record is not one of its companions."""
    (tmp_path / "config.json").write_text('{"model_type": "tiny"}')
    files = {"config.json": tmp_path / "config.json"}
    resolve(make_merge(), tmp_path / "out", files=files)
    folder = read_folder(tmp_path / "out")
    assert [name for name, _ in folder.files] == [CARD_FILE, "config.json"]
    assert content(tmp_path / "out")["config.json"] == b'{"model_type": "tiny"}'


def test_resolution_says_what_made_the_model(tmp_path: Path) -> None:
    """Contributions with weights and authors, recipe, seeds, tensors, digests."""
    merge = make_merge()
    recipe = make_recipe("dare_ties", {"p": "0.5"}, [Rule("scale", (("p", "0.1"),))])
    made = resolve(merge, tmp_path / "out", recipe)
    value = json.loads((tmp_path / "out" / RESOLUTION_FILE).read_text())
    assert value["space"] == (b"s" * 32).hex()
    assert value["base"] == merge.base.content_id.hex()
    assert value["recipe"]["strategy"] == "dare_ties/1"
    assert value["recipe"]["parameters"]["p"] == "0.5"
    assert value["recipe"]["rules"][0]["parameters"] == {"p": "0.1"}
    assert value["recipe"]["digest"] == recipe.digest.hex()
    by_content = {c.content.hex(): c for c in merge.contributions}
    assert [c["content"] for c in value["contributions"]] == sorted(by_content)
    weights = {c["weight"] for c in value["contributions"]}
    assert weights == {"1", "2", "0.5"}
    for item in value["contributions"]:
        authors = by_content[item["content"]].authors
        assert item["authors"] == [author.hex() for author in authors]
    assert value["seeds"].keys() == {n for n, d, _ in _outputs(made) if d != "I64"}
    assert value["model_digest"] == made.model_digest.hex()
    stored = {t.name: t for t in read_folder(tmp_path / "out").tensors}
    for tensor in value["tensors"]:
        place = stored[tensor["name"]]
        data = place.path.read_bytes()[place.offset : place.offset + place.size]
        assert tensor["digest"] == blob_id_of(data).hex()


def _outputs(made: Resolution) -> list[tuple[str, str, tuple[int, ...]]]:
    return [(entry.name, entry.dtype, entry.shape) for entry in made.tensors]


def test_model_digest_names_tensors_and_nothing_else(tmp_path: Path) -> None:
    """Order of entries does not matter; name, dtype, shape and bytes do."""
    tensors = resolve(make_merge(), tmp_path / "out").tensors
    assert model_digest(tensors) == model_digest(tensors[::-1])
    first, rest = tensors[0], tensors[1:]
    changed = [
        replace(first, name="other"),
        replace(first, dtype="I32"),
        replace(first, shape=(7, 33)),
        replace(first, blob=rest[0].blob),
    ]
    digests = {model_digest((entry, *rest)) for entry in (first, *changed)}
    assert len(digests) == 5


def test_removing_a_contribution_brings_the_former_bytes_back(tmp_path: Path) -> None:
    """What was merged in between leaves no trace, for every strategy."""
    merge = make_merge((UNIT,) * 4)  # of none that a median could ignore
    fewer = replace(merge, contributions=merge.contributions[:3])
    for i, name in enumerate(NAMES):
        models = [
            resolve(some, tmp_path / f"{i}-{j}", name).model_digest
            for j, some in enumerate((fewer, merge, fewer))
        ]
        assert models[0] == models[2]
        # Those that take one contribution may take the same.
        assert models[0] != models[1] or name in {"krum/1", "passthrough/1"}


def test_failed_resolve_leaves_the_output_as_it_was(tmp_path: Path) -> None:
    """With an older model in place, and with nothing in place."""
    merge = make_merge()
    out = tmp_path / "out"
    resolve(merge, out)
    before = content(out)
    lost = merge.contributions[0].manifest.tensors[-1].blob
    del merge.blobs.held[lost]
    with pytest.raises(ContentMissingError):
        resolve(merge, out, overwrite=True)
    with pytest.raises(ContentMissingError):
        resolve(merge, tmp_path / "new")
    assert content(out) == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_output_is_replaced_only_when_asked(tmp_path: Path) -> None:
    """A second resolve into the same folder needs `overwrite`."""
    merge = make_merge()
    resolve(merge, tmp_path / "out", "linear")
    with pytest.raises(ConflictError):
        resolve(merge, tmp_path / "out", "ties")
    made = resolve(merge, tmp_path / "out", "ties", overwrite=True, fsync=True)
    assert verify_folder(tmp_path / "out") == made


# --- verify ----------------------------------------------------------------------------


def test_one_flipped_bit_is_found_and_named(tmp_path: Path) -> None:
    """Whichever tensor it is in."""
    resolve(make_merge(), tmp_path)
    model = tmp_path / MODEL_FILE
    good = model.read_bytes()
    for stored in read_folder(tmp_path).tensors:
        if not stored.size:
            continue
        bad = bytearray(good)
        bad[stored.offset + stored.size - 1] ^= 1
        model.write_bytes(bad)
        with pytest.raises(VerificationError, match=f"'{stored.name}' is not what"):
            verify_folder(tmp_path)


def test_missing_and_excess_tensors_are_named(tmp_path: Path) -> None:
    """The first one by name, and which way it differs."""
    resolve(make_merge(), tmp_path)
    model = tmp_path / MODEL_FILE
    tensors = load_file(model)
    lost = {name: t for name, t in tensors.items() if name != "head.bias"}
    save_file(lost, model)
    with pytest.raises(VerificationError, match=r"'head\.bias'.*missing"):
        verify_folder(tmp_path)
    save_file(tensors | {"a": tensors["scale"].clone()}, model)
    with pytest.raises(VerificationError, match="'a' of the model is not in"):
        verify_folder(tmp_path)
    save_file(tensors, model)  # another layout, the same tensors
    verify_folder(tmp_path)


def test_damaged_model_fails_verification(tmp_path: Path) -> None:
    """A cut file and a lost file are failures of the model, not of the command."""
    resolve(make_merge(), tmp_path)
    model = tmp_path / MODEL_FILE
    model.write_bytes(model.read_bytes()[:-1])
    with pytest.raises(VerificationError, match="damaged") as caught:
        verify_folder(tmp_path)
    assert caught.value.exit_code == 8
    model.unlink()
    with pytest.raises(VerificationError, match="no safetensors"):
        verify_folder(tmp_path)


def test_folder_without_resolution_is_said(tmp_path: Path) -> None:
    """Nothing to compare with is not a failed comparison."""
    with pytest.raises(NotFoundError, match=RESOLUTION_FILE):
        verify_folder(tmp_path)
    with pytest.raises(NotFoundError):
        verify_folder(tmp_path / "nowhere")


def test_resolution_survives_a_round_trip(tmp_path: Path) -> None:
    """Text to value to text, rules and seeds included."""
    recipe = make_recipe("dare_ties", {}, [Rule("*", (("p", "0.5"),))], "BF16")
    made = resolve(make_merge((0, UNIT)), tmp_path, recipe)
    assert parse_resolution(made.to_json()) == made == read_resolution(tmp_path)


def _set(*path: str | int, to: object) -> Change:
    def change(value: Any) -> None:
        for step in path[:-1]:
            value = value[step]
        value[path[-1]] = to

    return change


@pytest.mark.parametrize(
    "change",
    [
        _set("recipe", "parameters", "density", to="0.3"),
        _set("recipe", "digest", to="00" * 32),
        _set("model_digest", to="00" * 32),
        _set("tensors", 0, "digest", to="00" * 32),
        _set("tensors", 0, "shape", to=[7, 33]),
        lambda value: value["tensors"].pop(),
    ],
)
def test_digests_that_do_not_fit_their_neighbours_fail(
    tmp_path: Path, change: Change
) -> None:
    """A record edited in one place contradicts itself in another."""
    value = json.loads(resolve(make_merge(), tmp_path / "out").to_json())
    change(value)
    with pytest.raises(VerificationError):
        parse_resolution(json.dumps(value))


@pytest.mark.parametrize(
    "change",
    [
        _set("version", to=2),
        _set("contract", to=True),
        _set("space", to="zz" * 32),
        _set("space", to="00" * 31),
        _set("base", to=None),
        _set("contributions", 0, "weight", to="1.0"),
        _set("contributions", 0, "weight", to="1e3"),
        _set("contributions", 0, "authors", to=["00"]),
        _set("contributions", 0, "parameters", to={"density": 1}),
        _set("contributions", 0, "parameters", to=[]),
        lambda value: value["contributions"][0].pop("parameters"),
        lambda value: value["contributions"].append(value["contributions"][-1]),
        _set("base", to=""),
        _set("tensors", 0, "dtype", to="F8"),
        _set("tensors", 0, "shape", to=[-1]),
        _set("tensors", 0, "shape", to=[1.0]),
        _set("seeds", to=[]),
        _set("recipe", "rules", to=[3]),
        _set("recipe", "parameters", to={"density": 1}),
        _set("surprise", to=1),
        lambda value: value.pop("tensors"),
        lambda value: value["tensors"].reverse(),
        lambda value: value["contributions"].reverse(),
    ],
)
def test_resolution_of_another_form_is_refused(tmp_path: Path, change: Change) -> None:
    """Wrong types, unsorted lists, unknown fields: nothing is half understood."""
    value = json.loads(resolve(make_merge(), tmp_path / "out").to_json())
    change(value)
    with pytest.raises(BadInputError, match=r"resolution\.json"):
        parse_resolution(json.dumps(value))


def of_no_space(merge: Merge, out: Path, *, based: bool = True) -> Resolution:
    """Resolve as the merge of a configuration is resolved."""
    plan = make_plan(
        make_recipe("linear", {}),
        merge.base,
        merge.contributions,
        footing=Footing("base" if based else "none"),
    )
    root = root_without_space(
        Source(c.content, c.weight, (), c.parameters) for c in plan.contributions
    )
    return resolve_model(
        plan=plan,
        source=merge.blobs,
        output=Output(out),
        layout=lay_out_model(plan.outputs),
        about=about(
            plan,
            space=b"",
            merge_id=b"m" * 32,
            visible_root=root,
            base=None if based else ContentId(b""),
        ),
    ).resolution


def test_a_merge_of_no_space_survives_a_round_trip(tmp_path: Path) -> None:
    """Own parameters, no base, and one model twice."""
    merge = make_merge((UNIT, UNIT, UNIT))
    first, second, _ = (replace(c, authors=()) for c in merge.contributions)
    twice = (first, replace(first, weight=2 * UNIT), second, second)
    own = replace(second, parameters=(("normalize", "true"),))
    for i, given in enumerate((twice, (first, own), twice[:1])):
        some = replace(merge, contributions=given)
        made = of_no_space(some, tmp_path / f"based-{i}")
        assert parse_resolution(made.to_json()) == made
        bare = of_no_space(some, tmp_path / f"bare-{i}", based=False)
        assert parse_resolution(bare.to_json()) == bare
        assert (made.base, bare.base) == (merge.base.content_id, b"")
        assert made.visible_root == bare.visible_root


def test_the_root_of_no_space_covers_all_that_is_its_models_own() -> None:
    """Content, weight, parameters, and how often one stands there; not the order."""
    a, b = (ContentId(bytes([i]) * 32) for i in (1, 2))
    pairs = (("p", "0.5"),)
    cases = [
        (),
        (Source(a, 1, ()),),
        (Source(b, 1, ()),),
        (Source(a, 2, ()),),
        (Source(a, 1, (), pairs),),
        (Source(a, 1, (), (("p", "0.4"),)),),
        (Source(a, 1, ()), Source(a, 1, ())),
        (Source(a, 1, ()), Source(a, 1, ()), Source(a, 1, ())),
        (Source(a, 1, (), pairs), Source(a, 1, ())),
        (Source(a, 1, (), pairs), Source(a, 1, (), pairs)),
        (Source(a, 1, ()), Source(b, 1, ())),
    ]
    roots = [root_without_space(case) for case in cases]
    assert len(set(roots)) == len(cases)
    assert [root_without_space(reversed(case)) for case in cases] == roots


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (_set("contributions", 0, "weight", to="3"), VerificationError),
        (_set("contributions", 0, "parameters", to={"p": "1"}), VerificationError),
        (_set("visible_root", to="00" * 32), VerificationError),
        (lambda value: value["contributions"].pop(), VerificationError),
        (lambda value: value["contributions"].reverse(), BadInputError),
        (_set("space", to="00" * 31), BadInputError),
    ],
)
def test_a_record_of_no_space_cannot_say_what_its_root_does_not(
    tmp_path: Path, change: Change, kind: type[Exception]
) -> None:
    """There is no set to compare it with, so it must agree with itself."""
    value = json.loads(of_no_space(make_merge(), tmp_path / "out").to_json())
    change(value)
    with pytest.raises(kind):
        parse_resolution(json.dumps(value))


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "[" * 100_000, '{"version": 1}'])
def test_garbage_is_no_resolution(tmp_path: Path, text: str) -> None:
    """Damaged JSON is bad input, with the file's name in the message."""
    (tmp_path / RESOLUTION_FILE).write_text(text)
    with pytest.raises(BadInputError, match=r"resolution\.json"):
        verify_folder(tmp_path)
    (tmp_path / RESOLUTION_FILE).write_bytes(b"\xff\xfe")
    with pytest.raises(BadInputError, match=r"resolution\.json"):
        verify_folder(tmp_path)


def test_real_fine_tunes_average(tmp_path: Path) -> None:
    """Equal weights of one model give that model back, bit for bit, but for -0."""
    merge = make_merge((UNIT,))
    resolve(merge, tmp_path, "linear")
    (only,) = merge.contributions
    for entry, stored in zip(
        only.manifest.tensors, read_folder(tmp_path).tensors, strict=True
    ):
        data = stored.path.read_bytes()[stored.offset : stored.offset + stored.size]
        if entry.dtype != "I64":
            theirs = np.frombuffer(merge.blobs.held[entry.blob], np.uint8)
            assert data == theirs.tobytes()
