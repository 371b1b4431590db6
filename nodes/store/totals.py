"""How many blobs a home holds, and how many bytes they have, by where these lie.

Owns that one question over the `blobs` table. Does not own the table (`blobs`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from .database import Database

COPIED: Final = "copied"
REFERENCED: Final = "referenced"
KINDS: Final = (COPIED, REFERENCED)


@dataclass(frozen=True, slots=True)
class Total:
    """Blobs of one kind."""

    count: int = 0
    size: int = 0


def totals(database: Database) -> Mapping[str, Total]:
    """Return the blobs by kind: `copied` into the home, `referenced` where they lie.

    Raises:
        MachineError: the store cannot be read.
    """
    found = dict.fromkeys(KINDS, Total())
    query = "SELECT path IS NOT NULL, count(*), sum(size) FROM blobs GROUP BY 1"
    with database.reading() as sql:
        for referenced, count, size in sql.execute(query).fetchall():
            found[REFERENCED if referenced else COPIED] = Total(count, size)
    return found
