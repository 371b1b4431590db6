"""The verb `space grant`: giving an author a rank with limits.

Owns the defaults of limits, and what is said when there is nothing to give. Does not own
what a rank may do (`policy`), nor tickets (`membership`): they open the door, and make a
contributor. Taking rights away is `revoking`.
"""

from dataclasses import dataclass, replace
from typing import Final

from crdtmerge.bodies import RecordId, SpaceId
from crdtmerge.codec import format_decimal
from crdtmerge.digest import BLOB_BYTES_MAX
from crdtmerge.errors import (
    BadInputError,
    ConflictError,
    NotAllowedError,
)
from crdtmerge.identity import AuthorId, is_weak
from crdtmerge.policy import (
    BYTES_MAX_DEFAULT,
    RECORDS_MAX_DEFAULT,
    WEIGHT_CAP_DEFAULT,
    Authority,
    Rank,
)
from crdtmerge.record import SignedRecord
from crdtmerge.replica import Replica, best_grant
from crdtmerge.sizes import size_of

from . import arguments as given
from .approving import is_pending, notes_on
from .live import Answer, Arguments, Context, Tell
from .publishing import publish, replica
from .selection import (
    SHORT,
    authors_of,
    choose_space,
    find_grantee,
)
from .standing import bans_of

RANKS: Final = ("reader", "contributor", "maintainer")
HELD_ALREADY: Final = "that author has these rights already"
NEW_HERE: Final = (
    "this author is new to the space: compare the whole key with its owner"
)


@dataclass(frozen=True, slots=True)
class _Asked:
    """A grant as the user wants it; None leaves a limit to the default."""

    author: AuthorId
    rank: Rank
    weight_cap: int | None
    records_max: int | None
    bytes_max: int | None

    def limited_by(self, mine: Authority, held: Authority | None) -> Authority:
        """Return what is granted: what is left out is the default, within one's own.

        A limit that the author has is not lowered, as far as one's own limits reach: its
        older grant holds in any case.
        """
        default = Authority(
            self.rank,
            min(WEIGHT_CAP_DEFAULT, mine.weight_cap),
            min(RECORDS_MAX_DEFAULT, mine.records_max),
            min(BYTES_MAX_DEFAULT, mine.bytes_max),
        )
        held = held if held and held.rank == self.rank else None
        least = held or replace(default, weight_cap=0, records_max=0, bytes_max=0)
        weight_cap = _either(self.weight_cap, default.weight_cap)
        records_max = _either(self.records_max, default.records_max)
        bytes_max = _either(self.bytes_max, default.bytes_max)
        return Authority(
            self.rank,
            max(min(least.weight_cap, mine.weight_cap), weight_cap),
            max(min(least.records_max, mine.records_max), records_max),
            max(min(least.bytes_max, mine.bytes_max), bytes_max),
        )


def _either(asked: int | None, default: int) -> int:
    return default if asked is None else asked


def space_grant(context: Context, asked: Arguments, _tell: Tell) -> Answer:
    """Give an author a rank with limits; a grant only ever raises.

    Raises:
        BadInputError: the key, the rank or a limit cannot be used.
        ConflictError: the author has a higher rank.
        NotAllowedError: it is oneself, more than one's own, or to who was shut out.
        NotFoundError: no known author has such an id.
    """
    space = choose_space(context.spaces, given.optional_text(asked, "space"))
    wanted = _wanted(context, space, asked)
    with context.spaces.lock:
        current = replica(context, space)
        known = wanted.author in authors_of(current.opset)
        _, mine = current.authority(Rank.MAINTAINER)
        held = _held(current, wanted)
        granted = wanted.limited_by(mine, held[1] if held else None)
        record = (
            held[0]
            if held and held[1] == granted
            else publish(context, space, lambda r: _grant(r, wanted, granted))
        )
    new = held is None or record != held[0]
    return {
        "space": space.hex(),
        "author": wanted.author.hex(),
        "record": record.hex(),
        "new": new,
        **authority_facts(granted),
        "pending": is_pending(context.spaces.view(space), record),
        "notes": [
            *_grant_remarks(new=new, known=known),
            *notes_on(context.spaces.view(space), record),
        ],
    }


def _wanted(context: Context, space: SpaceId, asked: Arguments) -> _Asked:
    author = find_grantee(context.spaces.opset(space), given.text(asked, "author"))
    rank = given.text(asked, "rank").lower()
    if rank not in RANKS:
        hint = f"ranks are {', '.join(RANKS)}; an owner is one from the start"
        raise BadInputError(f"{rank!r} is no rank that can be granted", hint=hint)
    if author == context.key.public:
        raise NotAllowedError("you cannot grant yourself a rank")
    if is_weak(author):
        message = f"anybody could sign with the key {author.hex()[:SHORT]}"
        raise BadInputError(message, hint="`crdtmerge whoami` prints an author's key")
    return _Asked(
        author,
        Rank[rank.upper()],
        _weight(given.optional_text(asked, "weight_cap")),
        _records(given.optional_text(asked, "records")),
        _bytes(given.optional_text(asked, "bytes")),
    )


def _weight(text: str | None) -> int | None:
    from crdtmerge.strategies import parse_weight

    if text is None:
        return None
    try:
        return parse_weight(text)
    except BadInputError as e:
        message = f"the weight cap {text!r} is no decimal from 0 to 1000"
        raise BadInputError(message) from e


def _records(text: str | None) -> int | None:
    if text is None:
        return None
    if text.isascii() and text.isdigit() and 0 < int(text) < 1 << 63:
        return int(text)
    message = f"{text!r} is no number of records"
    raise BadInputError(message, hint="give a whole number above 0")


def _bytes(text: str | None) -> int | None:
    """Return a size such as 500MB (thousands) or 20GiB (1024s) in bytes."""
    if text is None:
        return None
    size = size_of(text)
    if not 0 < size <= BLOB_BYTES_MAX:
        message = f"{text!r} is not above 0 and at most {BLOB_BYTES_MAX} bytes"
        raise BadInputError(message)
    return size


def _held(current: Replica, wanted: _Asked) -> tuple[RecordId, Authority] | None:
    """Return the grant that the author acts under now, and what it gives.

    Raises:
        NotAllowedError: the author was banned or revoked: a grant would be in vain.
        ConflictError: its rank is higher: a grant does not lower it.
    """
    view, short = current.opset.view, wanted.author.hex()[:SHORT]
    if bans_of(current.opset, wanted.author):
        hint = f"`crdtmerge ban --lift {short}` first"
        raise NotAllowedError(f"author {short} is banned", hint=hint)
    if any(end.author == wanted.author for end in view.endings.values()):
        last = view.identity(wanted.author)[-1]
        follows = last not in view.rightless
        hint = f"grant it to {last.hex()}" if follows else "ask for another key of it"
        raise NotAllowedError(f"its author ended the key {short} for good", hint=hint)
    if wanted.author in view.rightless:
        hint = f"`crdtmerge space revoke --lift {short}` first"
        raise NotAllowedError(f"the rights of author {short} were revoked", hint=hint)
    best = best_grant(current.opset, wanted.author)
    if best is not None and best[1].rank > wanted.rank:
        message = f"author {short} is {best[1].rank.name.lower()} already"
        hint = "a grant only raises; `crdtmerge space revoke` takes rights away"
        raise ConflictError(message, hint=hint)
    return best


def _grant(current: Replica, wanted: _Asked, granted: Authority) -> SignedRecord:
    return current.grant(
        wanted.author,
        granted.rank,
        weight_cap=granted.weight_cap,
        records_max=granted.records_max,
        bytes_max=granted.bytes_max,
    )


def _grant_remarks(*, new: bool, known: bool) -> list[str]:
    if not new:
        return [HELD_ALREADY]
    return [] if known else [NEW_HERE]


def authority_facts(authority: Authority) -> Answer:
    """Return a rank with its limits as JSON."""
    return {
        "rank": authority.rank.name.lower(),
        "weight_cap": format_decimal(authority.weight_cap),
        "records_max": authority.records_max,
        "bytes_max": authority.bytes_max,
    }
