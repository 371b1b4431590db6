"""Random histories of one space: several replicas, authors of all ranks, both modes.

Owns the Hypothesis strategies and the small interpreter that turns drawn numbers into
signed records. Authors speak at any replica with what that one knows, so they fork,
act on old news, backdate, and go on after they were banned. Does not own the laws.
"""

from dataclasses import dataclass
from typing import Final

from hypothesis import strategies as st

from crdtmerge.bodies import (
    Add,
    Ban,
    Body,
    Grant,
    Lift,
    NodeAddress,
    RecipeChange,
    RecordId,
    Remove,
    Revoke,
    SpaceId,
)
from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.forks import Fork
from crdtmerge.identity import SigningKey
from crdtmerge.orset import OpSet, forks_among
from crdtmerge.policy import NEEDED, Authority, Rank, given_by
from crdtmerge.recipe import Recipe
from crdtmerge.record import Record, SignedRecord
from tests.properties.cast import (
    AUTHORS,
    CONTENTS,
    CONTRIBUTORS,
    FAULTS,
    MAINTAINERS,
    OWNERS,
    READER,
    add_of,
    fork_of,
    genesis,
    grant_of,
    unknown,
    wire,
    write,
)

REPLICAS: Final = 3
ACTIONS: Final = (
    "add",
    "add",
    "add",
    "remove",
    "remove",
    "grant",
    "revoke",
    "ban content",
    "ban author",
    "lift",
    "fault",
    "fork",
    "recipe",
    "node",
    "unknown",
    "critical",
)
FORKING: Final = (*ACTIONS, "fork", "fork", "lift", "add", "grant")
"""The actions where forks have effect: more of them are shown, and lifted."""
CALM: Final = tuple(a for a in ACTIONS if a not in {"revoke", "ban author"})
"""The actions that take no author's rights away."""

Known = dict[RecordId, SignedRecord]


@dataclass(frozen=True)
class History:
    """What each replica knew at the end; the first knew nothing that all do not."""

    space: SpaceId
    known: tuple[Known, ...]

    @property
    def all(self) -> Known:
        """Every record that was written, anywhere."""
        return {i: signed for known in self.known for i, signed in known.items()}

    def opset(self, replica: int) -> OpSet:
        """Return a fresh set of what one replica knows, decoded from bytes again."""
        return self.set_of(self.known[replica])

    def union(self) -> OpSet:
        """Return a fresh set of all records."""
        return self.set_of(self.all)

    def set_of(self, known: Known) -> OpSet:
        """Return a fresh set of `known`, decoded from bytes again."""
        return OpSet(self.space).insert(wire(signed) for signed in known.values())


@dataclass(frozen=True)
class Step:
    """One drawn step: an author does something at a replica, or a replica syncs."""

    replica: int
    author: int
    action: str
    pick: int
    other: int


def step_of(actions: tuple[str, ...]) -> st.SearchStrategy[Step]:
    """Return the strategy of one step; small numbers first, so that they shrink."""
    small = st.integers(0, 11)
    return st.builds(
        Step,
        st.integers(0, REPLICAS - 1),
        st.integers(0, len(AUTHORS) - 1),
        st.sampled_from((*actions, "sync", "sync")),
        small,
        small,
    )


@st.composite
def histories(
    draw: st.DrawFn,
    actions: tuple[str, ...] = ACTIONS,
    most: int = 40,
    *,
    quarantine: bool = False,
) -> History:
    """Draw a space's mode and steps, and play them."""
    mode = draw(st.sampled_from(("members", "open")))
    # The length is drawn by itself: a plain list would have five steps on average.
    count = draw(st.integers(0, most))
    script = st.lists(step_of(actions), min_size=count, max_size=count)
    return play(mode, draw(script), quarantine=quarantine)


def play(mode: str, script: list[Step], *, quarantine: bool = False) -> History:
    """Return the history that `script` makes, from a space whose cast has its ranks."""
    first = genesis(mode, quarantine=quarantine)
    common: Known = {first.record.id: first}
    seats = [
        *((OWNERS[0], author, Rank.MAINTAINER) for author in MAINTAINERS),
        *((MAINTAINERS[0], author, Rank.CONTRIBUTOR) for author in CONTRIBUTORS),
        (OWNERS[1], READER, Rank.READER),
    ]
    for by, author, rank in seats:
        _keep(common, speak(common, by, grant_of(author, rank), 0, 0))
    replicas = tuple(dict(common) for _ in range(REPLICAS))
    for step in script:
        known = replicas[step.replica]
        if step.action == "sync":
            known |= replicas[(step.replica + 1 + step.other) % REPLICAS]
            continue
        author = AUTHORS[step.author]
        body = _body(known, author, step)
        if body is not None:
            critical = step.action == "critical"
            _keep(known, speak(known, author, body, step.pick, step.other, critical))
    return History(SpaceId(first.record.id), replicas)


def _keep(known: Known, signed: SignedRecord | None) -> None:
    if signed is not None:
        known[signed.record.id] = signed


def speak(
    known: Known,
    author: SigningKey,
    body: Body,
    pick: int,
    other: int,
    critical: bool = False,
) -> SignedRecord | None:
    """Return what `author` signs at a replica that knows `known`; None if it may not.

    `pick` chooses among the grants that suffice; at a high `other` the author follows an
    older record of its own than the last: a fork, or a backdated record.
    """

    def lookup(key: RecordId) -> Record | None:
        found = known.get(key)
        return found.record if found else None

    grants = [
        signed.record
        for signed in known.values()
        if (authority := given_by(signed.record, author.public, lookup))
        and authority.rank >= NEEDED[type(body)]
        and _within(authority, body)
    ]
    if not grants:
        return None
    mine = [s.record for s in known.values() if s.record.author == author.public]
    mine.sort(key=lambda record: (record.author_seq, record.id))
    back = max(0, other - 8)
    after = mine[max(0, len(mine) - 1 - back)] if mine else None
    auth = grants[pick % len(grants)]
    return write(author, auth, body, after=after, critical=critical)


def _within(authority: Authority, body: Body) -> bool:
    return not isinstance(body, Grant) or authority.covers(body)


def _body(known: Known, author: SigningKey, step: Step) -> Body | None:  # noqa: C901  one case an action
    """Return the body of a step, or None where there is nothing yet to act on."""
    target = AUTHORS[step.pick % len(AUTHORS)]
    content = CONTENTS[step.pick % len(CONTENTS)]
    match step.action:
        case "add":
            weight = (step.other % 5) * DECIMAL_UNIT // 4
            evidence = bytes([step.other]) * 32 if step.other % 3 == 2 else b""
            note = f"note {step.other}" if step.other % 2 else ""
            return add_of(content, weight=weight, evidence=evidence, note=note)
        case "remove":
            adds = _ids(known, Add)
            some = {a for n, a in enumerate(adds) if (n + step.pick) % 3 == 0}
            return Remove(tuple(sorted(some))) if some else None
        case "grant":
            cap = DECIMAL_UNIT * (1 + step.other % 2) // 2
            return grant_of(target, Rank(step.other % 3), cap=cap)
        case "revoke":
            theirs = [i for i in known if known[i].record.author == target.public]
            kept = theirs[step.other % 4 :: 4]
            return Revoke(target.public, tuple(sorted(kept)))
        case "ban content":
            return Ban("content", content)
        case "ban author":
            return Ban("author", target.public)
        case "lift":
            bans = _ids(known, Ban) + _ids(known, Revoke) + _ids(known, Fork)
            return Lift(bans[step.pick % len(bans)]) if bans else None
        case "fault":
            return FAULTS[step.pick % len(FAULTS)]
        case "fork":
            pairs = [p for ps in forks_among(known.values()).values() for p in ps]
            return fork_of(*pairs[step.pick % len(pairs)]) if pairs else None
        case "recipe":
            heads = _ids(known, RecipeChange)[step.other % 3 :]
            recipe = Recipe("linear/1", (("scale", str(step.pick)),))
            return RecipeChange(recipe, tuple(sorted(heads)))
        case "node":
            node = bytes([2 + step.other % 3]) * 32
            return NodeAddress(node, (f"host{step.pick}:{1 + step.other}",))
        case _:
            return unknown(f"kind{step.pick % 2}")


def _ids(known: Known, body: type) -> list[RecordId]:
    return sorted(
        i for i, signed in known.items() if isinstance(signed.record.body, body)
    )
