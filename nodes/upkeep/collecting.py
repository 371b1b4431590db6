"""Collection: blobs that nothing needs go, once that has been so for a while.

Owns the grace period, the order of deletion, and that a blob that came to be needed
meanwhile stays. Does not own what is needed (`needs`), nor files and rows (`store`).

A remove may be overtaken by a lift or a late add: what became unneeded waits, and the wait
begins when collection first sees it. While a contribution's manifest is not here nobody
knows what that one needs, so then nothing goes before the default grace is over.

Rows go before files: after a crash a file without a row counts as missing, and the next
collection finds it.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Final, Literal

from crdtmerge.digest import BlobId

from ..home import Home
from ..readers import alone, who_reads
from ..spaces import Spaces
from ..store.holdings import Holding
from ..store.removing import BLOB_FORMS
from .needs import Needs, find_needs, stamp

GRACE_S: Final = 7 * 24 * 3600
"""How long what nothing needs stays, where the user says nothing."""
BATCH: Final = 32
BATCH_BYTES: Final = 1 << 30
"""What goes at a time, at most, unless one blob alone is larger: peers and commands wait
meanwhile."""
SCRAP: Final = frozenset({"leftover", "stale"})
"""Forms of what a crash left: it goes at once, unless it is of use to a download."""
SURVEYS_MAX: Final = 8
"""How often a collection looks anew because the set changed meanwhile."""
CHANGED: Final = "the set keeps changing"

Fate = Literal["goes", "grace", "unknown"]
Taken = Callable[[Holding], None]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of one blob that nothing needs, and until when it stays if it does."""

    holding: Holding
    fate: Fate
    until: int = 0


@dataclass(frozen=True, slots=True)
class Survey:
    """What collection found at one moment."""

    needs: Needs
    verdicts: tuple[Verdict, ...]
    kept: int
    kept_bytes: int

    def going(self) -> list[Holding]:
        """Return what goes."""
        return [v.holding for v in self.verdicts if v.fate == "goes"]


@dataclass(frozen=True, slots=True)
class Swept:
    """What a collection did; `in_the_way` says who kept it from going on."""

    survey: Survey
    taken: list[Holding]
    in_the_way: str

    @property
    def bytes(self) -> int:
        """How many bytes of the disk became free."""
        return sum(holding.stored for holding in self.taken)


def survey(
    home: Home,
    spaces: Spaces,
    now: int,
    grace: int,
    *,
    keep: bool = True,
    breathe: Callable[[], object] = lambda: None,
) -> Survey:
    """Return what nothing needs, and what becomes of it at `now` (seconds of the system).

    With `keep`, it is remembered since when each of these is unneeded. What `breathe`
    raises, which is called again and again, ends it.

    Raises:
        MachineError: the store cannot be read or written.
    """
    # SUBTLE: what is there is listed first. A blob that comes afterwards is not judged by
    # needs that were found before it came.
    holdings = home.blobs.holdings()
    needs = find_needs(home, spaces, breathe)
    whole = {h.blob for h in holdings if h.form in BLOB_FORMS}
    stays = {h.blob for h in holdings if h.blob in needs}
    stays |= _bases_of(holdings, stays)
    # A file without a row whose blob is needed is found again when that is fetched.
    scrap = [
        Verdict(h, "goes")
        for h in holdings
        if h.form in SCRAP and (h.blob in whole or h.blob not in needs)
    ]
    idle = [h for h in holdings if h.blob not in stays and h.form not in SCRAP]
    since = home.marks.unneeded()
    began = {h.blob: min(since.get(h.blob, now), now) for h in idle}
    if keep:
        changed = {b: s for b, s in began.items() if since.get(b) != s}
        home.marks.mark(changed, since.keys() - began.keys())
    wait = max(grace, GRACE_S) if needs.unknown else grace
    verdicts = _judge(idle, began, now, grace, wait)
    kept = [h for h in holdings if h.blob in stays and h.form not in SCRAP]
    size = sum(h.stored for h in kept)
    return Survey(needs, (*verdicts, *scrap), len(kept), size)


def _judge(
    idle: Sequence[Holding],
    began: Mapping[BlobId, int],
    now: int,
    grace: int,
    wait: int,
) -> list[Verdict]:
    """Return what becomes of what nothing needs: what a packed one needs waits with it."""
    fates = {h.blob: _fate(h, began[h.blob], now, grace, wait) for h in idle}
    for verdict in list(fates.values()):
        if verdict.fate == "goes":
            continue
        for base in _bases_of(idle, {verdict.holding.blob}):
            if base in fates:
                until = max(verdict.until, fates[base].until)
                fates[base] = Verdict(fates[base].holding, "grace", until)
    return list(fates.values())


def _fate(holding: Holding, began: int, now: int, grace: int, wait: int) -> Verdict:
    """Return what becomes of what nothing needs since `began`."""
    if now - began >= wait:
        return Verdict(holding, "goes")
    unknown = now - began >= grace
    return Verdict(holding, "unknown" if unknown else "grace", began + wait)


def _bases_of(holdings: Iterable[Holding], some: set[BlobId]) -> set[BlobId]:
    """Return what the packed ones among `some` are encoded against, and so on."""
    against = {h.blob: h.against for h in holdings if h.against is not None}
    found: set[BlobId] = set()
    for blob in some:
        base = against.get(blob)
        while base is not None and base not in found:
            found.add(base)
            base = against.get(base)
    return found


def sweep(
    home: Home,
    spaces: Spaces,
    now: int,
    grace: int,
    *,
    most: int | None = None,
    taken: Taken = lambda _: None,
    breathe: Callable[[], object] = lambda: None,
) -> Swept:
    """Remove what nothing has needed for `grace` seconds, up to `most` blobs.

    Stops, and says why, when somebody is in the way; what is left goes the next time. What
    `breathe` raises ends the look at what is needed.

    Raises:
        MachineError: the disk refused.
    """
    gone: list[Holding] = []
    for _ in range(SURVEYS_MAX):
        found = survey(home, spaces, now, grace, breathe=breathe)
        left = None if most is None else most - len(gone)
        going = islice(found.going(), left)
        in_the_way = ""
        for dropped, in_the_way in _dropped(home, spaces, found.needs, going):  # noqa: B007
            gone.extend(dropped)
            for holding in dropped:
                taken(holding)
        if in_the_way != CHANGED:
            break
    if gone:
        spaces.look_again()
    return Swept(found, gone, in_the_way)


def _dropped(
    home: Home, spaces: Spaces, needs: Needs, going: Iterable[Holding]
) -> Iterator[tuple[list[Holding], str]]:
    """Yield what went, batch by batch, until somebody is in the way; that comes last."""
    for batch in _batches(going):
        with _gate(home, spaces, needs) as (in_the_way, held):
            free = [h for h in batch if not in_the_way and h.blob not in held]
            dropped = home.blobs.removal.drop(free)
            # what comes again later begins its wait anew
            home.marks.mark({}, {h.blob for h in dropped if h.form == "partial"})
        yield dropped, in_the_way
        if in_the_way:
            return


@contextmanager
def _gate(
    home: Home, spaces: Spaces, needs: Needs
) -> Iterator[tuple[str, frozenset[BlobId]]]:
    """Lend who is in the way, empty if nobody is, and what is held by name.

    SUBTLE: a commit takes the lock of the spaces, whoever uses a blob or brings one takes a
    lease, and readers in other processes share a lock. All three are held while the block
    runs, so what the survey found to be unneeded is still so, if the sets, the pins and the
    bases are those that it saw, and no manifest has come that it missed. A download that
    opens may hash for long, so that is waited for first.
    """
    blobs = home.blobs
    with (
        blobs.at_rest(),
        alone(home.path) as nobody,
        spaces.lock,
        blobs.leases.closed() as closed,
    ):
        in_the_way = ""
        if not nobody:
            in_the_way = _readers(home)
        elif closed.reasons:
            in_the_way = f"{', '.join(closed.reasons)} is under way"
        elif needs.stamp != stamp(home, spaces) or _came(home, needs, closed.held):
            in_the_way = CHANGED
        yield in_the_way, closed.held


def _came(home: Home, needs: Needs, held: frozenset[BlobId]) -> bool:
    """Tell whether a manifest that was missing has come, or is coming."""
    absent = needs.absent
    return bool(absent & held) or len(home.blobs.missing(absent)) < len(absent)


def _readers(home: Home) -> str:
    found = [str(pid) for pid in who_reads(home.path)]
    who = f" (process {', '.join(found)})" if found else ""
    return f"another command{who} reads this home"


def _batches(holdings: Iterable[Holding]) -> Iterator[Sequence[Holding]]:
    """Yield what goes in parts of a bounded number and size."""
    batch: list[Holding] = []
    size = 0
    for holding in holdings:
        if batch and (len(batch) >= BATCH or size + holding.stored > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(holding)
        size += holding.stored
    if batch:
        yield batch
