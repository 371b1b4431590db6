"""From a NaN that a member signed to a merge without it: real nodes, real homes."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.digest import CHUNK_BYTES, ContentId, blob_id_of
from crdtmerge.errors import (
    FaultyContributionError,
    NotFoundError,
    NothingToResolveError,
)
from crdtmerge.faults import Fault, find
from crdtmerge.manifest import Manifest, TensorEntry
from crdtmerge.replica import Replica
from nodes import cli
from nodes.home import Home, open_home
from nodes.runtime import Runtime
from nodes.spaces import Spaces
from tests.homes import Fleet
from tests.integration.living import living, run, until

Tensors = Mapping[str, "np.ndarray[Any, Any]"]
ITEMS = 3 * CHUNK_BYTES // 4 + 100
"""Of the large tensor: four chunks, of which the last is short."""
NAN_AT = 2 * CHUNK_BYTES // 4 + 12_345
"""In its third chunk."""


def arrays(seed: int, near: Tensors | None = None) -> dict[str, "np.ndarray[Any, Any]"]:
    """Return a small model with one large tensor."""
    rng = np.random.default_rng(seed)
    made: dict[str, np.ndarray[Any, Any]] = {
        "big.weight": rng.standard_normal(ITEMS).astype(np.float32),
        "head.bias": rng.standard_normal(7).astype(np.float32),
        "ids": np.arange(5),
        **{
            f"small.{n:02}": rng.standard_normal(9).astype(np.float32) for n in range(9)
        },
    }
    if near is not None:
        made = {k: near[k] + v / 16 if k != "ids" else near[k] for k, v in made.items()}
    return made


@pytest.fixture(name="fleet")
def fixture_fleet(tmp_path: Path) -> Fleet:
    """A folder with a base and a sound fine-tune, and homes to come."""
    base = arrays(0)
    for name, tensors in (("base", base), ("tune", arrays(1, base))):
        (tmp_path / name).mkdir()
        save_file(dict(tensors), tmp_path / name / "model.safetensors")
    return Fleet.at(tmp_path)


def members(fleet: Fleet, *names: str, rank: str = "contributor") -> list[Path]:
    """Make homes; the first founds a space and admits the others."""
    first, *others = (fleet.init(name) for name in names)
    base = fleet.folder / "base"
    fleet.call(first, "space_create", name="s", base=base, strategy="linear")
    for other in others:
        fleet.admit(first, other, base, rank)
    with fleet.open(first) as (home, _, verbs):
        verbs.name_node(home.node.public)
    fleet.share(first, *others)
    return [first, *others]


def sign(fleet: Fleet, path: Path, tensors: Tensors, *, lie: int = 0) -> ContentId:
    """Contribute a model by hand, past all checks; with `lie`, of another shape."""
    kinds = {np.dtype(np.float32): "F32", np.dtype(np.int64): "I64"}
    with fleet.open(path) as (home, spaces, _):
        (space,) = spaces.all()
        entries = []
        for name, values in sorted(tensors.items()):
            data = values.tobytes()
            home.blobs.put(data)
            shape = (len(values) + (lie if name == "big.weight" else 0),)
            blob = blob_id_of(data)
            entries.append(TensorEntry(name, kinds[values.dtype], shape, blob))
        manifest = Manifest("full", spaces.view(space).base, tuple(entries))
        home.blobs.put(manifest.encode())
        said = Replica(spaces.opset(space), home.author).contribute(
            manifest, weight=DECIMAL_UNIT, note="by hand"
        )
        spaces.commit(space, [said])
        return manifest.content_id


def poisoned(value: float = math.nan) -> dict[str, "np.ndarray[Any, Any]"]:
    """Return a fine-tune with one item that is no number."""
    base = arrays(0)
    tensors = arrays(2, base)
    tensors["big.weight"][NAN_AT] = value
    return tensors


def opened(path: Path, work: Callable[[Home], Any]) -> Any:
    """Return what `work` makes of a home that it may change."""
    with open_home(path, write=True) as home:
        return work(home)


def faulty(home: Home | Path) -> dict[ContentId, str]:
    """Return what is shown of each faulty content, in the one space of a home."""
    if isinstance(home, Path):
        found: dict[ContentId, str] = opened(home, faulty)
        return found
    spaces = Spaces(home.records, home.blobs)
    (space,) = spaces.all()
    shown = {
        c: spaces.opset(space).records[r] for c, r in spaces.view(space).faults.items()
    }
    bodies = {c: record.body for c, record in shown.items()}
    return {c: find(b).sentence for c, b in bodies.items() if isinstance(b, Fault)}


def meet(*homes: Path, done: Callable[[list[Home]], bool]) -> None:
    """Run nodes on these homes, the first known to all others, until `done`."""

    async def together() -> None:
        held = [open_home(path, write=True) for path in homes]
        try:
            await _running(held, [], lambda: done(held))
        finally:
            for home in held:
                home.close()

    run(together())


async def _running(
    homes: list[Home], running: list[Runtime], done: Callable[[], bool]
) -> None:
    if len(running) == len(homes):
        await until(done, "what the nodes should do")
        return
    first = running[0] if running else None
    async with living(homes[len(running)], first) as node:
        await _running(homes, [*running, node], done)


def resolve(fleet: Fleet, path: Path, name: str) -> bytes:
    """Return the bytes of the merged model."""
    out = fleet.folder / f"out-{path.name}-{name}"
    fleet.call(path, "resolve", out=out)
    return b"".join(file.read_bytes() for file in sorted(out.glob("*.safetensors")))


def whole(homes: list[Home]) -> bool:
    """Tell whether every visible contribution is here with all its bytes, everywhere."""
    spaces = [Spaces(home.records, home.blobs) for home in homes]
    return all(all(s.progress(s.all()[0]).values()) for s in spaces)


def test_a_nan_is_found_shown_and_left_out_by_all(fleet: Fleet) -> None:
    """Who fetches it shows it; who has no byte of it and who knew it before agree."""
    alice, mallory, carol, dave = members(fleet, "alice", "mallory", "carol", "dave")
    fleet.call(alice, "contribute", path=fleet.folder / "tune")
    before = resolve(fleet, alice, "before")
    content = sign(fleet, mallory, poisoned())
    with pytest.raises(FaultyContributionError) as refused:
        resolve(fleet, mallory, "refused")
    assert "crdtmerge check" in refused.value.hint
    fleet.share(alice, mallory, dave)  # dave's is an old set, with the contribution
    meet(alice, mallory, done=lambda homes: all(map(faulty, homes)))
    said = {content: f"tensor 'big.weight': item {NAN_AT} is NaN or infinity"}
    fleet.share(alice, carol)  # she gets the fault without a byte of what it is about
    fleet.share(carol, dave)
    poison = blob_id_of(poisoned()["big.weight"].tobytes())
    assert not opened(carol, lambda home: home.blobs.has(poison))
    everybody = (alice, mallory, carol, dave)
    assert [faulty(path) for path in everybody] == [said] * 4
    meet(*everybody, done=whole)
    assert {resolve(fleet, path, "merged") for path in everybody} == {before}
    merges = {fleet.call(path, "status")["spaces"][0]["merge_id"] for path in everybody}  # type: ignore[index]
    assert len(merges) == 1


def test_the_node_stops_fetching_what_is_faulty(fleet: Fleet) -> None:
    """Once a fault is published, nothing more of that contribution comes."""
    alice, mallory = members(fleet, "alice", "mallory")
    tensors = poisoned()
    tensors["big.weight"][5] = -math.inf  # in its first chunk
    content = sign(fleet, mallory, tensors)
    polls = list[None]()

    def shown(homes: list[Home]) -> bool:
        polls.extend([None] * len(faulty(homes[0])))
        return len(polls) > 60  # more than a tick after it was

    meet(alice, mallory, done=shown)
    assert faulty(alice)[content].endswith("item 5 is NaN or infinity")
    blob = blob_id_of(tensors["big.weight"].tobytes())
    assert not opened(alice, lambda home: home.blobs.has(blob))


def test_a_size_that_is_not_as_declared_is_shown(fleet: Fleet) -> None:
    """A tensor whose blob is smaller than its shape cannot be merged either."""
    alice, mallory = members(fleet, "alice", "mallory")
    content = sign(fleet, mallory, arrays(2, arrays(0)), lie=3)
    meet(alice, mallory, done=lambda homes: all(map(faulty, homes)))
    reason = f"its blob has {4 * ITEMS} bytes, not the {4 * ITEMS + 12} of its shape"
    assert faulty(alice) == {content: f"tensor 'big.weight': {reason}"}


def test_check_tells_and_publishes(fleet: Fleet) -> None:
    """A dry run says what would be; then the fault is out; then it is known."""
    alice, mallory = members(fleet, "alice", "mallory")
    fleet.call(alice, "contribute", path=fleet.folder / "tune")
    content = sign(fleet, mallory, poisoned(math.inf))
    (good,) = opened(
        alice,
        lambda home: (
            Spaces(home.records, home.blobs)
            .view(Spaces(home.records, home.blobs).all()[0])
            .visible
        ),
    )
    fine = fleet.call(alice, "check", id=good.content.hex())
    assert (fine["usable"], fine["reason"], fine["record"]) == (True, None, None)
    assert fine["read_bytes"] == 4 * (ITEMS + 7 + 81) + 40
    dry = fleet.call(mallory, "check", id=content.hex(), dry_run=True)
    assert (dry["usable"], dry["proven"], dry["new"]) == (False, True, False)
    assert faulty(mallory) == {}
    made = fleet.call(mallory, "check", id=content.hex())
    assert (made["usable"], made["new"]) == (False, True)
    assert made["reason"] == faulty(mallory)[content]
    again = fleet.call(mallory, "check", id=content.hex())
    assert (again["new"], again["record"]) == (False, made["record"])
    with pytest.raises(NothingToResolveError):
        resolve(fleet, mallory, "nothing")
    log = fleet.call(mallory, "log")["records"]
    assert isinstance(log, list)
    (line,) = [record for record in log if record["kind"] == "fault"]
    assert (line["effect"], line["says"]["item"]) == (True, NAN_AT)
    states = {r["state"] for r in log if r["kind"] == "add"}
    assert states == {"faulty"}


def test_people_are_told(fleet: Fleet, capsys: pytest.CaptureFixture[str]) -> None:
    """On the command line: what is wrong, where, what follows, and who showed it."""
    (alice,) = members(fleet, "alice")
    content = sign(fleet, alice, poisoned()).hex()[:12]

    def said(*words: str) -> str:
        code = cli.run(["--home", str(alice), *words])
        assert code == (8 if words[0] == "check" else 0)
        return capsys.readouterr().out

    reason = f"tensor 'big.weight': item {NAN_AT} is NaN or infinity"
    told = said("check", content, "--dry-run")
    assert f"contribution {content} cannot be merged" in told
    assert reason in told
    assert "without --dry-run" in told
    assert "it is out of the merge" in said("check", content)
    author = fleet.author(alice)[:12]
    assert f"faulty {content}: {reason} (shown by {author})" in said("status")
    assert f"{content}, tensor big.weight: item {NAN_AT}" in said("log")
    assert "faulty" in said("log")


def test_what_was_shown_to_be_faulty_is_not_contributed_again(fleet: Fleet) -> None:
    """Who has the same values is told before anything is signed."""
    (alice,) = members(fleet, "alice")
    tune = load_file(fleet.folder / "tune" / "model.safetensors")
    content = sign(fleet, alice, tune, lie=1)
    assert fleet.call(alice, "check", id=content.hex())["new"] is True
    fleet.call(
        alice, "contribute", path=fleet.folder / "tune"
    )  # of another shape: sound
    with pytest.raises(NotFoundError):
        fleet.call(alice, "remove", id=content.hex())


def test_what_leaves_the_headroom_is_told_but_not_proven(fleet: Fleet) -> None:
    """To see it takes the base's whole tensor: a maintainer's ban is for that."""
    (alice,) = members(fleet, "alice")
    tensors = arrays(2, arrays(0))
    tensors["head.bias"][3] = 1e30
    content = sign(fleet, alice, tensors)
    told = fleet.call(alice, "check", id=content.hex())
    assert (told["usable"], told["proven"], told["record"]) == (False, False, None)
    assert "head.bias" in str(told["reason"])
    assert "ban" in str(told["notes"])
    assert faulty(alice) == {}
