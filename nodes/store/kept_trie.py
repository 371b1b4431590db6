"""The trie of one space on the disk: read a row when it is asked for, never built again.

Owns the SQL of the table `tries`, and what happens when its rows do not fit. Does not own
what a row holds (`crdtmerge.trie_rows`), nor transactions (`database`): it is written in
the one that writes the records.
"""

from collections.abc import Iterable
from typing import Final

from crdtmerge.bodies import SpaceId
from crdtmerge.trie import DEPTH_MAX, Inner, Prefix, Trie, kept
from crdtmerge.trie_rows import Row, rows_changed

from .database import Database, Sql


class KeptTrie:
    """The trie over the records of `space`, as far as they are on the disk."""

    def __init__(self, database: Database, space: SpaceId) -> None:
        """Read from the open `database`; its owner closes it."""
        self._database = database
        self._space = space
        self._known: Trie | None = None
        self.fits = True
        """Whether nothing was found yet that does not fit the root."""

    # --- what a trie reads (the port `crdtmerge.trie.Source`) -----------------------------

    def row(self, prefix: Prefix) -> bytes | None:
        """Return the entries of the inner node at `prefix`, if it is kept."""
        query = "SELECT children FROM tries WHERE space = ? AND prefix = ?"
        with self._database.reading() as sql:
            found = sql.execute(query, (self._space, bytes(prefix))).fetchone()
        return found[0] if found else None

    def items(self, prefix: Prefix) -> list[bytes]:
        """Return the ids below `prefix`, in the order in which they came."""
        query = (
            "SELECT sequence, record FROM records"
            " WHERE space = ? AND record BETWEEN ? AND ?"
        )
        with self._database.reading() as sql:
            given = (self._space, *_bounds(prefix))
            found = sql.execute(query, given).fetchall()
        return [record for _, record in sorted(found)]

    def misfit(self) -> None:
        """Hear that ids below a node are not what its hash says."""
        self.fits = False

    # --- the trie -------------------------------------------------------------------------

    def trie(self) -> Trie:
        """Return the trie over all records of now.

        If rows are missing, or do not fit the root, it is built from the ids.
        """
        query = "SELECT count, root FROM spaces WHERE space = ?"
        with self._database.reading() as sql:
            count, root = sql.execute(query, [self._space]).fetchone() or (0, _EMPTY)
        known = self._known
        if self.fits and known is not None and known.root == root:
            return known
        if self.fits and root is not None:
            self._known = Trie(kept(0, count, root, self, ()))
            _read_top(self._known)
        if not self.fits or root is None:
            self._known = self._rebuilt()
        return self._known  # type: ignore[return-value]

    def _rebuilt(self) -> Trie:
        """Build the trie from the ids, and keep it if this process may write."""
        trie = Trie.build(self.items(()))
        if self._database.writes:
            with self._database.writing() as sql:
                self._write_anew(sql, trie)
        self.fits = True
        return trie

    def write(
        self, sql: Sql, before: Trie, fresh: Iterable[bytes], gone: Iterable[bytes]
    ) -> Trie:
        """Write the trie with ids added and others gone, and return it.

        The caller's transaction holds the same change of the records, and `kept_as` is
        called once that is over.
        """
        after = before.insert(fresh).delete(gone)
        rows = list(rows_changed(before.node, after.node))
        if not self.fits:
            after = Trie.build({*self.items(())} - {*gone})
            self._write_anew(sql, after)
            return after
        self._write_rows(sql, rows)
        self._write_root(sql, after)
        return after

    def kept_as(self, trie: Trie) -> None:
        """Hear that what was written is durable."""
        self._known, self.fits = trie, True

    def _write_anew(self, sql: Sql, trie: Trie) -> None:
        sql.execute("DELETE FROM tries WHERE space = ?", [self._space])
        self._write_rows(sql, rows_changed(None, trie.node))
        self._write_root(sql, trie)

    def _write_rows(self, sql: Sql, rows: Iterable[Row]) -> None:
        for prefix, row in rows:
            if row is None:
                query = "DELETE FROM tries WHERE space = ? AND prefix = ?"
                sql.execute(query, (self._space, bytes(prefix)))
            else:
                query = "INSERT OR REPLACE INTO tries VALUES (?, ?, ?)"
                sql.execute(query, (self._space, bytes(prefix), row))

    def _write_root(self, sql: Sql, trie: Trie) -> None:
        query = "UPDATE spaces SET count = ?, root = ? WHERE space = ?"
        sql.execute(query, (len(trie), trie.root, self._space))


_EMPTY: Final = Trie().root


def _read_top(trie: Trie) -> None:
    """Read what lies right below the root, which checks it."""
    node = trie.node
    _ = node.children if isinstance(node, Inner) else node.items


def _bounds(prefix: Prefix) -> tuple[bytes, bytes]:
    """Return the lowest and the highest digest below `prefix`."""
    steps = "".join(f"{step:x}" for step in prefix)
    low, high = steps.ljust(DEPTH_MAX, "0"), steps.ljust(DEPTH_MAX, "f")
    return bytes.fromhex(low), bytes.fromhex(high)
