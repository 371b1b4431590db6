"""How much of the disk the blobs of a home may take, by the wish of its user.

Owns the limit, and the refusal of what would pass it. Does not own what is free on the disk
(`disk`), nor what goes to make room (`nodes.upkeep`).

Bytes are counted before they come: of what is stored, of what the open downloads will take,
and of what is to be added. Files of the user's that are only referenced count for nothing.
"""

from dataclasses import dataclass
from typing import Final

from crdtmerge.errors import MachineError, NoRoomError

from .database import Database
from .sqlite import SqliteLocal

_KEY: Final = "quota"


@dataclass(frozen=True, slots=True)
class Quota:
    """The limit of one home; it holds at once for whoever has the home open."""

    database: Database

    @property
    def limit(self) -> int | None:
        """Return how many bytes the blobs may take; None is without limit.

        Raises:
            MachineError: the store cannot be read.
        """
        text = SqliteLocal(self.database).get_value(_KEY)
        if not text:
            return None
        if not text.isdigit():
            raise MachineError(
                f"{self.database.path} is damaged: its quota is {text!r}"
            )
        return int(text)

    def set(self, limit: int | None) -> None:
        """Keep a limit durably, which may be below what is there; None ends it.

        Raises:
            MachineError: the disk refused.
        """
        text = b"" if limit is None else str(limit).encode()
        SqliteLocal(self.database).set_value(_KEY, text)

    def require(self, size: int, coming: int) -> None:
        """Check that `size` more bytes are within the limit, beside `coming` ones.

        Raises:
            NoRoomError: they are not; the message names the numbers.
        """
        limit = self.limit
        if limit is None or size <= 0:
            return
        taken = self._taken() + coming
        if taken + size > limit:
            raise NoRoomError(
                f"{size} bytes are needed beside {taken}, but the blobs of this home may"
                f" take {limit}",
                hint="`crdtmerge store quota SIZE` sets the limit; `store gc --dry-run`"
                " shows what could go; nothing was changed",
            )

    def _taken(self) -> int:
        query = "SELECT sum(coalesce(stored, size)) FROM blobs WHERE path IS NULL"
        with self.database.reading() as sql:
            row = sql.execute(query, ()).fetchone()
        return row[0] if row is not None and row[0] is not None else 0
