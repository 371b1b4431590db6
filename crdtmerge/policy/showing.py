"""What effective records show, found by what came since, and by who stands otherwise.

Owns the indexes that this takes: the adds of each content, and the removes of each add.
Does not own what an element is (`elements`), nor who stands how (`rights`). Every value
stays what it was: the maps share what did not change.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Final

from immutables import Map

from crdtmerge.bodies import Add, Grant, RecordId, Remove, Successor, Unknown
from crdtmerge.digest import ContentId
from crdtmerge.faults import Fault
from crdtmerge.identity import AuthorId
from crdtmerge.policy.elements import banned_by, cap_of, element, may_remove
from crdtmerge.policy.rights import Rights
from crdtmerge.policy.standing import Standing
from crdtmerge.policy.view import Shown, Visible
from crdtmerge.record import Record, SignedRecord
from crdtmerge.trie import Trie

PAGE: Final = 1 << 14
"""Records that are gone through at once: so many of the first walk lie in memory."""

Ids = tuple[RecordId, ...]


@dataclass(frozen=True, slots=True)
class Showing:
    """What the first `count` records show, by who stands how in `rights`; a value."""

    rights: Rights
    count: int = 0
    shown: Shown = field(default_factory=lambda: Shown(Map(), Trie(), {}, ()))
    hidden: Map[ContentId, Ids] = field(default_factory=Map)
    """The adds of each content that are not live: removed, or without effect."""
    removes: Map[RecordId, Ids] = field(default_factory=Map)
    """By what they name, the removes."""
    unknown: Ids = ()
    """The critical records of unknown kinds."""

    @property
    def elements(self) -> Map[ContentId, Visible]:
        """What is visible, as a map that shares what does not change."""
        assert isinstance(self.shown.elements, Map)
        return self.shown.elements

    def advanced(self, rights: Rights, most: int | None = None) -> "Showing":
        """Return what all records of the log of `rights` show.

        Or what the first of them show, at most `most` more of them than in this value.
        """
        before = self.rights.standing
        now = replace(self, rights=rights)
        if rights.standing is not before and self.count:
            now = _Step(now).judged_again(before)
        fresh = islice(rights.log.since(now.count), most)
        while page := list(islice(fresh, PAGE)):
            now = _Step(now).joined(page)
        return now


@dataclass(slots=True)
class _Step:
    """One step from a value to the next: what is to be looked at again."""

    at: Showing
    dirty: set[ContentId] = field(default_factory=set)
    came: dict[RecordId, Record] = field(default_factory=dict)
    adds: dict[ContentId, list[RecordId]] = field(default_factory=dict)
    removes: dict[RecordId, list[RecordId]] = field(default_factory=dict)
    faults: dict[ContentId, RecordId] = field(default_factory=dict)
    unknown: list[RecordId] = field(default_factory=list)
    caps: dict[tuple[bytes, AuthorId], int] = field(default_factory=dict)

    def joined(self, page: Iterable[SignedRecord]) -> Showing:
        """Return what is shown once these records joined."""
        for signed in page:
            self._take(signed.record)
        for target in self.removes:
            self._touch(target)
        return self._made(len(self.came), again=False)

    def judged_again(self, before: Standing) -> Showing:
        """Return what is shown now that somebody stands otherwise than `before`."""
        log, after = self.at.rights.log, self.at.rights.standing
        self.dirty.update(map(ContentId, banned_by(before) ^ banned_by(after)))
        for author in sorted(_otherwise(before, after)):
            for signed in log.of_author(author):
                self._look_at(signed.record)
        for act, _ in before.acts.items() ^ after.acts.items():
            record = self._find(act)
            if record is not None:
                self._look_at(record)
        return self._made(0, again=True)

    def _take(self, record: Record) -> None:
        """Note what came, and what it is about."""
        self.came[record.id] = record
        match record.body:
            case Add(content=content):
                self.adds.setdefault(content, []).append(record.id)
                self.dirty.add(content)
            case Remove(adds=adds):
                for add in adds:
                    self.removes.setdefault(add, []).append(record.id)
            case Fault(content=content):
                known = self.at.shown.faults.get(content, record.id)
                known = min(known, self.faults.get(content, record.id), record.id)
                self.faults[content] = known
                self.dirty.add(content)
            case Unknown() if record.critical:
                self.unknown.append(record.id)
            case _:
                pass

    def _look_at(self, record: Record) -> None:
        """Note that what a record says may count otherwise than before."""
        match record.body:
            case Add(content=content):
                self.dirty.add(content)
            case Remove(adds=adds):
                for add in adds:
                    self._touch(add)
            case _:
                pass

    def _touch(self, add: RecordId) -> None:
        found = self._find(add)
        if found is not None and isinstance(found.body, Add):
            self.dirty.add(found.body.content)

    def _find(self, key: RecordId) -> Record | None:
        """Return a record of the log, if it came until now."""
        known = self.came.get(key)
        if known is None:
            signed = self.at.rights.log.get(key)
            known = signed.record if signed else None
        return known

    def _made(self, came: int, *, again: bool) -> Showing:
        """Return the next value, with all that is dirty made again."""
        at, shown = self.at, self.at.shown
        removes = _with_more(at.removes, self.removes)
        faults = {**shown.faults, **self.faults} if self.faults else shown.faults
        without = banned_by(at.rights.standing) | faults.keys()
        old: list[bytes] = []
        new: list[bytes] = []
        elements, hidden = at.elements.mutate(), at.hidden.mutate()
        for content in sorted(self.dirty):
            before: Visible | None = elements.pop(content, None)
            known = before.adds if before else ()
            adds = {*known, *hidden.pop(content, ()), *self.adds.get(content, ())}
            live = [] if content in without else self._live(sorted(adds), removes)
            if before is not None:
                old.append(before.leaf)
            if live:
                caps = [cap_of(at.rights.standing, add, self.caps) for add in live]
                after = elements[content] = element(content, live, caps)
                new.append(after.leaf)
            if left := adds.difference(add.id for add in live):
                hidden[content] = tuple(sorted(left))
        made = elements.finish()
        unknown = (*at.unknown, *self.unknown)
        return Showing(
            rights=at.rights,
            count=at.count + came,
            shown=Shown(
                elements=made,
                trie=_moved(shown.trie, set(old), set(new)),
                faults=faults,
                unknown_critical=self._kinds(unknown)
                if again
                else self._kinds(self.unknown, shown.unknown_critical),
                changes=shown.changes.extended(self.dirty, len(made)),
            ),
            hidden=hidden.finish(),
            removes=removes,
            unknown=unknown,
        )

    def _live(
        self, adds: Iterable[RecordId], removes: Mapping[RecordId, Ids]
    ) -> list[Record]:
        """Return those adds that take effect, and that no effective remove takes out."""
        rights, live = self.at.rights, list[Record]()
        for add in self._here(adds):
            if rights.lets(add) and not any(
                rights.lets(remove) and may_remove(rights.standing, remove, add)
                for remove in self._here(removes.get(add.id, ()))
            ):
                live.append(add)
        return live

    def _here(self, keys: Iterable[RecordId]) -> Iterator[Record]:
        """Yield the records of these ids.

        SUBTLE: all of them were in the log. But a store drops what an owner listed as dead,
        and somebody may still be reading a log of before: they are passed over.
        """
        return (found for key in keys if (found := self._find(key)) is not None)

    def _kinds(
        self, unknown: Iterable[RecordId], known: Iterable[str] = ()
    ) -> tuple[str, ...]:
        effective = filter(self.at.rights.lets, self._here(unknown))
        return tuple(sorted({*known, *(record.kind for record in effective)}))


def _with_more(
    removes: Map[RecordId, Ids], more: Mapping[RecordId, list[RecordId]]
) -> Map[RecordId, Ids]:
    if not more:
        return removes
    grown = removes.mutate()
    for add, came in more.items():
        grown[add] = (*grown.get(add, ()), *came)
    return grown.finish()


def _moved(trie: Trie, old: set[bytes], new: set[bytes]) -> Trie:
    """Return the trie with leaves that went, and others that came."""
    return trie.delete(sorted(old - new)).insert(new - old)


def _otherwise(before: Standing, after: Standing) -> set[AuthorId]:
    """Return the authors of whom records may count otherwise than before.

    SUBTLE: also those who keep their rank, and hang records on a grant that lost or got
    its effect: it may have been one of several.
    """
    found: set[AuthorId] = {
        author
        for author in before.ranks.keys() | after.ranks.keys()
        if before.ranks.get(author) != after.ranks.get(author)
        or before.chains.get(author) != after.chains.get(author)
        or before.kept.get(author) != after.kept.get(author)
    }
    for key in before.effective.keys() ^ after.effective.keys():
        match (before.effective.get(key) or after.effective[key]).body:
            case Grant(author=author) | Successor(key=author):
                found.add(author)
            case _:
                pass
    return found
