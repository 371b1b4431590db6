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
)
from crdtmerge.digest import ContentId
from crdtmerge.errors import NotAllowedError, NotFoundError
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
    key: Signer, *, name: str, mode: str, base: ContentId, nonce: bytes
) -> SignedRecord:
    """Return the genesis of a new space owned by `key`; `nonce` makes its id unique."""
    body = Genesis(name, mode, base, (key.public,), nonce)
    record = make_record(
        space=b"", author=key.public, author_seq=0, prev=b"", auth=b"", body=body
    )
    return sign_record(record, key)


@dataclass(frozen=True)
class Replica:
    """A set of records, and the key that speaks for its author."""

    opset: OpSet
    key: Signer

    def contribute(self, manifest: Manifest, *, weight: int, note: str) -> SignedRecord:
        """Return an add of `manifest` with `weight` in units of 1e-9."""
        data = manifest.encode()
        body = Add(
            content=manifest.content_id,
            manifest=manifest.blob,
            manifest_bytes=len(data),
            content_bytes=manifest.size,
            weight=weight,
            evidence=manifest.evidence_digest,
            note=note,
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
                    hint="ask its author, or a maintainer, to remove it",
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
        ranks = self.opset.view.ranks
        theirs = ranks.get(AuthorId(target)) if subject == "author" else None
        if theirs is not None and ranks.get(self.key.public, Rank.READER) <= theirs:
            raise NotAllowedError("a ban of an author works only on a lower rank")
        return self._sign(Ban(subject, target))

    def lift(self, target: RecordId) -> SignedRecord:
        """Return a lift of the ban or revocation `target`."""
        return self._sign(Lift(target))

    def announce(self, node: bytes, addresses: Iterable[str]) -> SignedRecord:
        """Return a node record that names a transport key and its addresses."""
        return self._sign(NodeAddress(node, tuple(addresses)))

    def authority(self, needed: Rank) -> tuple[RecordId, Authority]:
        """Return the grant of highest rank that stands for this author.

        Raises:
            NotAllowedError: none of rank `needed` does.
        """
        view = self.opset.view
        me = self.key.public
        if me in view.rightless:
            raise NotAllowedError("your rights in this space were revoked")
        given = [
            (authority, grant)
            for grant in view.effective
            if (authority := given_by(self.opset.records[grant], me))
        ]
        best = max(given, key=lambda pair: (pair[0].rank, pair[1]), default=None)
        if best is None or best[0].rank < needed:
            have = best[0].rank.name.lower() if best else "no member"
            raise NotAllowedError(
                f"this needs the rank of {needed.name.lower()}; you are {have}",
                hint="ask an owner of the space for a grant",
            )
        return best[1], best[0]

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
