"""Random histories of one space: several replicas, authors of all ranks, both modes.

Owns the Hypothesis strategies and the small interpreter that turns drawn numbers into
signed records. Authors speak at any replica with what that one knows, so they fork,
act on old news, backdate, and go on after they were banned. Does not own the laws.
"""

from dataclasses import dataclass
from types import UnionType
from typing import Final

from hypothesis import strategies as st

from crdtmerge.bodies import (
    Add,
    Approve,
    Ban,
    Body,
    Epoch,
    Evaluation,
    Grant,
    Lift,
    Link,
    NodeAddress,
    RecipeChange,
    RecordId,
    Remove,
    Revoke,
    SpaceId,
    Successor,
    give_consent,
    runs_of,
)
from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.forks import Fork
from crdtmerge.identity import AuthorId, SigningKey
from crdtmerge.orset import OpSet, forks_among
from crdtmerge.policy import (
    MORTAL,
    NEEDED,
    Authority,
    Lookup,
    Rank,
    given_by,
    link_of,
)
from crdtmerge.recipe import Recipe
from crdtmerge.record import Record, SignedRecord
from tests.properties.cast import (
    AUTHORS,
    CONTENTS,
    CONTRIBUTORS,
    FAULTS,
    HEIRS,
    MAINTAINERS,
    OTTO,
    OWNERS,
    READER,
    THREE,
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
    "evaluation",
    "unknown",
    "critical",
)
FORKING: Final = (*ACTIONS, "fork", "fork", "lift", "add", "grant")
"""The actions where forks have effect: more of them are shown, and lifted."""
TOGETHER: Final = (
    *ACTIONS,
    *("approve",) * 8,
    *("successor",) * 5,
    *("claim", "judge owner", "claim", "judge owner", "lift", "grant"),
    *("end", "end", "end", "leave"),
)
"""The actions in spaces of several owners, whose members rotate their keys."""
COMPACTED: Final = (
    *("add", "node", "evaluation") * 4,
    *("remove", "take back", "recipe", "revoke") * 2,
    *("epoch",) * 5,
    *("ban author", "lift", "grant", "approve", "approve", "successor", "end", "leave"),
    *("fork", "fault", "judge owner"),
)
"""The actions in spaces that are compacted, by owners who list whatever they like."""
QUIET: Final = (
    *("add", "add", "take back", "recipe", "node", "evaluation") * 3,
    *("remove", "fault", "unknown", "ban content", "lift"),
)
"""The actions that change nobody's rights, so that what was removed stays so."""
OF_OWNERS: Final = frozenset({"approve", "claim", "judge owner", "epoch"})
"""Actions that only owners may do, or that mean nothing by others."""
PLAYERS: Final = (*AUTHORS, OTTO, *HEIRS)
CALM: Final = tuple(a for a in ACTIONS if a not in {"revoke", "ban author"})
"""The actions that take no author's rights away."""

Known = dict[RecordId, SignedRecord]


@dataclass(frozen=True, repr=False)
class History:
    """What each replica knew at the end; the first knew nothing that all do not."""

    space: SpaceId
    known: tuple[Known, ...]

    def __repr__(self) -> str:
        """Return kinds and numbers by replica: the bytes of records say little."""
        return repr([self._kinds(known) for known in self.known])

    @staticmethod
    def _kinds(known: Known) -> str:
        records = (signed.record for signed in known.values())
        return " ".join(
            f"{r.kind}:{r.author.hex()[:4]}:{r.author_seq}" for r in records
        )

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


def step_of(actions: tuple[str, ...], authors: int) -> st.SearchStrategy[Step]:
    """Return the strategy of one step; small numbers first, so that they shrink."""
    small = st.integers(0, max(11, authors - 1))
    return st.builds(
        Step,
        st.integers(0, REPLICAS - 1),
        st.integers(0, authors - 1),
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
    step = step_of(actions, len(AUTHORS))
    script = st.lists(step, min_size=count, max_size=count)
    return play(mode, draw(script), quarantine=quarantine)


@st.composite
def histories_together(
    draw: st.DrawFn, actions: tuple[str, ...] = TOGETHER, most: int = 50
) -> History:
    """Draw a history of a space that three own, whose members name successors."""
    mode = draw(st.sampled_from(("members", "members", "open")))
    threshold = draw(st.integers(1, 3))
    quarantine = draw(st.booleans())
    count = draw(st.integers(0, most))
    step = step_of(actions, len(PLAYERS))
    script = draw(st.lists(step, min_size=count, max_size=count))
    return play(
        mode,
        script,
        quarantine=quarantine,
        owners=THREE,
        threshold=threshold,
        players=PLAYERS,
    )


@st.composite
def histories_compacted(
    draw: st.DrawFn,
    actions: tuple[str, ...] = COMPACTED,
    most: int = 60,
    thresholds: tuple[int, ...] = (1, 1, 1, 2),
) -> History:
    """Draw a history of a space in which much is superseded: many act, few own."""
    mode = draw(st.sampled_from(("members", "members", "open")))
    threshold = draw(st.sampled_from(thresholds))
    quarantine = draw(st.booleans())
    count = draw(st.integers(most // 2, most))
    players = (*(*CONTRIBUTORS, *MAINTAINERS) * 3, *PLAYERS)
    step = step_of(actions, len(players))
    script = draw(st.lists(step, min_size=count, max_size=count))
    return play(
        mode,
        script,
        quarantine=quarantine,
        owners=THREE,
        threshold=threshold,
        players=players,
    )


def play(
    mode: str,
    script: list[Step],
    *,
    quarantine: bool = False,
    owners: tuple[SigningKey, ...] = OWNERS,
    threshold: int = 1,
    players: tuple[SigningKey, ...] = AUTHORS,
) -> History:
    """Return the history that `script` makes, from a space whose cast has its ranks."""
    first = genesis(mode, quarantine=quarantine, owners=owners, threshold=threshold)
    common: Known = {first.record.id: first}
    seats = [
        *((OWNERS[0], author, Rank.MAINTAINER) for author in MAINTAINERS),
        *((MAINTAINERS[0], author, Rank.CONTRIBUTOR) for author in CONTRIBUTORS),
        (OWNERS[1], READER, Rank.READER),
    ]
    for by, author, rank in seats:
        grant = speak(common, by, grant_of(author, rank), 0, 0)
        _keep(common, grant)
        if grant is not None and rank is Rank.MAINTAINER:
            for owner in owners[1:threshold]:
                _keep(common, speak(common, owner, Approve(grant.record.id), 0, 0))
    replicas = tuple(dict(common) for _ in range(REPLICAS))
    for step in script:
        known = replicas[step.replica]
        if step.action == "sync":
            known |= replicas[(step.replica + 1 + step.other) % REPLICAS]
            continue
        author = _chosen(known, step) or players[step.author]
        body = _body(known, author, step, players)
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
        and authority.rank >= _needed(signed.record, author, body, lookup)
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


def _needed(grant: Record, author: SigningKey, body: Body, lookup: Lookup) -> Rank:
    """Return the rank that `author` needs to say `body` under `grant`."""
    match body:
        case Successor(of=of) if of != author.public:
            return Rank.OWNER
        case Revoke(author=old):
            at: Record | None = grant
            while at is not None and isinstance(at.body, Successor):
                if at.body.of == old:
                    return Rank.READER
                at = lookup(RecordId(at.auth)) if at.author == at.body.of else None
        case _:
            pass
    return NEEDED[type(body)]


def _within(authority: Authority, body: Body) -> bool:
    if isinstance(body, Successor):
        return authority.records_max > 200
    return not isinstance(body, Grant) or authority.covers(body)


def _successor(known: Known, of: AuthorId, heir: SigningKey) -> Successor | None:
    if heir.public == of:
        return None
    space = next(iter(known.values())).record.space_id
    return Successor(of, heir.public, give_consent(heir, space, of))


def _chosen(known: Known, step: Step) -> SigningKey | None:
    """Return who is to act where few would by chance, or None.

    An owner for what takes several (else no council ever meets), or a key that follows
    another, to end that.
    """
    if step.action in OF_OWNERS and step.author % 4:
        return THREE[step.author % len(THREE)]
    if step.action != "end":
        return None
    bodies = (known[i].record.body for i in _ids(known, Successor))
    named = {body.key for body in bodies if isinstance(body, Successor)}
    followers = [heir for heir in HEIRS if heir.public in named]
    return followers[step.author % len(followers)] if followers else None


def _ending(known: Known, author: SigningKey, step: Step) -> Revoke | None:
    """Return how `author` ends a key before its own: with all of it, some or nothing."""
    bodies = (known[i].record.body for i in _ids(known, Successor))
    before = [
        body.of
        for body in bodies
        if isinstance(body, Successor) and body.key == author.public
    ]
    if not before:
        return None
    old = before[step.pick % len(before)]
    theirs = [i for i in known if known[i].record.author == old]
    return Revoke(old, tuple(sorted(theirs[step.other % 4 :: 4])))


def _body(  # noqa: C901  one case an action
    known: Known, author: SigningKey, step: Step, players: tuple[SigningKey, ...]
) -> Body | None:
    """Return the body of a step, or None where there is nothing yet to act on."""
    target = players[step.pick % len(players)]
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
        case "take back":
            own = [i for i in _ids(known, Add) if _is_by(known[i], author)]
            return Remove((own[step.pick % len(own)],)) if own else None
        case "grant":
            cap = DECIMAL_UNIT * (1 + step.other % 2) // 2
            return grant_of(target, Rank(step.other % 3), cap=cap)
        case "leave":
            return Revoke(author.public, ())
        case "revoke":
            if target is author:
                return None
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
        case "approve":
            acts = _approvable(known, author, step)
            # Few of them, so that several owners meet on one.
            return Approve(acts[:5][step.pick % len(acts[:5])]) if acts else None
        case "successor":
            return _successor(known, author.public, HEIRS[step.pick % len(HEIRS)])
        case "claim":
            of = THREE[step.other % len(THREE)].public
            return _successor(known, of, HEIRS[step.pick % len(HEIRS)])
        case "judge owner":
            of = THREE[step.pick % len(THREE)].public
            theirs = [i for i in known if known[i].record.author == of]
            left = tuple(sorted(theirs[step.other % 4 :: 4]))
            return Revoke(of, left) if step.other % 2 else Ban("author", of)
        case "end":
            return _ending(known, author, step)
        case "fault":
            return FAULTS[step.pick % len(FAULTS)]
        case "epoch":
            return _epoch(known, step)
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
        case "evaluation":
            subject = "model" if step.other % 5 == 4 else "content"
            data = f"set{step.other % 2}"
            return Evaluation(subject, content, "accuracy", data, step.other - 1)
        case _:
            return unknown(f"kind{step.pick % 2}")


def _epoch(known: Known, step: Step) -> Epoch | None:
    """Return a list of some records of any kind, of which some may be listed falsely."""
    listable = [key for key in sorted(known) if known[key].record.auth]
    mortal = [k for k in listable if isinstance(known[k].record.body, MORTAL)]
    ids = listable[step.pick :: 3] if step.pick % 4 == 3 else mortal[step.pick % 2 :]
    links = {key: link_of(known[key].record) for key in ids[:: 1 + step.other % 3]}
    for key in sorted(links)[step.pick % 2 :: 2] if step.other % 3 else ():
        links[key] = _false(links[key], known, step)
    return Epoch(runs_of(links.items())) if links else None


def _is_by(signed: SignedRecord, author: SigningKey) -> bool:
    return signed.record.author == author.public


def _false(link: Link, known: Known, step: Step) -> Link:
    """Return where a record did not stand: elsewhere in a chain, or in another's."""
    records = [known[k].record for k in sorted(known) if known[k].record.auth]
    other = records[(7 * step.pick + step.other) % len(records)]
    if step.pick % 3 == 0:
        return link_of(other)
    if step.pick % 3 == 1 and link.number:
        return link._replace(prev=other.id)
    return link._replace(author=other.author)


def _approvable(known: Known, author: SigningKey, step: Step) -> list[RecordId]:
    """Return the acts among which a step approves: often those that wait for `author`."""
    acts = _ids(known, Ban | Revoke | Grant | Lift | Successor | Remove | Epoch)
    if not step.other % 4:
        return acts
    said = {
        signed.record.body.target
        for signed in known.values()
        if signed.record.author == author.public
        and isinstance(signed.record.body, Approve)
    }
    return [
        act
        for act in acts
        if known[act].record.author != author.public
        and act not in said
        and (_is_council_act(known, act) or isinstance(known[act].record.body, Epoch))
    ]


def _is_council_act(known: Known, act: RecordId) -> bool:
    """Tell whether it takes several owners to do this, whatever the threshold."""
    of_owners = {owner.public for owner in THREE}
    match known[act].record.body:
        case Ban(target=key) | Revoke(author=key) | Successor(of=key):
            return key in of_owners and known[act].record.author != key
        case Lift(target=judgement) if judgement in known:
            return _is_council_act(known, judgement)
        case _:
            return False


def _ids(known: Known, body: type | UnionType) -> list[RecordId]:
    return sorted(
        i for i, signed in known.items() if isinstance(signed.record.body, body)
    )
