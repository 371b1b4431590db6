"""What must hold of real homes when they have had time to agree.

Owns the checks, each a function of what was read, and the reader of stores, which shares no
code with the one it checks. Does not own the waiting (`scene`).
"""

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from blake3 import blake3

ROOTS: Final = ("record_root", "visible_root", "merge_id")
_RECORD: Final = "crdtmerge v1 record id"

Spaces = Mapping[str, Mapping[str, Any]]
"""What the node of each member says of the space."""


def disagreement(spaces: Spaces) -> str:
    """Return what nodes differ in or lack; empty when they have converged."""
    for root in ROOTS:
        values = {name: space[root] for name, space in spaces.items()}
        if len(set(values.values())) > 1:
            return f"different {root}s: {values}"
    for name, space in spaces.items():
        if space["missing_blobs"]:
            return f"{name} lacks {space['missing_blobs']} blobs"
    return ""


def unseen(spaces: Spaces, visible: frozenset[str]) -> str:
    """Return who does not see just these contents; agreeing is not enough."""
    for name, space in spaces.items():
        found = {item["content"] for item in space["contributions"]}
        if found != visible:
            lost, extra = len(visible - found), len(found - visible)
            return f"{name} sees {lost} contents too few and {extra} too many"
    return ""


def records_on_disk(home: Path) -> dict[str, bytes]:
    """Return the records in the store of a home, by what its rows call them.

    Raises:
        sqlite3.DatabaseError: the store is damaged.
    """
    store = f"{(home / 'store.sqlite').as_uri()}?mode=ro"
    with closing(sqlite3.connect(store, uri=True)) as sql:
        found = sql.execute("PRAGMA integrity_check").fetchall()
        if found != [("ok",)]:
            raise sqlite3.DatabaseError(f"{home.name}: {found[0][0]}")
        rows = sql.execute("SELECT record, data FROM records").fetchall()
    return {record.hex(): bytes(data) for record, data in rows}


def lost(disks: Mapping[str, Mapping[str, bytes]], acknowledged: frozenset[str]) -> str:
    """Return who has no longer, or never had, a record that was acknowledged anywhere."""
    for name, records in disks.items():
        if missing := acknowledged - records.keys():
            return f"{name} lacks {len(missing)} records that were acknowledged"
        for record, data in records.items():
            if blake3(data, derive_key_context=_RECORD).hexdigest() != record:
                return f"{name} holds other bytes as record {record[:12]}"
    return ""


def different(models: Mapping[str, Mapping[str, bytes]]) -> str:
    """Return which merged file is not the same in every byte."""
    first, *_ = models.values()
    for name, files in models.items():
        if "model.safetensors" not in files:
            return f"{name} merged to no model"
        for file in sorted(first.keys() | files.keys()):
            if files.get(file) != first.get(file):
                return f"{name} merged to other bytes of {file}"
    return ""
