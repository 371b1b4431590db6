"""A member that was away while its space was compacted: real processes, real homes.

It comes back with records of its own that nobody has seen: they join, its dead copies go,
nothing is back that was removed, and it is told so.
"""

from pathlib import Path
from typing import Any

import pytest

from nodes.home import open_home
from tests.integration.processes import Cluster
from tests.integration.test_processes import cluster

__all__ = ["cluster"]


def ids(space: dict[str, Any]) -> set[str]:
    """Return the visible contributions."""
    return {str(item["content"]) for item in space["contributions"]}


def held(folder: Path) -> set[bytes]:
    """Return the ids of all records that lie on the disk of a home."""
    with open_home(folder, write=False) as home:
        (space,) = home.records.spaces()
        return {signed.record.id for signed in home.records.load(space)}


@pytest.mark.slow
def test_a_stale_member_loses_nothing_and_brings_nothing_back(cluster: Cluster) -> None:
    """Removed while it was away, compacted while it was away, and its own news unseen."""
    gone = [cluster.contribute("ben", seed) for seed in (10, 11, 12)]
    kept = cluster.contribute("ben", 13)
    stale = cluster.contribute("cem", 14)
    names = ("ann", "ben", "cem")
    cluster.wait(names, lambda s: ids(s) == {*gone, kept, stale})
    cluster.stop("cem")
    for content in gone:
        cluster.run("ben", "remove", content)
    last = cluster.contribute("ben", 15)
    cluster.wait(("ann", "ben"), lambda s: ids(s) == {kept, stale, last})

    # Meanwhile Cem, who has heard of nothing, adds and takes back on its own.
    unseen = cluster.contribute("cem", 16)
    cluster.run("cem", "remove", stale)
    again = cluster.contribute("cem", 17)
    before = held(cluster.folder / "cem")

    dry = cluster.run("ann", "space", "compact", "--dry-run")
    assert (dry["removed_adds"], dry["removes"]) == (3, 3)
    done = cluster.run("ann", "space", "compact")
    assert done["listed"] == dry["listed"]
    cluster.wait(("ann", "ben"), lambda s: s["compacted"]["listed"] == done["listed"])

    cluster.start("cem")
    seen = cluster.wait(names, lambda s: ids(s) == {kept, last, unseen, again})
    assert {space["record_root"] for space in seen} == {seen[0]["record_root"]}
    told = cluster.status("cem")["compacted"]
    assert told["lost"] == []
    for name in names:
        cluster.stop(name)
    disks = [held(cluster.folder / name) for name in names]
    assert disks[0] == disks[1] == disks[2]
    dropped = before - disks[2]
    # The three adds, and addresses that were said anew; it never had the removes.
    assert 3 <= len(dropped) <= 3 + done["old_addresses"]
    assert told["dropped"] == len(dropped)
    words = f"was compacted: {len(dropped)} records that this home held are gone"
    assert words in cluster.log("cem")
