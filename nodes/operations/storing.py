"""The verbs about what is stored: show, collection, pins.

Owns what they answer. Does not own what is needed or goes (`nodes.upkeep`), nor the check
of all bytes (`examining`).
"""

from collections import Counter
from collections.abc import Iterable
from typing import Final

from crdtmerge.digest import ContentId
from crdtmerge.errors import NotFoundError

from ..store.holdings import Holding
from ..store.marks import Pin
from ..upkeep.collecting import GRACE_S, Survey, Swept, Verdict, survey, sweep
from ..upkeep.needs import Need, Needs, find_needs
from ..upkeep.sums import SpaceSums, drop, found_sums
from . import arguments as given
from .live import Answer, Arguments, Context, Tell
from .selection import SHORT, find_offered

LISTED_MAX: Final = 1000
"""Blobs that an answer names one by one."""
NOTE_CHARACTERS_MAX: Final = 200


def store_show(context: Context, _asked: Arguments, _tell: Tell) -> Answer:
    """Return how much lies in the store, in which form, and what for."""
    home = context.home
    holdings = home.blobs.holdings()
    needs = find_needs(home, context.spaces)
    since = home.marks.unneeded()
    forms = ("own", "referenced", "packed", "partial", "stale", "leftover")
    idle = [h for h in holdings if h.blob not in needs]
    return {
        **{form: _sum(h for h in holdings if h.form == form) for form in forms},
        "unneeded": {**_sum(idle), "marked": len(since)},
        "sums": _kept_sums(_sums_of(context, GRACE_S)),
        "pins": [_pin(context, needs, pin) for pin in home.marks.pins()],
        "unknown_manifests": len(needs.unknown),
        "free_bytes": home.blobs.free(),
        "quota_bytes": home.blobs.quota.limit,
        "notes": [],
    }


def store_quota(context: Context, asked: Arguments, _tell: Tell) -> Answer:
    """Set how many bytes the blobs may take, or end the limit: `bytes` of -1 does.

    What is there stays, whatever the limit.

    Raises:
        BadInputError: that is no number of bytes.
        MachineError: the disk refused.
    """
    limit = given.count(asked, "bytes", -1, least=-1)
    home = context.home
    home.blobs.quota.set(None if limit < 0 else limit)
    forms = ("own", "packed", "partial")
    taken = sum(h.stored for h in home.blobs.holdings() if h.form in forms)
    over = 0 <= limit < taken
    notes = ["more than that is here: it stays, and nothing new comes"] if over else []
    return {
        "quota_bytes": home.blobs.quota.limit,
        "stored_bytes": taken,
        "notes": notes,
    }


def _sum(holdings: Iterable[Holding]) -> Answer:
    """Return how many there are, how large they are, and what they take of our disk."""
    found = list(holdings)
    return {
        "count": len(found),
        "bytes": sum(h.size for h in found),
        "stored_bytes": sum(h.stored for h in found),
    }


def _pin(context: Context, needs: Needs, pin: Pin) -> Answer:
    need = Need("pin", pin.space, pin.content)
    blobs = [blob for blob in needs.reasons if need in needs.reasons[blob]]
    return {
        "space": pin.space.hex(),
        "content": pin.content.hex(),
        "note": pin.note,
        "blobs": len(blobs),
        "missing": len(context.home.blobs.missing(blobs)),
        "unknown": any(blob in needs.unknown for blob in blobs),
    }


def store_gc(context: Context, asked: Arguments, tell: Tell) -> Answer:
    """Remove what nothing has needed for the grace period, or say what would go.

    Raises:
        BadInputError: the grace is no number of seconds.
        MachineError: the disk refused.
    """
    grace = given.count(asked, "grace", GRACE_S, least=0)
    dry, now = given.flag(asked, "dry_run"), int(context.clock())
    home, spaces = context.home, context.spaces
    if dry:
        found = survey(home, spaces, now, grace, keep=False)
        swept = Swept(found, found.going(), "")
        return {
            **_collected(context, swept, grace, dry=True),
            "sums": _kept_sums(s for s in _sums_of(context, grace) if s.why),
        }
    done = 0

    def taken(holding: Holding) -> None:
        nonlocal done
        done += holding.stored
        tell({"work": "collecting", "done": done, "total": None})

    swept = sweep(home, spaces, now, grace, taken=taken)
    gone = [s for s in _sums_of(context, grace) if s.why and drop(s)]
    return {
        **_collected(context, swept, grace, dry=False),
        "sums": _kept_sums(gone),
    }


def _sums_of(context: Context, grace: int) -> list[SpaceSums]:
    """Return the kept sums of this home, by space."""
    spaces = context.spaces
    recipes = {space: spaces.view(space).recipe for space in spaces.all()}
    now = int(context.clock())
    return list(found_sums(context.home.path, recipes, now, grace))


def _kept_sums(sums: Iterable[SpaceSums]) -> Answer:
    found = list(sums)
    return {
        "count": sum(s.count for s in found),
        "bytes": sum(s.size for s in found),
        "spaces": [
            {"space": s.path.name, "count": s.count, "bytes": s.size, "why": s.why}
            for s in found
        ],
    }


def _collected(context: Context, swept: Swept, grace: int, *, dry: bool) -> Answer:
    found = swept.survey
    stays = [v for v in found.verdicts if v.fate != "goes"]
    notes = []
    if swept.in_the_way:
        notes.append(f"not everything went: {swept.in_the_way}; try again later")
    if found.needs.unknown:
        notes.append(
            "manifests that are not here, or damaged, of what is kept:"
            f" {len(found.needs.unknown)}; what these need is not known, so nothing goes"
            " before the default grace is over"
        )
    return {
        "dry_run": dry,
        "grace": grace,
        "count": len(swept.taken),
        "bytes": swept.bytes,
        "went": [_holding(h) for h in swept.taken[:LISTED_MAX]],
        "stays": [_staying(v) for v in stays[:LISTED_MAX]],
        "stays_count": len(stays),
        "stays_bytes": sum(v.holding.stored for v in stays),
        "needed": {
            "count": found.kept,
            "bytes": found.kept_bytes,
            "only": _only(found),
        },
        "pins": len(context.home.marks.pins()),
        "in_the_way": swept.in_the_way,
        "notes": notes,
    }


def _holding(holding: Holding) -> Answer:
    return {
        "blob": holding.blob.hex(),
        "form": holding.form,
        "bytes": holding.stored,
    }


def _staying(verdict: Verdict) -> Answer:
    """Return one that nothing needs and that stays: why, and until when."""
    return {**_holding(verdict.holding), "why": verdict.fate, "until": verdict.until}


def _only(found: Survey) -> Answer:
    """Return how many blobs stay for each reason that is the only one."""
    kinds: Counter[str] = Counter()
    for needs in found.needs.reasons.values():
        kinds.update({need.kind for need in needs} if len(needs) == 1 else ())
    return dict(sorted(kinds.items()))


def store_pin(context: Context, asked: Arguments, _tell: Tell) -> Answer:
    """Keep a contribution even when it is not in the merge any more.

    Raises:
        NotFoundError: no contribution has such an id.
        BadInputError: several fit, or the note is too long.
    """
    note = given.optional_text(asked, "note") or ""
    pin = _named(context, asked, note[:NOTE_CHARACTERS_MAX])
    context.home.marks.pin(pin)
    needs = find_needs(context.home, context.spaces)
    facts = _pin(context, needs, pin)
    missing = facts["missing"]
    notes = [f"blobs of it that are not here: {missing}"] if missing else []
    if facts["unknown"]:
        notes = ["its manifest is not here: how much of it is missing is not known"]
    return {**facts, "pinned": True, "notes": notes}


def store_unpin(context: Context, asked: Arguments, _tell: Tell) -> Answer:
    """Let a contribution go again, once nothing else needs it.

    Raises:
        NotFoundError: it was not pinned.
    """
    pin = _named(context, asked, "")
    if not context.home.marks.unpin(pin.space, pin.content):
        message = f"contribution {pin.content.hex()[:SHORT]} is not pinned"
        raise NotFoundError(message, hint="`crdtmerge store show` lists the pins")
    return {
        "space": pin.space.hex(),
        "content": pin.content.hex(),
        "pinned": False,
        "notes": [],
    }


def _named(context: Context, asked: Arguments, note: str) -> Pin:
    space = given.optional_text(asked, "space")
    found = find_offered(context.spaces, given.text(asked, "id"), space)
    return Pin(found.space, ContentId(found.id), note)
