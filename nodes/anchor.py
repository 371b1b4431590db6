"""Whether this home goes on where it stopped, or is an older state of itself, or a copy.

Owns the file `anchor`, what the store remembers of it, and in which spaces this author may
not sign for now. Does not own the words for users (`operations`), nor when a peer has been
compared with (`runtime`).

A store that was restored from a backup, or copied, does not know what its author signed
since. To sign then means to use a number twice: a fork, which convicts its author for ever.
So before each record is signed, the number in the file is raised; the store remembers the
number, and where and when the system last changed the file (`Disk.stamp`). No copy has the
stamp, whichever tool made it, in place or not; and of a store and a file that do not belong
together the numbers differ. What is restored below the file system (a snapshot of a
machine or of a disk) is not seen here, but by the records that peers send back.

SUBTLE: the stamp is the time of the last change of the file's inode: no tool can set it,
but `chmod` or a hard link changes it too. Such a false alarm ends with the next peer; an
alarm that is missed would never end.
"""

import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Final

from crdtmerge.bodies import RecordId, SpaceId
from crdtmerge.codec import Value, decode, encode
from crdtmerge.digest import Domain, digest
from crdtmerge.errors import EncodingError, MachineError, RestoredError
from crdtmerge.identity import AuthorId, Purpose, Signer
from crdtmerge.sync.messages import GENERATION_BYTES

from .store.disk import Disk, explained, write_file
from .store.sqlite import SqliteLocal, SqliteRecords

ANCHOR_FILE: Final = "anchor"
NEW_ANCHOR_FILE: Final = "anchor.new"
ANCHOR_BYTES_MAX: Final = 64
DIGITS: Final = 20
"""As many as the number has, with zeros before it: it lies in one sector of the disk."""
NUMBER_MAX: Final = 2**63 - 1
VALUE_BYTES_MAX: Final = 16 << 20
_PLACE: Final = "anchor"
_DOUBTS: Final = "doubts"


class Doubt(IntEnum):
    """Why this author may not sign in a space."""

    RESTORED = 1
    """The home is an older state of itself, or a copy: a peer knows what was signed."""
    RETURNED = 2
    """A peer sent a record of ours that we do not remember: as above, not seen here."""
    COPIED = 3
    """That happened again after a comparison: another home signs as this author now."""


REASONS: Final = {
    Doubt.RESTORED: "this home was restored from a backup, or copied",
    Doubt.RETURNED: "a peer sent a record of this author that this home did not sign",
    Doubt.COPIED: "another home signs as this author while this one does",
}
COMPARE: Final = (
    "let the node run until it has compared with a peer of the space, `crdtmerge wait"
    " --converged` waits for that; if no peer is left, `crdtmerge store adopt`"
)
STOP_THE_OTHER: Final = (
    "stop the other one for good, for no two copies of a home may run; then"
    " `crdtmerge store adopt`"
)


@dataclass(frozen=True, slots=True)
class _Place:
    """What the store remembers: `next` is the number that may be on its way."""

    number: int
    stamp: str
    next: int

    def encode(self) -> bytes:
        return encode([self.number, self.stamp, self.next])


class Anchor:
    """The anchor of one home; safe for several threads."""

    def __init__(
        self,
        home: Path,
        local: SqliteLocal,
        records: SqliteRecords,
        disk: Disk,
        *,
        write: bool,
    ) -> None:
        """Look whether the home goes on where it stopped.

        With `write` (under the lock), a home that does not gets another generation, and
        its spaces are doubted from then on.

        Raises:
            MachineError: the disk refused, or what it holds is damaged.
        """
        self._home = home
        self._local = local
        self._records = records
        self._disk = disk
        self._write = write
        self._lock = threading.RLock()
        place = self._read_place()
        held = self._holds(place)
        while not held and place != (now := self._read_place()):
            place = now  # a reader saw a writer between two of its steps
            held = self._holds(place)
        self._doubts = self._read_doubts()
        if not held:
            self._doubt_all()
        if write and (place is None or not held or place.next != place.number):
            self._begin_anew(place)

    # --- doubts --------------------------------------------------------------------------

    def doubt(self, space: SpaceId) -> Doubt | None:
        """Return why this author may not sign in `space`; None if it may."""
        with self._lock:
            found = self._doubts.get(space)
        return None if found is None or found[1] else found[0]

    def doubted(self) -> list[SpaceId]:
        """Return the spaces in which this author may not sign, sorted."""
        with self._lock:
            return sorted(s for s, (_, over) in self._doubts.items() if not over)

    def require_sure(self, space: SpaceId) -> None:
        """Refuse to sign in a doubted space.

        Raises:
            RestoredError: it is doubted.
        """
        doubt = self.doubt(space)
        if doubt is None:
            return
        hint = STOP_THE_OTHER if doubt is Doubt.COPIED else COMPARE
        message = f"{REASONS[doubt]}: what it signed since may be unknown here"
        raise RestoredError(message, hint=hint)

    def returned(self, space: SpaceId, record: RecordId) -> Doubt:
        """Take note of a record of this author that came from elsewhere; return the doubt.

        Once may be an older state of this home. Again, after a comparison, is a copy that
        runs. Either way this is not the life of the store that peers know.
        """
        with self._lock:
            doubt, over = self._doubts.get(space, (Doubt.RESTORED, True))
            if not over:
                return doubt
            again = doubt is not Doubt.RESTORED
            doubt = Doubt.COPIED if again else Doubt.RETURNED
            self._set({**self._doubts, space: (doubt, False)})
            self._records.renew(self._generation(record))
            return doubt

    def compared(self, space: SpaceId) -> bool:
        """End the doubt, as a peer's set equals ours; tell whether there was one.

        A copy that runs is not ended by that: only the user knows which one to keep.
        """
        with self._lock:
            found = self._doubts.get(space)
            if found is None or found[1] or found[0] is Doubt.COPIED:
                return False
            self._set({**self._doubts, space: (found[0], True)})
            return True

    def adopt(self) -> list[SpaceId]:
        """End every doubt, as the user says; return the spaces that were doubted."""
        with self._lock:
            ended = self.doubted()
            self._set({})
            return ended

    def _doubt_all(self) -> None:
        """Doubt every space; a copy that runs is not forgotten by that."""
        kept = {s: d for s, d in self._doubts.items() if d[0] is Doubt.COPIED}
        doubts = dict.fromkeys(self._records.spaces(), (Doubt.RESTORED, False)) | kept
        if not self._write:
            self._doubts = doubts
            return
        self._set(doubts)
        self._records.renew(self._generation((self._stamp() or "").encode()))

    def _generation(self, cause: bytes) -> bytes:
        """Return the id of the life that begins: another one for every copy.

        SUBTLE: no entropy is needed. It must differ from the one before, and among copies;
        what makes this one a copy, its stamp or the record that came back, no other has.
        """
        data = digest(Domain.GENERATION, self._records.generation + cause)
        return data[:GENERATION_BYTES]

    def _set(self, doubts: dict[SpaceId, tuple[Doubt, bool]]) -> None:
        value: list[Value] = [
            [space, int(doubt), int(over)]
            for space, (doubt, over) in sorted(doubts.items())
        ]
        self._local.set_value(_DOUBTS, encode(value))
        self._doubts = doubts

    def _read_doubts(self) -> dict[SpaceId, tuple[Doubt, bool]]:
        found: dict[SpaceId, tuple[Doubt, bool]] = {}
        for item in self._value(_DOUBTS) or ():
            match item:
                case [bytes(space), int(doubt), int(over)] if doubt in set(Doubt):
                    found[SpaceId(space)] = (Doubt(doubt), bool(over))
                case _:
                    raise self._damaged()
        return found

    # --- the place -----------------------------------------------------------------------

    def raise_for(self, space: SpaceId) -> None:
        """Make ready to sign in `space`: no state from before this may sign any more.

        A crash at any step leaves what `_holds` knows as ours.

        Raises:
            RestoredError: the space is doubted.
            MachineError: the disk refused; nothing may be signed.
        """
        with self._lock:
            self.require_sure(space)
            place = self._read_place()
            if place is None:
                raise self._damaged()
            number = place.number + 1
            self._keep(_Place(place.number, place.stamp, number))
            self._put(number)
            self._keep(_Place(number, self._stamp() or "", number))

    def _begin_anew(self, place: _Place | None) -> None:
        """Take root where the home lies now; what is doubted was written down before."""
        number = max(place.next if place else 0, self._number() or 0) + 1
        self._keep(_Place(0, "", number))
        self._put(number)
        self._keep(_Place(number, self._stamp() or "", number))

    def _holds(self, place: _Place | None) -> bool:
        """Tell whether the file is the one that the store remembers."""
        number = self._number()
        if place is None:
            return number is None  # a store from before there were anchors
        if place.next != place.number:
            # A crash came in between: what was written last, and when, is not known.
            first = place.number == 0 and number is None
            return first or number in {place.number, place.next}
        return number == place.number and self._stamp() == place.stamp

    def _put(self, number: int) -> None:
        """Write the number, in place if there is one: a torn one is but an alarm."""
        path, new = self._home / ANCHOR_FILE, self._home / NEW_ANCHOR_FILE
        text = f"{number:0{DIGITS}}\n".encode()
        with explained(f"writing {path}"):
            if not self._disk.exists(path):
                self._disk.remove(new)
                write_file(self._disk, new, text)
                self._disk.rename(new, path)
                self._disk.sync_folder(self._home)
            with self._disk.open(path, write=True) as file:
                file.write_at(0, text)
                file.truncate(len(text))
                file.sync()

    def _number(self) -> int | None:
        path = self._home / ANCHOR_FILE
        with explained(f"reading {path}"):
            if not self._disk.exists(path):
                return None
            with self._disk.open(path) as file:
                text = file.read_at(0, ANCHOR_BYTES_MAX).strip()
        number = int(text) if text.isdigit() else -1
        return number if number < NUMBER_MAX else -1

    def _stamp(self) -> str | None:
        path = self._home / ANCHOR_FILE
        with explained(f"reading {path}"):
            return self._disk.stamp(path) if self._disk.exists(path) else None

    def _keep(self, place: _Place) -> None:
        self._local.set_value(_PLACE, place.encode())

    def _read_place(self) -> _Place | None:
        match self._value(_PLACE):
            case None:
                return None
            case [int(number), str(stamp), int(following)] if (
                0 <= number <= NUMBER_MAX and 0 <= following < NUMBER_MAX
            ):
                return _Place(number, stamp, following)
            case _:
                raise self._damaged()

    def _value(self, key: str) -> "list[Value] | None":
        data = self._local.get_value(key)
        try:
            value = None if data is None else decode(data, VALUE_BYTES_MAX)
        except EncodingError as e:
            raise self._damaged() from e
        if value is None or isinstance(value, list):
            return value
        raise self._damaged()

    def _damaged(self) -> MachineError:
        return MachineError(f"the store of {self._home} is damaged: its anchor")


@dataclass(slots=True)
class SpaceSigner:
    """The author of a home as it signs in one space: never in a state that is doubted."""

    key: Signer
    anchor: Anchor
    space: SpaceId
    _raised: bool = False

    @property
    def public(self) -> AuthorId:
        """The author."""
        return self.key.public

    def sign(self, purpose: Purpose, message: bytes) -> bytes:
        """Return the signature; the first of several raises the anchor.

        Raises:
            RestoredError: the space is doubted.
            MachineError: the disk refused.
        """
        if purpose is Purpose.RECORD:
            if not self._raised:
                self.anchor.raise_for(self.space)
                self._raised = True
            self.anchor.require_sure(self.space)
        return self.key.sign(purpose, message)


def forked(numbers: Iterable[int]) -> list[int]:
    """Return the numbers that several records of one author have, sorted."""
    return sorted(n for n, count in Counter(numbers).items() if count > 1)
