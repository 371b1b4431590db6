"""Kept sums in a resolve: used where they move fewer bytes, as `--explain` says before."""

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from crdtmerge import numerics
from crdtmerge.digest import ContentId
from crdtmerge.formats.shards import lay_out_model
from crdtmerge.formats.sums import SumsFolder
from crdtmerge.manifest import Manifest, TensorEntry
from crdtmerge.numerics import pack_planes, tau_grid, theta_grid, unpack_planes
from crdtmerge.resolve.cost import NO_SUMS, Bytes, Choice, choose, pays_at
from crdtmerge.resolve.counting import Read
from crdtmerge.resolve.forecast import Forecast, forecast
from crdtmerge.resolve.model import Resolved, resolve_model
from crdtmerge.resolve.output import Output
from crdtmerge.resolve.plan import Plan, make_plan
from crdtmerge.resolve.reuse import Before
from crdtmerge.resolve.settings import Contribution
from crdtmerge.strategies import make_recipe
from nodes.store.memo import HomeMemo
from tests.models import Blobs, about

ROOM = 1 << 40
SHAPES: Mapping[str, tuple[int, ...]] = {"large": (128, 512), "norm": (64,)}
SIZE = 2 * (128 * 512 + 64)
"""Bytes of one model, in BF16."""


@dataclass
class Fleet:
    """Fine-tunes of one base, as many as are asked for."""

    blobs: Blobs = field(default_factory=Blobs)
    tunes: list[Contribution] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Make the base."""
        generator = np.random.default_rng(0)
        self.items = {
            name: generator.standard_normal(shape) / 32
            for name, shape in SHAPES.items()
        }
        self.base = Manifest("base", b"", self._entries(self.items))

    def _entries(self, items: Mapping[str, np.ndarray]) -> tuple[TensorEntry, ...]:
        return tuple(
            TensorEntry(
                name,
                "BF16",
                SHAPES[name],
                self.blobs.put(numerics.downcast(values.reshape(-1), "BF16")),
            )
            for name, values in sorted(items.items())
        )

    def some(self, count: int, *names: str) -> list[Contribution]:
        """Return so many; those made now differ from the base in `names` alone, if any."""
        while len(self.tunes) < count:
            generator = np.random.default_rng(1 + len(self.tunes))
            items = dict(self.items)
            for name in names or SHAPES:
                values = generator.standard_normal(SHAPES[name]) / 512
                items[name] = items[name] + values
            manifest = Manifest("full", self.base.content_id, self._entries(items))
            content = ContentId(manifest.content_id)
            self.tunes.append(Contribution(content, 10**9, manifest, (b"a" * 32,)))
        return self.tunes[:count]

    def plan(self, count: int, name: str = "linear", *names: str) -> Plan:
        """Return the plan of so many."""
        return make_plan(make_recipe(name, {}), self.base, self.some(count, *names))


@dataclass
class Place:
    """A home with a memo and sums, and outputs beside it."""

    path: Path
    fleet: Fleet
    outs: int = 0

    def resolve(
        self, plan: Plan, *, sums: bool = True, memo: bool = True
    ) -> tuple[Forecast, Choice, Resolved, Path]:
        """Say what a resolve will come to, then do it."""
        self.outs += 1
        out = self.path / f"out{self.outs}"
        home = HomeMemo(self.path) if memo else None
        layout = lay_out_model(plan.outputs)
        with SumsFolder(self.path / "sums") as folder:
            choice = NO_SUMS
            if sums:
                choice = choose(plan, self.fleet.blobs, folder, room=ROOM)
            lasts = [kept.last.task for kept in choice.kept.values()]
            before = Before.of(plan, home, {}, lasts)
            told = forecast(plan, self.fleet.blobs, layout, before, choice)
            made = resolve_model(
                plan=plan,
                source=self.fleet.blobs,
                output=Output(out),
                layout=layout,
                about=about(plan),
                memo=home,
                sums=(folder, choice) if sums else None,
            )
        return told, choice, made, out

    def content(self, out: Path) -> dict[str, bytes]:
        """Return what was written."""
        return {path.name: path.read_bytes() for path in out.iterdir()}


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """Return a home of nothing."""
    yield Place(tmp_path, Fleet())
    shutil.rmtree(tmp_path)


def agrees(told: Forecast, made: Resolved) -> None:
    """What was told is what was counted."""
    assert told.reads == made.read
    assert told.tally == made.tally
    assert told.sums_read == made.sums.read
    assert told.sums_written >= made.sums.written
    assert bool(told.sums_written) == bool(made.sums.written)


def test_one_more_than_64_reads_a_tenth(place: Place) -> None:
    """linear, BF16: sums included, at most 1/10 of what a fresh resolve of 65 reads."""
    fleet = place.fleet
    told, choice, first, _ = place.resolve(fleet.plan(64))
    assert choice.ways == {"large": "begin"}
    agrees(told, first)
    assert first.read == Read(SIZE, 64 * SIZE)
    told, choice, one, out = place.resolve(fleet.plan(65))
    assert choice.ways == {"large": "go on"}
    agrees(told, one)
    assert one.tally.computed == one.tally.tasks == 2
    assert one.tally.summed == 1
    _, _, fresh, plain = place.resolve(fleet.plan(65), sums=False, memo=False)
    assert fresh.read.total == 66 * SIZE
    large, norm = 2 * 128 * 512, 2 * 64
    assert one.read == Read(norm, large + 65 * norm)
    assert 10 * (one.read.total + one.sums.read) <= fresh.read.total
    assert place.content(out) == place.content(plain)


def test_without_the_memo_or_the_sums_the_bytes_are_the_same(place: Place) -> None:
    """A contribution that goes, and comes again, in a home that lost all it kept."""
    fleet = place.fleet
    place.resolve(fleet.plan(33))
    told, _, made, out = place.resolve(fleet.plan(32))
    agrees(told, made)
    assert made.tally.summed == 1
    _, _, _, plain = place.resolve(fleet.plan(32), sums=False, memo=False)
    assert place.content(out) == place.content(plain)
    again, _, known, _ = place.resolve(fleet.plan(33))
    agrees(again, known)
    assert known.tally.reused == 2
    assert known.sums.read == known.sums.written == known.read.total == 0


@pytest.mark.parametrize("name", ["linear", "ties", "task_arithmetic"])
def test_what_is_told_is_what_happens(place: Place, name: str) -> None:
    """From nothing known to all known, with and without sums: bytes, tensors, tasks."""
    for count in (3, 40, 41, 41, 39):
        told, _, made, out = place.resolve(place.fleet.plan(count, name))
        agrees(told, made)
        _, _, _, plain = place.resolve(
            place.fleet.plan(count, name), sums=False, memo=False
        )
        assert place.content(out) == place.content(plain)


def test_measures_that_are_known_are_not_told_as_read(place: Place) -> None:
    """metagpt: maps and emits read all twice; the next dtype reads all once."""
    plan = place.fleet.plan(3, "metagpt")
    told, choice, made, _ = place.resolve(plan)
    assert "no sum" in choice.reason
    agrees(told, made)
    assert made.read.total == 2 * 4 * SIZE
    recipe = make_recipe("metagpt", {}, output_dtype="F32")
    other = make_plan(recipe, place.fleet.base, place.fleet.some(3))
    told, _, made, _ = place.resolve(other)
    agrees(told, made)
    assert made.read.total == 4 * SIZE


def test_a_newcomer_that_leaves_a_tensor_alone_costs_nothing_there(
    place: Place,
) -> None:
    """ties: the output of the old sums is copied, though its key is another now."""
    place.resolve(place.fleet.plan(80, "ties"))
    plan = place.fleet.plan(81, "ties", "norm")
    told, choice, made, out = place.resolve(plan)
    assert choice.ways["large"] == "go on"
    agrees(told, made)
    assert made.tally.reused == 1
    assert made.sums.read == made.sums.written == 0
    _, _, _, plain = place.resolve(plan, sums=False, memo=False)
    assert place.content(out) == place.content(plain)
    told, _, made, _ = place.resolve(plan)
    agrees(told, made)
    assert made.tally.reused == 2


def test_sums_that_have_no_room_are_not_begun(place: Place) -> None:
    """The choice says how many bytes they could take, and none is begun."""
    plan = place.fleet.plan(64)
    choice = choose(plan, place.fleet.blobs, SumsFolder(place.path / "s"), room=1000)
    assert choice.ways == {}
    assert "1000 are free" in choice.reason
    assert choose(plan, place.fleet.blobs, None).ways == {}


def test_sums_pay_where_the_next_one_moves_fewer_bytes() -> None:
    """By counting: with n from the model and one less, the cost of one more, both ways."""
    header = 128
    for moved in (
        Bytes(16 * 1000, 2000, 2000, 0),
        Bytes(8 * 1000, 4000, 4000, 4000),
        Bytes(48 * 1000, 2000, 2000, 2000),
        Bytes(0, 600, 5000, 0),
    ):
        least = pays_at(moved)
        assert least is not None
        for n in range(1, 200):
            fresh = moved.base + (n + 1) * moved.contribution
            kept = 2 * (moved.planes + n * header) + moved.contribution + moved.end
            assert (kept < fresh) == (n >= least), n
    assert pays_at(Bytes(1000, 256, 256, 0)) is None


@pytest.mark.parametrize("seed", range(4))
def test_packed_planes_are_the_planes(seed: int) -> None:
    """Any float64 comes back bit for bit; what is on the grid takes fewer bytes."""
    generator = np.random.default_rng(seed)
    grid = (theta_grid if seed % 2 else tau_grid)(3, "F32")
    steps = [2.0 ** (grid.step_exponent - 34 * n) for n in range(grid.limbs)]
    bits = generator.integers(1, 52, size=(grid.limbs, 1))
    whole = np.rint(generator.uniform(-1, 1, (grid.limbs, 999)) * 2.0**bits)
    planes = (whole + 0.0) * np.array(steps)[:, None]
    for rows in (planes, np.zeros((2, 5)), np.full((2, 0), 1.0)):
        widths, data = pack_planes(rows, grid)
        found = unpack_planes(b"".join(data), widths, rows.shape[1], grid)
        assert found.tobytes() == rows.tobytes()
    assert list(pack_planes(planes, grid)[0]) == [
        -(-(int(b) + 1) // 8) for b in bits[:, 0]
    ]
    votes = np.concatenate([planes, planes, np.rint(planes / np.array(steps)[:, None])])
    odd = generator.standard_normal(votes.shape)
    odd[0, :4] = -0.0, np.nan, np.inf, 5e-324
    for rows in (votes, odd):
        widths, data = pack_planes(rows, grid)
        found = unpack_planes(b"".join(data), widths, rows.shape[1], grid)
        assert found.tobytes() == rows.tobytes()
    assert set(pack_planes(odd, grid)[0]) == {8}
