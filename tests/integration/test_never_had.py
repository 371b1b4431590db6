"""What is taken out of a space leaves no trace in the model, and costs what it touched.

Ann owns a space, Mal contributed poison to it, and Ben has what the space was before: of
his home none of Mal's bytes or records came near. Whatever takes the poison out, Ann's
next model is Ben's, file by file.
"""

import json
from collections.abc import Callable, Container
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crdtmerge.errors import NotAllowedError
from crdtmerge.strategies import STRATEGIES, Values, find, make_recipe
from crdtmerge.strategies.base import never
from crdtmerge.strategies.table import SUMS
from tests.homes import Fleet
from tests.strategies import NEEDS, Need
from tests.tunes import Weights, write_weights

SHAPES = {"head.weight": (8, 96), "layer.bias": (96,), "layer.weight": (96, 64)}
TOUCHED = "head.weight"
"""The only tensor that the poison changes."""
HONEST = 6
MANY = 18
"""So many that it is less work to go on with sums, of whatever size, than to begin."""
SIZES = {name: 4 * int(np.prod(shape)) for name, shape in SHAPES.items()}

NUMBERS = "numbers.json"

Act = Callable[["Story"], None]


def small_base() -> Weights:
    """Return the weights of a base."""
    rng = np.random.default_rng(0)
    return {
        name: rng.standard_normal(shape).astype(np.float32)
        for name, shape in SHAPES.items()
    }


def tuned(base: Weights, seed: int, *touched: str) -> Weights:
    """Return the base with these tensors moved; all of them if none are named."""
    rng = np.random.default_rng(seed)
    moves = {n: rng.standard_normal(SHAPES[n]) / 16 for n in SHAPES}
    moved = {n: (v + moves[n]).astype(np.float32) for n, v in base.items()}
    return {n: moved[n] if n in (touched or SHAPES) else v for n, v in base.items()}


class Story:
    """The three homes, in one state: the poison is in Ann's space, and not in Ben's."""

    def __init__(self, folder: Path, honest: int = HONEST) -> None:
        self.folder, self.fleet = folder, Fleet.at(folder)
        self.ann, self.ben, self.mal = map(self.fleet.init, ("ann", "ben", "mal"))
        weights = small_base()
        self.base = write_weights(folder / "base", weights)
        self.at_ann("space_create", name="s", base=self.base, strategy="linear")
        self.contents = [
            self.contribute(self.ann, f"tune{i}", tuned(weights, i))
            for i in range(1, 1 + honest)
        ]
        self.hand(self.ann, self.ben)
        self.fleet.admit(self.ann, self.mal, self.base, "contributor")
        self.poison = self.contribute(self.mal, "poison", tuned(weights, 99, TOUCHED))
        self.hand(self.mal, self.ann)
        self.author = self.fleet.author(self.mal)

    def at_ann(self, verb: str, **arguments: object) -> Any:
        """Run one verb at Ann's home."""
        return self.fleet.call(self.ann, verb, **arguments)

    def contribute(self, home: Path, name: str, weights: Weights) -> str:
        """Contribute a model; return its content id."""
        path = write_weights(self.folder / name, weights)
        numbers = {n: 1.0 + len(name) for n in ("loss", "step", "score:a", "score:b")}
        (path / NUMBERS).write_text(json.dumps(numbers))
        return str(self.offer(home, path)["content"])

    def offer(self, home: Path, path: Path) -> Any:
        """Contribute a model with its numbers, which some strategies read."""
        evidence = [f"scalar={path / NUMBERS}"]
        return self.fleet.call(home, "contribute", path=path, evidence=evidence)

    def hand(self, giver: Path, taker: Path) -> None:
        """Give a space with all that is whole of it as a file, which is then gone."""
        file = self.folder / "space.tar"
        self.fleet.call(giver, "space_export", space="s", file=file)
        self.fleet.call(taker, "space_import", file=file, base=self.base)
        file.unlink()

    def resolve(self, home: Path, name: str, **asked: object) -> Any:
        """Resolve to the folder `name`, over what is there."""
        out = self.folder / name
        return self.fleet.call(home, "resolve", out=out, force=True, **asked)

    def content(self, name: str) -> dict[str, bytes]:
        """Return the files of an output folder."""
        return {p.name: p.read_bytes() for p in sorted((self.folder / name).iterdir())}

    def spoil(self, tensors: Container[str]) -> int:
        """Turn over all bytes that honest ones say of these tensors, on Ann's disk.

        Whoever reads one of them now gets an error, or another model. Returns how many.
        """
        with self.fleet.open(self.ann) as (_, spaces, _):
            (space,) = spaces.all()
            shown = spaces.contributions(spaces.view(space).visible)
            blobs = {
                entry.blob.hex()
                for one in shown
                if one.content.hex() in self.contents
                for entry in one.manifest.tensors
                if entry.name in tensors
            }
        for blob in blobs:
            path = self.ann / "blobs" / blob[:2] / blob[2:]
            data = path.read_bytes()
            path.chmod(0o600)
            path.write_bytes(bytes(255 - byte for byte in data))
        return len(blobs)


def remove(story: Story) -> None:
    story.at_ann("remove", id=story.poison)


def add_again(story: Story) -> None:
    story.fleet.share(story.ann, story.mal)
    path = story.folder / "poison"
    assert story.offer(story.mal, path)["new"]
    story.fleet.share(story.ann, story.mal)


def ban_content(story: Story) -> None:
    story.at_ann("ban", id=story.poison)
    story.fleet.share(story.ann, story.mal)
    with pytest.raises(NotAllowedError, match="banned"):
        story.fleet.call(story.mal, "contribute", path=story.folder / "poison")


def lift_content(story: Story) -> None:
    story.at_ann("ban_lift", id=story.poison)


def ban_author(story: Story) -> None:
    story.at_ann("ban", id=story.author)


def lift_author(story: Story) -> None:
    story.at_ann("ban_lift", id=story.author)


def revoke(story: Story) -> None:
    story.at_ann("space_revoke", author=story.author, from_start=True)


def lift_revocation(story: Story) -> None:
    story.at_ann("space_revoke_lift", author=story.author)


ACTS: dict[str, tuple[Act, Act]] = {
    "remove": (remove, add_again),
    "ban of the content": (ban_content, lift_content),
    "ban of the author": (ban_author, lift_author),
    "revoke": (revoke, lift_revocation),
}
"""What takes the poison out, and what brings it back."""


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    return Story(tmp_path_factory.mktemp("story"))


def asked(story: Story, full_name: str) -> dict[str, Any]:
    """Return how a strategy is explored, with what it cannot do without.

    What one contribution alone has, such as the place of the main one, is an honest one's.
    """
    need = NEEDS.get(full_name, Need({}))
    everybody = [*sorted(story.contents), story.poison]
    rules = [
        {
            "tensors": "*",
            "parameters": dict(need.own(i)),
            "models": f"content:{content}",
        }
        for i, content in enumerate(everybody)
        if need.own(i)
    ]
    return {"strategy": full_name, "params": dict(need.parameters), "rules": rules}


OF_ROOMS = {"fisher/1", "mwa/1", "negative_merge/1", "opcm/1", "regmean/1", "soce/1"}
"""Those of the spectral, evidential and surrogate rooms that differ most: by task vectors
alone, by evidence, by numbers, by an order, by a flag."""


def slow_in_a_room(name: str) -> tuple[pytest.MarkDecorator, ...]:
    """Leave those that read the set as another of their room does to test-all."""
    in_room = (
        STRATEGIES[name].emit.__module__.count(".") > 2
    )  # crdtmerge.strategies.ROOM.x
    return (pytest.mark.slow,) if in_room and name not in OF_ROOMS else ()


@pytest.mark.parametrize(
    ("full_name", "act"),
    [
        pytest.param(name, list(ACTS)[i % len(ACTS)], marks=slow_in_a_room(name))
        for i, name in enumerate(sorted(STRATEGIES))
    ]
    + [(name, act) for name in ("linear/1", "krum/1") for act in ACTS],
)
def test_bytes_are_those_of_a_set_that_never_had_it(
    story: Story, full_name: str, act: str
) -> None:
    """By every strategy: out, and the model is Ben's; back in, and it is the old one.

    Tensors that the poison left alone are not even computed where a strategy passes over
    who says nothing of one.
    """
    out, back = ACTS[act]
    recipe = asked(story, full_name)
    story.resolve(story.ann, "poisoned", **recipe)
    before = story.content("poisoned")
    out(story)
    try:
        made = story.resolve(story.ann, "after", **recipe)
    finally:
        back(story)
    never = story.resolve(story.ben, "never", **recipe)
    for key in ("merge_id", "visible_root", "model_digest", "contributions"):
        assert made[key] == never[key], key
    assert story.content("after") == story.content("never")
    # passthrough takes one model as it is, and that is an honest one
    if full_name != "passthrough/1":
        assert (
            story.content("after")["model.safetensors"] != before["model.safetensors"]
        )
    again = story.resolve(story.ann, "again", **recipe)
    assert again["computed"]["tensors"] == again["read_bytes"] - again["bytes"] == 0
    assert story.content("again") == before
    values = Values(make_recipe(full_name, dict(recipe["params"])).parameters)
    passed = find(full_name).passes_over(values)
    if made["computed"]["tensors"]:
        assert made["reused"]["tensors"] == (len(SHAPES) - 1 if passed else 0)


def told(story: Story, **asked: object) -> Any:
    """Resolve at Ann's, and find that it was foretold what that takes."""
    out = story.folder / "after"
    before = story.at_ann("resolve", out=out, force=True, explain=True, **asked)
    made = story.resolve(story.ann, "after", **asked)
    for key in ("read", "read_bytes", "computed", "tasks"):
        assert before[key] == made[key], key
    return made


@pytest.mark.parametrize("full_name", sorted(SUMS))
def test_kept_sums_read_only_what_went(
    tmp_path: Path, full_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing that honest ones say is read again: it is all spoilt, and not missed."""
    # Sums of such small tensors are not worth it, by the cost model.
    monkeypatch.setattr("crdtmerge.resolve.cost.ITEM_BYTES", 0)
    monkeypatch.setattr("crdtmerge.resolve.cost.MEMBER_BYTES", 0)
    story = Story(tmp_path, honest=MANY)
    # Masks by the set would all be others once somebody went.
    recipe = {"strategy": full_name, "seed_scope": "contribution"}
    story.at_ann("recipe_set", **recipe)
    first = story.resolve(story.ann, "poisoned")
    assert first["sums"]["tensors"] == len(SHAPES)
    ban_author(story)
    assert story.spoil(SHAPES) == MANY * len(SHAPES)
    made = told(story)
    assert made["read"]["contributions"] == SIZES[TOUCHED]
    story.resolve(story.ben, "never", **recipe)
    assert story.content("after") == story.content("never")


@pytest.mark.parametrize(
    "full_name",
    [n for n in sorted(STRATEGIES) if STRATEGIES[n].passes_over is not never],
)
def test_tensors_that_it_left_alone_are_not_read(
    tmp_path: Path, full_name: str
) -> None:
    """Without kept sums: of what the poison did not touch not a byte is needed."""
    story = Story(tmp_path)
    recipe = asked(story, full_name)
    story.resolve(story.ann, "poisoned", **recipe)
    revoke(story)
    untouched = set(SHAPES) - {TOUCHED}
    assert story.spoil(untouched) == HONEST * len(untouched)
    made = told(story, **recipe)
    assert made["read"] == {
        "base": SIZES[TOUCHED],
        "contributions": HONEST * SIZES[TOUCHED],
    }
    story.resolve(story.ben, "never", **recipe)
    assert story.content("after") == story.content("never")


@pytest.mark.parametrize("full_name", ["krum/1", "linear/1", "ties/1"])
def test_who_resolved_before_reads_nothing(tmp_path: Path, full_name: str) -> None:
    """An output that still lies there from before the poison is taken up whole."""
    story = Story(tmp_path)
    recipe = asked(story, full_name)
    ban_content(story)
    story.resolve(story.ann, "clean", **recipe)
    lift_content(story)
    story.resolve(story.ann, "poisoned", **recipe)
    remove(story)
    story.spoil(SHAPES)
    made = told(story, **recipe)
    assert made["read"] == {"base": 0, "contributions": 0}
    assert story.content("after") == story.content("clean")
