"""Whether a record has effect now, and if not, why.

Owns the words. Does not own the rules, which this follows (`crdtmerge.policy`): what is
merged is decided there.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from crdtmerge.bodies import (
    Add,
    Approve,
    Ban,
    Epoch,
    Evaluation,
    Genesis,
    Grant,
    Lift,
    NodeAddress,
    RecipeChange,
    RecordId,
    Remove,
    Revoke,
    Successor,
    Unknown,
)
from crdtmerge.faults import Fault
from crdtmerge.forks import Fork
from crdtmerge.identity import AuthorId
from crdtmerge.orset import OpSet
from crdtmerge.policy import View
from crdtmerge.record import Record

from .standing import acts, bans_of, endings_of, revocations_of

IN_EFFECT: Final = ""


@dataclass(slots=True)
class States:
    """Whether each record of one set has effect."""

    opset: OpSet
    forgiven: frozenset[tuple[AuthorId, int]] = field(init=False)
    live: frozenset[RecordId] = field(init=False)
    hidden: frozenset[bytes] = field(init=False)
    counting: frozenset[RecordId] = field(init=False)
    last: Mapping[tuple[AuthorId, bytes], RecordId] = field(init=False)
    waiting: Mapping[RecordId, str] = field(init=False)

    def __post_init__(self) -> None:
        view = self.opset.view
        self.forgiven = frozenset(f.place for f in view.forks if f.lifted)
        self.live = frozenset(add for v in view.visible for add in v.adds)
        self.hidden = frozenset(
            ban.target for ban in view.bans.values() if ban.subject == "content"
        )
        self.counting = frozenset(one.record for one in view.evaluations)
        last: dict[tuple[AuthorId, bytes], Record] = {}
        for signed in self.opset.signed.of_kinds(frozenset({NodeAddress.KIND})):
            record = signed.record
            if isinstance(record.body, NodeAddress) and record.id in view.effective:
                place = record.author, record.body.node
                before = last.get(place)
                if not before or _age(record) > _age(before):
                    last[place] = record
        self.waiting = {
            act.record: f"waits: {len(act.signers)} of {act.needed} owners signed"
            for act in view.pending
        }
        self.last = {place: record.id for place, record in last.items()}

    @property
    def view(self) -> View:
        """What the set means now."""
        return self.opset.view

    def of(self, record: Record) -> str:
        """Return why `record` has no effect; empty if it has."""
        if isinstance(record.body, Fault):
            return IN_EFFECT  # it is a proof, whatever became of its author
        if isinstance(record.body, Fork):
            return "lifted" if record.body.place in self.forgiven else IN_EFFECT
        if record.id in self.opset.listing.epochs:
            return IN_EFFECT  # what it lists is gone, whatever became of its author
        if record.id not in self.view.effective:
            return self._shut_out(record)
        return _OF[type(record.body)](self, record, record.body)

    def _shut_out(self, record: Record) -> str:
        """Return why a record has no effect that was not accepted, or hangs on such."""
        opset, author = self.opset, record.author
        if record.id in self.waiting:
            return self.waiting[record.id]
        reasons = (
            (bans_of(opset, author), "its author is banned"),
            (revocations_of(opset, author), "its author was revoked"),
            (endings_of(opset, author), "the next key ended its author's"),
            (self._quarantined(record), "its author forked"),
        )
        last = "its grant has no effect"
        if isinstance(record.body, Successor):
            last = self._void_succession(record.body)
        return next((words for holds, words in reasons if holds), last)

    def _quarantined(self, record: Record) -> bool:
        cut = self.view.quarantined.get(record.author)
        return cut is not None and record.author_seq >= cut

    def add(self, record: Record, add: Add) -> str:
        """An add counts unless all of its content, or just this add, was taken out."""
        if record.id in self.live:
            return IN_EFFECT
        if add.content in self.view.faults:
            return "faulty"
        return "banned" if add.content in self.hidden else "removed"

    def remove(self, record: Record, remove: Remove) -> str:
        """A remove works on effective adds of its author, or of lower ranks."""
        records, ranks = self.opset.records, self.view.ranks
        for add in remove.adds:
            if add in self.view.effective:
                author = records[add].author
                own = author == record.author or self.view.follows(
                    record.author, author
                )
                if own or self.view.acting(record) > ranks[author]:
                    return IN_EFFECT
        return self.waiting.get(record.id, "nothing to remove")

    def recipe(self, record: Record, _body: RecipeChange) -> str:
        """Of several that none replaces, the lowest id serves."""
        heads = self.view.recipe_heads
        if record.id not in heads:
            return "replaced"
        return IN_EFFECT if record.id == heads[0] else "concurrent: another serves"

    def judgement(self, record: Record, body: Ban | Revoke) -> str:
        """A ban or revocation stands until it is lifted; of authors, on lower ranks."""
        key, view = record.id, self.view
        if key in view.endings:
            return IN_EFFECT
        if key not in view.bans and key not in view.revocations:
            return "lifted"
        if isinstance(body, Ban) and body.subject == "content":
            return IN_EFFECT
        target = AuthorId(body.target if isinstance(body, Ban) else body.author)
        if acts(self.opset, key, target):
            return IN_EFFECT
        return self.waiting.get(key, "not of lower rank")

    def lift(self, record: Record, body: Lift) -> str:
        """A lift works on what its author's rank, or one below, did; or on a fork."""
        view, target = self.view, body.target
        shown = self.opset.get(target)
        if shown and isinstance(shown.body, Fork):
            return IN_EFFECT if shown.body.place in self.forgiven else "nothing to lift"
        if target not in view.effective:
            return "nothing to lift"
        made = self.opset.records[target]
        if not isinstance(made.body, Ban | Revoke):
            return "nothing to lift"
        able = view.acting(record) >= view.acting(made) and target not in view.endings
        return IN_EFFECT if able else self.waiting.get(record.id, "nothing to lift")

    def approval(self, _record: Record, body: Approve) -> str:
        """An approval is one signature; what it signs may wait for more, or be missing."""
        if body.target not in self.opset:
            return "what it approves is not here"
        return self.waiting.get(body.target, IN_EFFECT)

    def epoch(self, record: Record, _body: Epoch) -> str:
        """A list counts once enough owners signed it."""
        return self.waiting.get(record.id, "too few owners signed it")

    def _void_succession(self, body: Successor) -> str:
        """Tell why a key does not follow the other."""
        if body.of in self.view.contested:
            return "contested: another branch names another key"
        others = self.view.identity(body.of)
        at = others.index(body.of) + 1
        if at < len(others) and others[at] != body.key:
            return "another key follows"
        return "its grant has no effect"

    def node(self, record: Record, body: NodeAddress) -> str:
        """Of one author and node the last word counts, while the author has rights."""
        if record.id != self.last.get((record.author, body.node)):
            return "said again since"
        authors = self.view.node_authors.get(body.node, ())
        return IN_EFFECT if record.author in authors else "it does not count now"

    def evaluation(self, record: Record, _body: Evaluation) -> str:
        """Of one author, subject, metric and data the last word counts."""
        return IN_EFFECT if record.id in self.counting else "said again since"


def _always(_states: States, _record: Record, _body: object) -> str:
    return IN_EFFECT


def _unknown(_states: States, _record: Record, _body: object) -> str:
    return "this version does not know the kind"


_OF: Final[dict[type, Callable[[States, Record, Any], str]]] = {
    Genesis: _always,
    Add: States.add,
    Remove: States.remove,
    RecipeChange: States.recipe,
    Grant: _always,
    Revoke: States.judgement,
    Ban: States.judgement,
    Lift: States.lift,
    Approve: States.approval,
    Successor: _always,
    NodeAddress: States.node,
    Epoch: States.epoch,
    Evaluation: States.evaluation,
    Unknown: _unknown,
}


def _age(record: Record) -> tuple[int, RecordId]:
    return record.author_seq, record.id
