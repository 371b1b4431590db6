"""The version before and today's, side by side: real processes of both, over real links.

The older one is kept as it was (`tests.older`). An older node is no worse than ours at
anything that it could do: only what it does not know is not done with it.
"""

import time
from collections.abc import Collection, Iterator
from functools import partial
from pathlib import Path

import pytest

from crdtmerge.bodies import RecordId, SpaceId, Unknown
from nodes.home import Home, open_home
from nodes.store.schema import SCHEMA_VERSION
from tests import older
from tests.homes import write_model
from tests.integration.living import replica
from tests.integration.processes import DEADLINE_S, Cluster, running
from tests.older_homes import version

NOWHERE = ("--advertise", "127.0.0.2")
"""Nobody listens there: who advertises it can dial others, and others not it."""
PLAIN = ("--backend", "reference")
"""Nothing is compiled for a few numbers."""


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """Nobody yet, with a base to found a space on."""
    with running(tmp_path) as members:
        write_model(tmp_path / "base", 1)
        yield members


def gather(
    cluster: Cluster, names: Collection[str], before: Collection[str], *options: str
) -> None:
    """Let the first of `names` found a space that the others join.

    Those in `before` are of the version before. Whoever joins runs with `options`.
    """
    program = older.unpack(cluster.folder / "older") if before else Path()
    cluster.programs = dict.fromkeys(before, program)
    first, *others = names
    for name in names:
        cluster.run(name, "init")
    base = str(cluster.folder / "base")
    create = ("space", "create", "mixed", "--base", base, "--strategy", "linear")
    cluster.run(first, *create)
    cluster.start(first)
    for name in others:
        join(cluster, first, name)
        cluster.start(name, *options)


def join(cluster: Cluster, host: str, name: str) -> None:
    """Let `name`, who has a home, join at `host`; its node does not run yet."""
    ticket = cluster.run(host, "space", "ticket")["ticket"]
    base = str(cluster.folder / "base")
    cluster.run(name, "space", "join", ticket, "--base", base)


def agree(cluster: Cluster, names: Collection[str], contributions: int) -> None:
    """Wait until `names` hold the same records and blobs, and resolve to the same."""
    ordered = list(names)
    spaces = cluster.wait(
        ordered, lambda space: len(space["contributions"]) == contributions
    )
    assert len({space["merge_id"] for space in spaces}) == 1
    first, *others = (cluster.resolved(name, "out", 1, *PLAIN) for name in ordered)
    assert "model.safetensors" in first
    models = [{**files, "README.md": b""} for files in (first, *others)]
    assert all(files == models[0] for files in models)


def test_the_kept_file_is_the_version_before() -> None:
    """It holds what its digest says: a node's code, and nothing of today's."""
    files = older.members(older.KEPT.read_bytes())
    assert older.digest_of(files) == older.DIGEST
    assert older.KEPT.stat().st_size < 600_000
    assert b"SPEAKS_COMPARE" not in b"".join(files.values())


@pytest.mark.slow
def test_what_the_version_before_founds_ours_joins(cluster: Cluster) -> None:
    """Both contribute, hold the same records, and resolve to the same bytes."""
    gather(cluster, ("ann", "ben"), ("ann",))
    cluster.contribute("ann", 10)
    cluster.contribute("ben", 11)
    agree(cluster, ("ann", "ben"), 2)


def test_an_older_node_passes_on_what_it_does_not_know(cluster: Cluster) -> None:
    """Between two of ours that cannot reach each other stands an older one alone.

    It founded the space, and what it contributes resolves to the same bytes here and there.
    """
    gather(cluster, ("ben", "cem"), ("ben",), *NOWHERE)
    cluster.run("ann", "init")
    join(cluster, "ben", "ann")
    with open_home(cluster.folder / "ann", write=True) as home:
        (space,) = home.records.spaces()
        record = _of_a_later_kind(home, space)
    cluster.start("ann", *NOWHERE)
    cluster.contribute("ben", 10)
    end = time.monotonic() + DEADLINE_S
    while not _holds(cluster, "cem", space, record):
        assert time.monotonic() < end, cluster.log("cem")
        time.sleep(0.1)
    agree(cluster, ("ben", "ann"), 1)


def _of_a_later_kind(home: Home, space: SpaceId) -> RecordId:
    """Let the author of a home say what no version knows yet."""
    ours = replica(home, space)
    signed = ours._sign(Unknown("poem", b"\x80"))
    home.records.append(space, [signed])
    return signed.record.id


def _holds(cluster: Cluster, name: str, space: SpaceId, record: RecordId) -> bool:
    with open_home(cluster.folder / name, write=False) as home:
        return any(s.record.id == record for s in home.records.load(space))


@pytest.mark.slow
def test_what_ours_founds_the_version_before_joins(cluster: Cluster) -> None:
    """And the other way round."""
    gather(cluster, ("ann", "ben"), ("ben",))
    cluster.contribute("ann", 10)
    cluster.contribute("ben", 11)
    agree(cluster, ("ann", "ben"), 2)


@pytest.mark.slow
def test_four_of_both_versions_are_upgraded_one_by_one(cluster: Cluster) -> None:
    """A group goes from the version before to ours while all contribute."""
    names = ("ann", "ben", "cem", "dan")
    gather(cluster, names, names)
    for number, name in enumerate(names):
        cluster.contribute(name, 10 + number)
        assert cluster.stop(name) == 0
        before = version(cluster.folder / name)
        del cluster.programs[name]
        cluster.start(name)
        assert before <= version(cluster.folder / name) == SCHEMA_VERSION
        agree_on = partial(_many, number + 1)
        cluster.wait(names, agree_on)
    cluster.contribute("ann", 20)
    agree(cluster, names, 5)


def _many(count: int, space: dict[str, list[object]]) -> bool:
    return len(space["contributions"]) == count
