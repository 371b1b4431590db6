"""How many blobs a home holds, and how many bytes they have, by how these lie.

Owns that one question over the `blobs` table. Does not own the table (`rows`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from .database import Database

KINDS: Final = ("raw", "packed", "referenced")
"""As they are, in encoded chunks, or in the user's files."""


@dataclass(frozen=True, slots=True)
class Total:
    """Blobs of one kind: how many, their bytes, and what these take of the home's disk."""

    count: int = 0
    size: int = 0
    stored: int = 0


def totals(database: Database) -> Mapping[str, Total]:
    """Return the blobs by kind.

    Raises:
        MachineError: the store cannot be read.
    """
    found = dict.fromkeys(KINDS, Total())
    query = """
        SELECT CASE WHEN path IS NOT NULL THEN 'referenced'
                    WHEN form = 0 THEN 'raw' ELSE 'packed' END AS kind,
            count(*), sum(size),
            sum(CASE WHEN path IS NOT NULL THEN 0 ELSE coalesce(stored, size) END)
        FROM blobs GROUP BY kind"""
    with database.reading() as sql:
        for kind, count, size, stored in sql.execute(query).fetchall():
            found[kind] = Total(count, size, stored)
    return found
