"""Execution: the same bytes for every executor, bounded, and errors that name names."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from crdtmerge import numerics
from crdtmerge.digest import BlobId, blob_id_of
from crdtmerge.errors import (
    BadInputError,
    ContentMissingError,
    ContractError,
    CorruptBlobError,
    FaultyContributionError,
)
from crdtmerge.formats.progress import Progress
from crdtmerge.resolve.execute import execute
from crdtmerge.resolve.plan import Plan, make_plan
from crdtmerge.resolve.pool import THREADS_MAX
from crdtmerge.strategies import STRATEGIES
from tests.models import (
    SHAPES,
    UNIT,
    Blobs,
    Merge,
    Tensors,
    contribution,
    contribution_of,
    describe,
    make_merge,
    make_tensors,
    recipe_of,
    told,
)

NAMES = sorted(STRATEGIES)


@dataclass
class Sink:
    """Keeps what is written, each tensor once."""

    held: dict[str, bytes] = field(default_factory=dict)

    def write(self, name: str, data: bytes | memoryview, offset: int = 0) -> None:
        """Keep one tensor."""
        assert len(self.held.get(name, b"")) == offset, "twice, or out of order"
        self.held[name] = self.held.get(name, b"") + bytes(data)


@contextmanager
def pool(threads: int) -> Iterator[Executor | None]:
    if threads:
        with ThreadPoolExecutor(threads) as executor:
            yield executor
    else:
        yield None


def plan_of(merge: Merge, name: str = "linear", dtype: str = "") -> Plan:
    recipe = recipe_of(name, output_dtype=dtype)
    return make_plan(recipe, merge.base, told(merge, recipe))


def run(
    merge: Merge, name: str = "linear", threads: int = 0, dtype: str = ""
) -> Tensors:
    """Resolve with `threads` in a pool, or right here if 0."""
    sink = Sink()
    plan = plan_of(merge, name, dtype)
    with pool(threads) as executor:
        digests = execute(
            plan, merge.blobs, sink, executor=executor, threads=max(threads, 1)
        )
    assert digests == {name: blob_id_of(data) for name, data in sink.held.items()}
    return sink.held


def spoiled(name: str, data: bytes) -> Merge:
    """A merge whose second contribution has `data` for one tensor."""
    blobs = Blobs()
    tensors = make_tensors(0)
    base = describe(tensors, blobs)
    tunes = [make_tensors(seed, tensors) for seed in (1, 2, 3)]
    tunes[1][name] = data
    made = tuple(contribution(tune, blobs, base) for tune in tunes)
    return Merge(base, made, blobs)


@pytest.mark.parametrize("name", NAMES)
def test_threads_do_not_change_a_byte(name: str) -> None:
    """No executor, one, two and many threads give the same tensors."""
    merge = make_merge()
    alone = run(merge, name)
    assert sorted(alone) == sorted(SHAPES)
    for threads in (1, 2, 8):
        assert run(merge, name, threads) == alone


@pytest.mark.parametrize("name", NAMES)
def test_output_has_the_size_of_its_dtype(name: str) -> None:
    """Every strategy writes each output dtype, empty and scalar tensors included."""
    merge = make_merge()
    for dtype, size in (("F64", 8), ("F32", 4), ("BF16", 2), ("F16", 2)):
        for tensor, data in run(merge, name, dtype=dtype).items():
            items = int(np.prod(SHAPES[tensor][1]))
            assert len(data) == items * (8 if tensor == "positions" else size)


def test_linear_is_the_weighted_average() -> None:
    """Against plain float64, to the last bits of float32."""
    merge = make_merge((UNIT, 3 * UNIT))
    name = "block.weight"
    blobs = [c.manifest.tensors[0].blob for c in merge.contributions]
    values = [numerics.upcast(merge.blobs.held[blob], "F32") for blob in blobs]
    found = numerics.upcast(run(merge)[name], "F32")
    expected = (values[0] + 3 * values[1]) / 4
    np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-12)


def test_metagpt_weighs_by_the_norm_over_the_whole_model() -> None:
    """The reduce step sees every float tensor: coefficients go with squared norms."""
    merge = make_merge((UNIT, UNIT))
    floats = [e for e in merge.base.tensors if e.dtype != "I64"]
    taus = []
    for item in merge.contributions:
        theirs = {e.name: e.blob for e in item.manifest.tensors}
        tau = {
            e.name: numerics.upcast(merge.blobs.held[theirs[e.name]], e.dtype)
            - numerics.upcast(merge.blobs.held[e.blob], e.dtype)
            for e in floats
        }
        taus.append(tau)
    squares = [sum(float((t**2).sum()) for t in tau.values()) for tau in taus]
    shares = [square / sum(squares) for square in squares]
    base = numerics.upcast(merge.blobs.held[floats[0].blob], "F32")
    name = floats[0].name
    expected = base + shares[0] * taus[0][name] + shares[1] * taus[1][name]
    found = numerics.upcast(run(merge, "metagpt")[name], "F32")
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-7)


@pytest.mark.parametrize("name", NAMES)
def test_tensors_without_arithmetic_are_the_bases(name: str) -> None:
    """Indices are copied, whatever contributions hold there."""
    assert run(make_merge(), name)["positions"] == make_tensors(0)["positions"]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", NAMES)
def test_values_that_are_not_finite_name_their_contribution(
    name: str, value: float
) -> None:
    """A visible contribution may hold anything; resolve refuses and says whose it is."""
    bad = np.zeros((33, 7), "<f4")
    bad[-1, -1] = value
    merge = spoiled("block.weight", bad.tobytes())
    for threads in (0, 2):
        with pytest.raises(FaultyContributionError, match=r"block\.weight.*NaN") as e:
            run(merge, name, threads)
        assert e.value.content == merge.contributions[1].content


def test_values_above_the_headroom_name_their_contribution() -> None:
    """The bound is that of ingest, checked again when read: the base's E is 0 here."""
    merge = spoiled("block.weight", np.full((33, 7), 63.9, "<f4").tobytes())
    run(merge)
    merge = spoiled("block.weight", np.full((33, 7), 64, "<f4").tobytes())
    with pytest.raises(FaultyContributionError, match=r"block\.weight.*2\^6") as caught:
        run(merge)
    assert caught.value.content == merge.contributions[1].content


def test_base_that_is_not_finite_is_nobodys_contribution() -> None:
    """The message is about the base."""
    blobs = Blobs()
    tensors = make_tensors(0) | {"scale": np.array([np.nan]).tobytes()}
    base = describe(tensors, blobs)
    merge = Merge(base, (contribution(make_tensors(1), blobs, base),), blobs)
    with pytest.raises(ContractError, match=r"'scale'.*base"):
        run(merge)


def test_missing_and_damaged_blobs_are_told_apart() -> None:
    """What has not arrived is fetched; what is damaged is not used."""
    merge = make_merge()
    blob = merge.contributions[1].manifest.tensors[0].blob
    whole = merge.blobs.held.pop(blob)
    with pytest.raises(ContentMissingError):
        run(merge)
    merge.blobs.held[blob] = whole[:-1] + b"?"
    with pytest.raises(CorruptBlobError):
        run(merge)


def test_source_of_another_size_is_not_believed() -> None:
    """A blob shorter than its manifest says never reaches arithmetic."""

    class Short(Blobs):
        def read(self, blob: BlobId, size: int) -> bytes:
            return super().read(blob, size)[:-1] if size else b""

    merge = make_merge()
    short = replace(merge, blobs=Short(merge.blobs.held))
    with pytest.raises(CorruptBlobError, match="bytes, not"):
        run(short)


def test_first_error_in_order_is_the_one_raised() -> None:
    """With several faults, threads do not decide which one is reported."""
    merge = make_merge()
    for item in merge.contributions[1].manifest.tensors[1:]:
        merge.blobs.held.pop(item.blob, None)
    lost = merge.contributions[1].manifest.tensors[1].blob.hex()[:12]
    for threads in (0, 1, 2, 4):
        with pytest.raises(ContentMissingError, match=lost):
            run(merge, threads=threads)


def test_nothing_is_written_after_an_error_was_raised() -> None:
    """The caller may remove the output at once: tasks that had started have ended."""
    merge = make_merge()
    lost = merge.contributions[1].manifest.tensors[0].blob

    class Slow(Blobs):
        failed = threading.Event()

        def read(self, blob: BlobId, size: int) -> bytes:
            if blob == lost:
                self.failed.set()
                message = "the first task fails"
                raise ContentMissingError(message)
            if size == merge.base.tensors[1].size:
                self.failed.wait(5)
                threading.Event().wait(0.05)  # the error is on its way to the caller
            return super().read(blob, size)

    sink = Sink()
    with pool(2) as executor:
        with pytest.raises(ContentMissingError):
            execute(
                plan_of(merge),
                Slow(merge.blobs.held),
                sink,
                executor=executor,
                threads=2,
            )
        written = set(sink.held)
    assert set(sink.held) == written == {"embed.weight"}


def test_equal_blobs_are_read_once() -> None:
    """A tensor that a contribution left alone costs no second read."""
    merge = make_merge((UNIT,))
    same = replace(merge.contributions[0].manifest, tensors=merge.base.tensors)

    run(replace(merge, contributions=(contribution_of(same),)))
    assert merge.blobs.reads == len(SHAPES)


def test_never_more_tasks_in_flight_than_asked() -> None:
    """Even an executor with many threads gets no more than that many tasks."""
    merge = make_merge()

    class Gauge(Blobs):
        now = 0
        most = 0
        lock = threading.Lock()
        pause = threading.Event()

        def read(self, blob: BlobId, size: int) -> bytes:
            with self.lock:
                self.now += 1
                self.most = max(self.most, self.now)
            self.pause.wait(0.005)
            with self.lock:
                self.now -= 1
            return super().read(blob, size)

    for threads in (1, 3):
        gauge = Gauge(merge.blobs.held)
        with pool(8) as executor:
            execute(plan_of(merge), gauge, Sink(), executor=executor, threads=threads)
        assert gauge.most == threads


@pytest.mark.parametrize("threads", [0, -1, THREADS_MAX + 1])
def test_senseless_numbers_of_threads_are_refused(threads: int) -> None:
    """The bound has bounds."""
    merge = make_merge()
    with pytest.raises(BadInputError, match="threads"):
        execute(plan_of(merge), merge.blobs, Sink(), threads=threads)


@pytest.mark.parametrize("threads", [0, 2])
def test_progress_rises_to_the_whole(threads: int) -> None:
    """Each phase ends at its total."""
    merge = make_merge()
    seen: list[Progress] = []
    with pool(threads) as executor:
        execute(
            plan_of(merge, "metagpt"),
            merge.blobs,
            Sink(),
            executor=executor,
            threads=max(threads, 1),
            report=seen.append,
        )
    for work in ("measuring", "merging"):
        steps = [p.done for p in seen if p.work == work]
        assert steps == sorted(steps)
        assert steps[-1] == next(p.total for p in seen if p.work == work)


def test_an_interrupt_does_not_wait_for_the_rest_of_a_tensor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A large tensor that is under way ends at its next part, not after its last."""
    monkeypatch.setattr("crdtmerge.resolve.execute.PART_ITEMS", 8)
    plan = plan_of(merge := make_merge())
    first = next(task.tensor for task in plan.tasks if task.kind == "emit")
    assert int(np.prod(SHAPES[first][1])) > 16
    begun, broken = threading.Event(), threading.Event()
    offsets: list[int] = []

    class Slow(Sink):
        def write(self, name: str, data: bytes | memoryview, offset: int = 0) -> None:
            super().write(name, data, offset)
            if name == first:
                offsets.append(offset)
                begun.set()
                assert broken.wait(10)
                time.sleep(0.2)  # for the main thread to notice what it raised

    def report(_progress: Progress) -> None:
        assert begun.wait(10)
        broken.set()
        raise KeyboardInterrupt

    with pool(2) as executor, pytest.raises(KeyboardInterrupt):
        execute(plan, merge.blobs, Slow(), executor=executor, threads=2, report=report)
    assert offsets == [0]
