"""One space as one author sees it: what the author says becomes signed records.

Owns the choice of `auth`, `author_seq` and `prev`, and the early refusal of what would
have no effect. Does not own storage: each verb returns a signed record, and the caller
persists it before it joins it.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from crdtmerge.bodies import (
    Add,
    Ban,
    Body,
    Genesis,
    Grant,
    Lift,
    NodeAddress,
    RecipeChange,
    RecordId,
    Remove,
    Revoke,
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
    given_by,
)
from crdtmerge.recipe import Recipe
from crdtmerge.record import SignedRecord, make_record, sign_record


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
    given = [
        (grant, authority)
        for grant in opset.view.effective
        if (authority := given_by(opset.records[grant], author, opset.get))
    ]
    return max(given, key=lambda pair: (pair[1].measure, pair[0]), default=None)


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
        view = self.opset.view
        targets = tuple(sorted(set(adds)))
        mine = view.ranks.get(self.key.public, Rank.READER)
        for target in targets:
            add = self.opset.get(target)
            if add is None or not isinstance(add.body, Add):
                raise NotFoundError(
                    f"{target.hex()[:12]} is no contribution of this space"
                )
            own = add.author == self.key.public
            if not own and mine <= view.ranks.get(add.author, Rank.READER):
                raise NotAllowedError(
                    f"{target.hex()[:12]} is of an author whose rank is not below yours",
                    hint="ask its author, or somebody of higher rank, to remove it",
                )
        return self._sign(Remove(targets))

    def set_recipe(self, recipe: Recipe) -> SignedRecord:
        """Return a recipe record that replaces all present heads."""
        return self._sign(RecipeChange(recipe, self.opset.view.recipe_heads))

    def grant(
        self,
        author: AuthorId,
        rank: Rank,
        *,
        weight_cap: int = WEIGHT_CAP_DEFAULT,
        records_max: int = RECORDS_MAX_DEFAULT,
        bytes_max: int = BYTES_MAX_DEFAULT,
    ) -> SignedRecord:
        """Return a grant of `rank` to `author`."""
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

        Raises:
            NotFoundError: one of `accepted` is no record of the author.
            NotAllowedError: the author is not of lower rank.
        """
        self._require_below(author, "a revocation works")
        heads = tuple(sorted(set(accepted)))
        for head in heads:
            record = self.opset.get(head)
            if record is None or record.author != author:
                raise NotFoundError(
                    f"{head.hex()[:12]} is no record of author {author.hex()[:12]}"
                )
        return self._sign(Revoke(author, heads))

    def last_records(self, author: AuthorId) -> tuple[RecordId, ...]:
        """Return the records of `author` that none of its own follows, sorted.

        One, unless the author forked: all that is here of it precedes these.
        """
        own = [r for r in self.opset.records.values() if r.author == author]
        return tuple(sorted({r.id for r in own} - {r.prev for r in own}))

    def lift(self, target: RecordId) -> SignedRecord:
        """Return a lift of the ban or revocation `target`.

        Raises:
            NotFoundError: no such ban or revocation stands.
            NotAllowedError: an author of higher rank made it.
        """
        view = self.opset.view
        if target not in view.bans and target not in view.revocations:
            short = target.hex()[:12]
            raise NotFoundError(f"no ban or revocation {short} stands in this space")
        maker = view.ranks[self.opset.records[target].author]
        if view.ranks.get(self.key.public, Rank.READER) < maker:
            raise NotAllowedError(
                f"the {self.opset.records[target].kind} was made by an author of higher"
                f" rank: {maker.name.lower()}",
                hint=f"ask an author of rank {maker.name.lower()} to lift it",
            )
        return self._sign(Lift(target))

    def _require_below(self, author: AuthorId, what: str) -> None:
        """Refuse what works only on an author whose rank is strictly lower."""
        ranks = self.opset.view.ranks
        theirs = ranks.get(author)
        if theirs is not None and ranks.get(self.key.public, Rank.READER) <= theirs:
            raise NotAllowedError(f"{what} only on a lower rank")

    def announce(self, node: bytes, addresses: Iterable[str]) -> SignedRecord:
        """Return a node record that names a transport key and its addresses."""
        return self._sign(NodeAddress(node, tuple(addresses)))

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
            banned = any(ban.target == me for ban in view.bans.values())
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
                hint="ask an owner of the space for a grant",
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

    def _make(self, grant: RecordId, body: Body) -> SignedRecord:
        """Sign the next record of this author: one above its last, naming it."""
        mine = [r for r in self.opset.records.values() if r.author == self.key.public]
        last = max(mine, key=lambda r: (r.author_seq, r.id), default=None)
        record = make_record(
            space=self.opset.space,
            author=self.key.public,
            author_seq=last.author_seq + 1 if last else 0,
            prev=last.id if last else b"",
            auth=grant,
            body=body,
        )
        return sign_record(record, self.key)
