"""The records of one space in the order of their arrival, seen up to some length.

Owns what every log promises, the form that lies in memory, and what a log is once
changed. Does not own which records
may come in, nor their join (`orset`), nor the form on a disk (`nodes.store`).

A log only grows, and its values share what they hold: a longer one costs what was added,
and a shorter one still shows what it showed. What is dead is left out by another log.
"""

from abc import abstractmethod
from bisect import bisect_left
from collections.abc import ItemsView, Iterable, Iterator, Mapping, ValuesView
from itertools import islice
from threading import Lock
from typing import final

from crdtmerge.bodies import RecordId
from crdtmerge.identity import AuthorId
from crdtmerge.record import Record, SignedRecord


class Log(Mapping[RecordId, SignedRecord]):
    """Signed records by id, in the order of their arrival; equal if they hold the same."""

    __slots__ = ()

    def values(self) -> ValuesView[SignedRecord]:
        """Return the records, which are read one after the other, and not by name."""
        return _Values(self)

    def items(self) -> ItemsView[RecordId, SignedRecord]:
        """Return the records by id, read one after the other."""
        return _Items(self)

    @abstractmethod
    def since(self, count: int) -> Iterator[SignedRecord]:
        """Yield the records after the first `count`, in the order of their arrival."""

    @abstractmethod
    def of_author(self, author: AuthorId) -> list[SignedRecord]:
        """Return the records of `author`, in the order of their arrival."""

    @abstractmethod
    def of_kinds(self, kinds: frozenset[str]) -> list[SignedRecord]:
        """Return the records of these kinds, in the order of their arrival."""

    @abstractmethod
    def authors(self) -> frozenset[AuthorId]:
        """Return who made a record that the log holds."""

    @abstractmethod
    def extended(self, fresh: Mapping[RecordId, SignedRecord]) -> "Log":
        """Return the log with records added at its end that it does not hold yet."""

    @abstractmethod
    def without(self, gone: frozenset[RecordId]) -> "Log":
        """Return a log that lacks the records `gone`, in the same order."""


class _Values(ValuesView[SignedRecord]):
    _mapping: Log

    def __iter__(self) -> Iterator[SignedRecord]:
        return self._mapping.since(0)


class _Items(ItemsView[RecordId, SignedRecord]):
    _mapping: Log

    def __iter__(self) -> Iterator[tuple[RecordId, SignedRecord]]:
        return ((one.record.id, one) for one in self._mapping.since(0))


class _Shared:
    """What the values of one growing log hold together; places count from 0."""

    __slots__ = ("authors", "kinds", "lock", "order", "places")

    def __init__(self, signed: Iterable[SignedRecord]) -> None:
        self.order: list[SignedRecord] = []
        self.places: dict[RecordId, int] = {}
        self.authors: dict[AuthorId, list[int]] = {}
        self.kinds: dict[str, list[int]] = {}
        self.lock = Lock()
        self.add(signed)

    def add(self, signed: Iterable[SignedRecord]) -> None:
        """Add records at the end."""
        for one in signed:
            record, place = one.record, len(self.order)
            self.order.append(one)
            self.places[record.id] = place
            self.authors.setdefault(record.author, []).append(place)
            self.kinds.setdefault(record.kind, []).append(place)


@final
class MemoryLog(Log):
    """A log in memory; several threads may read and extend its values."""

    __slots__ = ("_length", "_shared")

    def __init__(
        self,
        signed: Iterable[SignedRecord] = (),
        shared: _Shared | None = None,
        length: int | None = None,
    ) -> None:
        """Hold `signed`, each once, in this order; or the first `length` of `shared`."""
        if shared is None:
            shared = _Shared({one.record.id: one for one in signed}.values())
        self._shared = shared
        self._length = len(shared.order) if length is None else length

    def __len__(self) -> int:
        """Return the number of records."""
        return self._length

    def __getitem__(self, key: RecordId) -> SignedRecord:
        """Return the record with this id."""
        place = self._shared.places[key]
        if place >= self._length:
            raise KeyError(key)
        return self._shared.order[place]

    def __contains__(self, key: object) -> bool:
        """Tell whether the log holds the record with this id."""
        place = self._shared.places.get(key)  # type: ignore[call-overload]
        return place is not None and place < self._length

    def __iter__(self) -> Iterator[RecordId]:
        """Yield the ids in the order of arrival."""
        return (one.record.id for one in self.since(0))

    def since(self, count: int) -> Iterator[SignedRecord]:
        """Yield the records after the first `count`, in the order of their arrival."""
        order = self._shared.order
        return (order[place] for place in range(count, self._length))

    def of_author(self, author: AuthorId) -> list[SignedRecord]:
        """Return the records of `author`, in the order of their arrival."""
        return self._at(self._shared.authors.get(author, []))

    def of_kinds(self, kinds: frozenset[str]) -> list[SignedRecord]:
        """Return the records of these kinds, in the order of their arrival."""
        found = (self._shared.kinds.get(kind, []) for kind in sorted(kinds))
        return self._at(sorted(place for places in found for place in places))

    def authors(self) -> frozenset[AuthorId]:
        """Return who made a record that the log holds."""
        firsts = list(self._shared.authors.items())
        return frozenset(a for a, places in firsts if places[0] < self._length)

    def _at(self, places: list[int]) -> list[SignedRecord]:
        """Return what lies at these ascending places, as far as this value sees."""
        seen = bisect_left(places, self._length)
        return [self._shared.order[place] for place in places[:seen]]

    def extended(self, fresh: Mapping[RecordId, SignedRecord]) -> "MemoryLog":
        """Return the log with records added at its end that it does not hold yet.

        SUBTLE: the first value made from this one shares what it holds, and so does one
        that goes the same way, as a store does after a set. Another way takes a copy.
        """
        shared, end = self._shared, self._length + len(fresh)
        with shared.lock:
            if len(shared.order) == self._length:
                shared.add(fresh.values())
            if shared.order[self._length : end] == list(fresh.values()):
                return MemoryLog(shared=shared, length=end)
        return MemoryLog((*self.since(0), *fresh.values()))

    def without(self, gone: frozenset[RecordId]) -> "MemoryLog":
        """Return a log that lacks the records `gone`: another one, that shares nothing."""
        return MemoryLog(one for one in self.since(0) if one.record.id not in gone)


@final
class ChangedLog(Log):
    """Another log with records added at its end, and others left out.

    For what a store keeps, until it keeps the change as well: it costs what was changed.
    """

    __slots__ = ("_base", "_gone", "_more")

    def __init__(
        self,
        base: Log,
        gone: frozenset[RecordId] = frozenset(),
        more: MemoryLog | None = None,
    ) -> None:
        """Show `base` without `gone`, all of which it holds, and then `more`."""
        self._base, self._gone = base, gone
        self._more = MemoryLog() if more is None else more

    def __len__(self) -> int:
        """Return the number of records."""
        return len(self._base) - len(self._gone) + len(self._more)

    def __getitem__(self, key: RecordId) -> SignedRecord:
        """Return the record with this id."""
        if key in self._more:
            return self._more[key]
        if key in self._gone:
            raise KeyError(key)
        return self._base[key]

    def __contains__(self, key: object) -> bool:
        """Tell whether the log holds the record with this id."""
        return key in self._more or (key not in self._gone and key in self._base)

    def __iter__(self) -> Iterator[RecordId]:
        """Yield the ids in the order of arrival."""
        yield from (key for key in self._base if key not in self._gone)
        yield from self._more

    def since(self, count: int) -> Iterator[SignedRecord]:
        """Yield the records after the first `count`, in the order of their arrival."""
        before = len(self._base) - len(self._gone)
        if count < before:
            kept = self._left(self._base.since(0 if self._gone else count))
            yield from islice(kept, count if self._gone else 0, None)
        yield from self._more.since(max(0, count - before))

    def of_author(self, author: AuthorId) -> list[SignedRecord]:
        """Return the records of `author`, in the order of their arrival."""
        kept = self._left(self._base.of_author(author))
        return [*kept, *self._more.of_author(author)]

    def of_kinds(self, kinds: frozenset[str]) -> list[SignedRecord]:
        """Return the records of these kinds, in the order of their arrival."""
        kept = self._left(self._base.of_kinds(kinds))
        return [*kept, *self._more.of_kinds(kinds)]

    def authors(self) -> frozenset[AuthorId]:
        """Return who made a record that the log holds."""
        lost = {self._base[key].record.author for key in self._gone}
        gone = {a for a in lost if not any(self._left(self._base.of_author(a)))}
        return (self._base.authors() - gone) | self._more.authors()

    def extended(self, fresh: Mapping[RecordId, SignedRecord]) -> "ChangedLog":
        """Return the log with records added at its end that it does not hold yet."""
        return ChangedLog(self._base, self._gone, self._more.extended(fresh))

    def without(self, gone: frozenset[RecordId]) -> "ChangedLog":
        """Return a log that lacks the records `gone`, in the same order."""
        lost = (key for key in gone if key in self._base)
        return ChangedLog(self._base, self._gone.union(lost), self._more.without(gone))

    def _left(self, signed: Iterable[SignedRecord]) -> Iterator[SignedRecord]:
        """Yield those that are not left out."""
        return (one for one in signed if one.record.id not in self._gone)


class Records(Mapping[RecordId, Record]):
    """The records of a log, without their signatures."""

    __slots__ = ("log",)

    def __init__(self, log: Log) -> None:
        self.log = log

    def __len__(self) -> int:
        """Return the number of records."""
        return len(self.log)

    def __getitem__(self, key: RecordId) -> Record:
        """Return the record with this id."""
        return self.log[key].record

    def __contains__(self, key: object) -> bool:
        """Tell whether the log holds the record with this id."""
        return key in self.log

    def __iter__(self) -> Iterator[RecordId]:
        """Yield the ids in the order of arrival."""
        return iter(self.log)

    def values(self) -> ValuesView[Record]:
        """Return the records, which are read one after the other, and not by name."""
        return _OnlyValues(self)

    def items(self) -> ItemsView[RecordId, Record]:
        """Return the records by id, read one after the other."""
        return _OnlyItems(self)


class _OnlyValues(ValuesView[Record]):
    _mapping: Records

    def __iter__(self) -> Iterator[Record]:
        return (one.record for one in self._mapping.log.since(0))


class _OnlyItems(ItemsView[RecordId, Record]):
    _mapping: Records

    def __iter__(self) -> Iterator[tuple[RecordId, Record]]:
        return ((one.record.id, one.record) for one in self._mapping.log.since(0))
