"""One space as one author sees it: what the author says becomes signed records.

Owns the choice of `auth`, `author_seq` and `prev`, and the early refusal of what would
have no effect. Does not own storage: each verb returns a signed record, and the caller
persists it before it joins it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from crdtmerge.bodies import (
    Add,
    Approve,
    Ban,
    Body,
    Epoch,
    Evaluation,
    Genesis,
    Grant,
    Lift,
    Link,
    NodeAddress,
    RecipeChange,
    RecordId,
    Remove,
    Revoke,
    Successor,
    check_consent,
)
from crdtmerge.digest import ContentId
from crdtmerge.errors import NotAllowedError, NotFoundError
from crdtmerge.faults import Fault, check_fault
from crdtmerge.forks import Fork, check_fork
from crdtmerge.identity import AuthorId, Signer
from crdtmerge.manifest import Manifest
from crdtmerge.orset import OpSet
from crdtmerge.policy import (
    BYTES_MAX_DEFAULT,
    NEEDED,
    RECORDS_MAX_DEFAULT,
    WEIGHT_CAP_DEFAULT,
    Authority,
    Rank,
    council_of_owners,
    given_by,
    handed_on,
)
from crdtmerge.recipe import Recipe
from crdtmerge.record import Record, SignedRecord, make_record, sign_record

GIVING: Final = frozenset({Genesis.KIND, Grant.KIND, Successor.KIND})
"""The kinds of records that give somebody a right."""


def found_space(
    key: Signer,
    *,
    name: str,
    mode: str,
    base: ContentId,
    nonce: bytes,
    owners: Iterable[AuthorId] = (),
    threshold: int = 1,
    quarantine: bool = False,
) -> SignedRecord:
    """Return the genesis of a new space owned by `key`; `nonce` makes its id unique.

    `owners` own it too; `threshold` of them sign what an owner does. With `quarantine` a
    proven fork takes the rights of its author.

    Raises:
        MalformedRecordError: the threshold is not 1 to all owners.
    """
    keys = tuple(sorted({key.public, *owners}))
    body = Genesis(name, mode, base, keys, nonce, threshold, quarantine)
    record = make_record(
        space=b"", author=key.public, author_seq=0, prev=b"", auth=b"", body=body
    )
    return sign_record(record, key)


def best_grant(opset: OpSet, author: AuthorId) -> tuple[RecordId, Authority] | None:
    """Return the effective grant that gives `author` most, and what it gives.

    By rank, then by weight, bytes and records: a later grant with higher limits is the
    one that counts, whatever its id. None if no grant has effect.
    """
    effective = opset.view.effective
    given = [
        (signed.record.id, authority)
        for signed in opset.signed.of_kinds(GIVING)
        if (authority := given_by(signed.record, author, opset.get))
        and signed.record.id in effective
    ]
    return max(given, key=lambda pair: (pair[1].measure, pair[0]), default=None)


def named_successor(opset: OpSet, author: AuthorId) -> AuthorId | None:
    """Return the key that `author` named to follow its own, if it did."""
    namings = sorted(
        (record.author_seq, record.id, record.body.key)
        for record in (signed.record for signed in opset.signed.of_author(author))
        if isinstance(record.body, Successor) and author == record.body.of
    )
    return namings[0][2] if namings else None


@dataclass(frozen=True)
class Replica:
    """A set of records, and the key that speaks for its author."""

    opset: OpSet
    key: Signer

    def contribute(
        self, manifest: Manifest, *, weight: int, note: str, tags: tuple[str, ...] = ()
    ) -> SignedRecord:
        """Return an add of `manifest` with `weight` in units of 1e-9, and sorted tags."""
        data = manifest.encode()
        body = Add(
            content=manifest.content_id,
            manifest=manifest.blob,
            manifest_bytes=len(data),
            content_bytes=manifest.size,
            weight=weight,
            evidence=manifest.evidence_digest,
            note=note,
            tags=tags,
        )
        return self._sign(body)

    def remove(self, adds: Iterable[RecordId]) -> SignedRecord:
        """Return a remove of exactly these adds.

        Raises:
            NotFoundError: one of them is no add of this space.
            NotAllowedError: one of them is of an author that is not of lower rank.
        """
        view, me = self.opset.view, self.key.public
        targets = tuple(sorted(set(adds)))
        mine = view.ranks.get(me, Rank.READER)
        for target in targets:
            add = self.opset.get(target)
            if add is None or not isinstance(add.body, Add):
                raise NotFoundError(
                    f"{target.hex()[:12]} is no contribution of this space"
                )
            own = add.author == me or view.follows(me, add.author)
            if not own and mine <= view.ranks.get(add.author, Rank.READER):
                raise NotAllowedError(
                    f"{target.hex()[:12]} is of an author whose rank is not below yours",
                    hint="ask its author, or somebody of higher rank, to remove it",
                )
        return self._sign(Remove(targets))

    def set_recipe(self, recipe: Recipe) -> SignedRecord:
        """Return a recipe record that replaces all present heads."""
        return self._sign(RecipeChange(recipe, self.opset.view.recipe_heads))

    def evaluate(self, said: Evaluation) -> SignedRecord:
        """Return a record of what this author scores; any rank may."""
        return self._sign(said)

    def grant(
        self,
        author: AuthorId,
        rank: Rank,
        *,
        weight_cap: int = WEIGHT_CAP_DEFAULT,
        records_max: int = RECORDS_MAX_DEFAULT,
        bytes_max: int = BYTES_MAX_DEFAULT,
    ) -> SignedRecord:
        """Return a grant of `rank` to `author`.

        Raises:
            NotAllowedError: another key has followed that one.
        """
        last = self.opset.view.identity(author)[-1]
        if last != author:
            raise NotAllowedError(
                f"another key has followed {author.hex()[:12]}",
                hint=f"grant it to {last.hex()}",
            )
        body = Grant(author, rank, weight_cap, records_max, bytes_max)
        return self._sign(body, at_least=Rank(rank + 1))

    def ban(self, subject: str, target: bytes) -> SignedRecord:
        """Return a ban of a content id or an author.

        Raises:
            NotAllowedError: the author to ban is not of lower rank.
        """
        if subject == "author":
            self._require_below(AuthorId(target), "a ban of an author works")
        return self._sign(Ban(subject, target))

    def revoke(self, author: AuthorId, accepted: Iterable[RecordId]) -> SignedRecord:
        """Return a revocation: of `author` only `accepted`, and what precedes, counts.

        It falls on all keys of the author, and on whom it named at a lower rank, so
        `accepted` names records of each. Who follows a key may always end it, and what it
        accepts is of that key.

        Raises:
            NotFoundError: one of `accepted` is no record of the author.
            NotAllowedError: the author is not of lower rank, nor a key before one's own.
        """
        keys = self.opset.view.judged_with(author)
        retires = self.opset.view.follows(self.key.public, author)
        if retires:
            keys = (author,)
        else:
            self._require_below(author, "a revocation works")
        heads = tuple(sorted(set(accepted)))
        for head in heads:
            record = self.opset.get(head)
            if record is None or record.author not in keys:
                raise NotFoundError(
                    f"{head.hex()[:12]} is no record of author {author.hex()[:12]}"
                )
        body = Revoke(author, heads)
        if retires:
            return self._make(self._naming_of_mine(), body)
        return self._sign(body)

    def leave(self) -> SignedRecord:
        """Return what ends this key for good: what it said so far stays in effect.

        Raises:
            NotAllowedError: it is the only owner's, or has no rights.
        """
        view, me = self.opset.view, self.key.public
        owners = {k for k, rank in view.ranks.items() if rank is Rank.OWNER}
        others = owners - view.rightless - set(view.identity(me))
        if view.ranks.get(me) is Rank.OWNER and not others:
            raise NotAllowedError(
                "the only owner of a space cannot leave it: nobody could act as one",
                hint="`crdtmerge key rotate` changes your key",
            )
        grant, _ = self.authority(Rank.READER)
        return self._make(grant, Revoke(me, ()))

    def last_records(self, author: AuthorId) -> tuple[RecordId, ...]:
        """Return the records of `author` that none of its own follows, sorted.

        One of each key that a judgement of it falls on, unless it forked: all that is here
        of it precedes these.
        """
        keys = self.opset.view.judged_with(author)
        own = [one.record for key in keys for one in self.opset.signed.of_author(key)]
        followed = {self._here_before(record) for record in own}
        return tuple(sorted({record.id for record in own} - followed))

    def _here_before(self, record: Record) -> RecordId:
        """Return the nearest record before this one that is not dead, if any is here."""
        before, passed = RecordId(record.prev), set[RecordId]()
        while before not in self.opset and before not in passed:
            passed.add(before)
            link = self.opset.listing.link(before)
            before = RecordId(link.prev) if link else before
        return before

    def approve(self, act: RecordId) -> SignedRecord:
        """Return an approval of what another owner did.

        Raises:
            NotFoundError: no such record is here.
            NotAllowedError: it needs no more owners, this one signed it, or is none.
        """
        view, short = self.opset.view, act.hex()[:12]
        if act not in self.opset:
            raise NotFoundError(f"no record {short} is in this space")
        waiting = {pending.record: pending for pending in view.pending}
        if act not in waiting:
            raise NotAllowedError(
                f"record {short} waits for no owner's signature",
                hint="`crdtmerge space pending` lists those that do",
            )
        if view.identity(self.key.public)[0] in waiting[act].signers:
            raise NotAllowedError(
                f"you signed {short} already",
                hint="ask another owner: `crdtmerge space pending` says who signed",
            )
        return self._sign(Approve(act))

    def name_successor(
        self, key: AuthorId, consent: bytes, of: AuthorId | None = None
    ) -> SignedRecord:
        """Return what names `key` to follow this author's own, or the owner's key `of`.

        `consent` is what `give_consent(key, space, of)` returns to who holds `key`. Naming
        who follows another owner's key takes effect once a council of owners approved it.

        Raises:
            BadSignatureError: `key` did not consent.
            NotAllowedError: `key` has a part in the space already, this key named a
                successor already or has no records left for one, or `of` is no owner's.
        """
        me = self.key.public
        body = Successor(me if of is None else of, key, consent)
        check_consent(self.opset.space, body)
        self._require_fresh(body)
        if body.of != me:
            return self._sign(body, at_least=Rank.OWNER)
        authority = self.require_successor(key)
        return self._sign(body, at_least=authority.rank)

    def require_successor(self, key: AuthorId | None = None) -> Authority:
        """Check that a key can follow this author's; return the authority that it takes on.

        `key` is None if it is not made yet.

        Raises:
            NotAllowedError: `key` has a part in the space already, or this author has no
                rights, or no records left for another key.
        """
        if key is not None:
            self._require_no_part(key)
        _, authority = self.authority(Rank.READER)
        last = self._last()
        number = last[0] + 1 if last else 0
        if not handed_on(number, authority).records_max:
            raise NotAllowedError(
                f"your grant allows {authority.records_max} records: too few are left"
                " for another key"
            )
        return authority

    def _require_no_part(self, key: AuthorId) -> None:
        if key in self.opset.view.ranks:
            raise NotAllowedError(
                f"the key {key.hex()[:12]} has a part in this space already",
                hint="make a new key",
            )

    def _require_fresh(self, body: Successor) -> None:
        """Refuse to name a key that has a part already, or a second one."""
        view, me = self.opset.view, self.key.public
        self._require_no_part(body.key)
        if body.of == me and named_successor(self.opset, me) is not None:
            raise NotAllowedError(
                "you named a successor already, and the first one counts",
                hint="ask somebody of higher rank to grant the new key what you had",
            )
        if body.of != me and view.ranks.get(body.of) is not Rank.OWNER:
            raise NotAllowedError(
                f"{body.of.hex()[:12]} is no owner's key",
                hint="`crdtmerge space grant` gives another key what it had",
            )

    def _naming_of_mine(self) -> RecordId:
        """Return the record by which this key follows another."""
        namings = (
            signed.record.id
            for signed in self.opset.signed.of_kinds(frozenset({Successor.KIND}))
            if isinstance(body := signed.record.body, Successor)
            and body.key == self.key.public
        )
        return min(key for key in namings if key in self.opset.view.effective)

    def lift(self, target: RecordId) -> SignedRecord:
        """Return a lift of the ban, revocation or fork `target`.

        Raises:
            NotFoundError: no such ban, revocation or fork stands.
            NotAllowedError: an author of higher rank made it, or forked.
        """
        view = self.opset.view
        named = self.opset.get(target)
        if named is not None and isinstance(named.body, Fork):
            self._require_quarantined(named.body)
            return self._sign(Lift(target))
        if target not in view.bans and target not in view.revocations:
            short = target.hex()[:12]
            raise NotFoundError(f"no ban or revocation {short} stands in this space")
        acted = view.acting(self.opset.records[target])
        maker = Rank(min(acted, Rank.OWNER))  # a council's act waits for one
        if view.ranks.get(self.key.public, Rank.READER) < maker:
            raise NotAllowedError(
                f"the {self.opset.records[target].kind} was made by an author of higher"
                f" rank: {maker.name.lower()}",
                hint=f"ask an author of rank {maker.name.lower()} to lift it",
            )
        return self._sign(Lift(target))

    def _require_quarantined(self, fork: Fork) -> None:
        """Refuse to lift a fork that has no effect, or of whose author it is not ours."""
        view = self.opset.view
        here = any(f.place == fork.place and not f.lifted for f in view.forks)
        if not here or fork.author not in view.quarantined:
            author = fork.author.hex()[:12]
            raise NotFoundError(f"no fork of author {author} has effect in this space")
        self._require_below(fork.author, "a lift of a fork works")

    def _require_below(self, author: AuthorId, what: str) -> None:
        """Refuse what works only on an author whose rank is strictly lower."""
        view, me = self.opset.view, self.key.public
        theirs, mine = view.ranks.get(author), view.ranks.get(me, Rank.READER)
        if theirs is None or mine > theirs:
            return
        others = mine is Rank.OWNER and me not in view.identity(author)
        if not others or council_of_owners(view.rules) > len(view.rules.owners):
            raise NotAllowedError(f"{what} only on a lower rank")

    def announce(
        self, node: bytes, addresses: Iterable[str], grant: RecordId | None = None
    ) -> SignedRecord:
        """Return a node record that names a transport key and its addresses.

        Under `grant`, which the caller knows to give enough; else under the best one.
        """
        body = NodeAddress(node, tuple(addresses))
        return self._sign(body) if grant is None else self._make(grant, body)

    def compact(self, lists: Sequence[Epoch]) -> list[SignedRecord]:
        """Return records that let what `lists` name be dropped, one after another.

        Whether nothing changes by that is for `epochs.check_unchanged`, which takes longer.

        Raises:
            NotAllowedError: this author is no owner.
        """
        grant, _ = self.authority(NEEDED[Epoch])
        made: list[SignedRecord] = []
        last = self._last()
        for body in lists:
            made.append(self._make(grant, body, after=last))
            last = made[-1].record.author_seq, made[-1].record.id
        return made

    def report(self, shown: Fault | Fork) -> SignedRecord:
        """Return a record of a fault, which takes its content out for good, or of a fork.

        Raises:
            MalformedRecordError: it is not true.
            BadSignatureError: the author of a fork did not sign both.
        """
        if isinstance(shown, Fork):
            check_fork(shown, self.opset.space)
        else:
            check_fault(shown)
        return self._sign(shown)

    def authority(self, needed: Rank) -> tuple[RecordId, Authority]:
        """Return the grant that gives this author most: by rank, then by its limits.

        Raises:
            NotAllowedError: none of rank `needed` does.
        """
        view = self.opset.view
        me = self.key.public
        if me in view.rightless:
            ends = [key for key, end in view.endings.items() if end.author == me]
            if any(self.opset.records[key].author == me for key in ends):
                hint = "this key is out for good; another one may be granted rights"
                raise NotAllowedError("you left this space", hint=hint)
            if ends:
                last = view.identity(me)[-1].hex()[:12]
                raise NotAllowedError(f"your key was ended by the one after it: {last}")
            banned = any(ban.target in view.identity(me) for ban in view.bans.values())
            what = "you were banned from" if banned else "your rights were revoked in"
            raise NotAllowedError(
                f"{what} this space",
                hint="what you say there has no effect until that is lifted, by somebody"
                " of the rank of whoever did it",
            )
        if me in view.quarantined:
            raise NotAllowedError(
                f"you signed two records of number {view.quarantined[me]}, and here that"
                " ends an author's rights",
                hint="nothing you say from that number on has effect until somebody of"
                " higher rank lifts it; `crdtmerge space forks` names the proof",
            )
        best = best_grant(self.opset, me)
        if best is None or best[1].rank < needed:
            have = best[1].rank.name.lower() if best else "no member"
            raise NotAllowedError(
                f"this needs the rank of {needed.name.lower()}; you are {have}",
                hint="ask the owners to do it: only the founder names owners"
                if needed is Rank.OWNER
                else "ask an owner of the space for a grant",
            )
        return best

    def _sign(self, body: Body, at_least: Rank = Rank.READER) -> SignedRecord:
        needed = max(NEEDED[type(body)], at_least)
        grant, authority = self.authority(needed)
        signed = self._make(grant, body)
        if signed.record.author_seq > authority.records_max:
            raise NotAllowedError(
                f"your grant allows {authority.records_max} records, and you have made them"
            )
        if isinstance(body, Grant) and not authority.covers(body):
            raise NotAllowedError(
                "you cannot grant higher limits than your own grant's"
            )
        if isinstance(body, Add):
            size = body.content_bytes + body.manifest_bytes
            if size > authority.bytes_max:
                raise NotAllowedError(
                    f"the model has {size} bytes, your grant allows {authority.bytes_max}"
                )
        return signed

    def _last(self) -> tuple[int, RecordId] | None:
        """Return number and id of this author's last record.

        Also of one that is dead and is nowhere any more: its number was used. What is
        listed counts where it follows what is known: nobody can say that numbers are used
        up by listing one high number.
        """
        me = self.key.public
        signed = self.opset.signed.of_author(me)
        here = {one.record.id: one.record.author_seq for one in signed}
        mine = {(number, key) for key, number in here.items()}
        listed = ((link.number, key, link) for key, link in self._listed(me))
        for number, record, link in sorted(listed):
            follows = not number or (number - 1, RecordId(link.prev)) in mine
            if follows and record not in here:
                mine.add((number, record))
        return max(mine, default=None)

    def _listed(self, author: AuthorId) -> Iterable[tuple[RecordId, Link]]:
        return self.opset.listing.of_author(author)

    def _make(
        self, grant: RecordId, body: Body, after: tuple[int, RecordId] | None = None
    ) -> SignedRecord:
        """Sign the next record of this author: one above its last, naming it.

        `after` is number and id of the last one, if it is not in the set.
        """
        last = after or self._last()
        record = make_record(
            space=self.opset.space,
            author=self.key.public,
            author_seq=last[0] + 1 if last else 0,
            prev=last[1] if last else b"",
            auth=grant,
            body=body,
        )
        return sign_record(record, self.key)
