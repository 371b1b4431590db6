"""What owners do together: signatures, councils, and the standing of owners themselves.

Owns how many owners signed a record, and what a council decides: judging an owner, and
naming who follows an owner's key. Does not own what takes effect below (`standing`).

A council is so many owners that any two have a member in common, and never one alone.
SUBTLE: councils judge owners, and owners make councils. So votes are counted over the
owners as they stand before any is judged; councils that judge each other's members both
take effect. Successions come first, in rounds: who follows by one round votes in the next,
and what a round decided is not asked again.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from crdtmerge.bodies import Ban, Genesis, RecordId, Revoke, Successor
from crdtmerge.identity import AuthorId
from crdtmerge.policy.book import Book
from crdtmerge.policy.chains import Given, Judgement, Placing, place
from crdtmerge.policy.ranks import Rank
from crdtmerge.record import Record

COUNCIL: Final = Rank.OWNER + 1
"""What a council acts as, beside the ranks."""
COUNCIL_LEAST: Final = 2
ROUNDS_MAX: Final = 64
"""Rounds of successions: each looks at all records. As many keys may follow each other
that were lost one after another; further successions of a council have no effect."""


@dataclass(frozen=True, slots=True)
class Votes:
    """Who of the owners signed what, each identity counted once."""

    book: Book
    placing: Placing
    identities: Mapping[AuthorId, AuthorId]
    """The first key of the chain, by each key of it."""

    def signers(self, record: Record) -> frozenset[AuthorId]:
        """Return the owners that made or approved `record`, by their first keys."""
        signed = (record, *self.book.approvals.get(record.id, ()))
        return frozenset(self.identities[r.author] for r in signed if self.counts(r))

    def counts(self, record: Record) -> bool:
        """Tell whether an owner said `record` as an owner, and may say it."""
        by_owner = record.auth == self.book.genesis.id
        by_owner = by_owner or RecordId(record.auth) in self.placing.namings
        return by_owner and self.placing.keeps(record)


@dataclass(frozen=True, slots=True)
class Council:
    """What councils decided: who follows whose key, and who is judged."""

    votes: Votes
    successions: Mapping[AuthorId, Record]
    acts: tuple[Record, ...]
    """The judgements that stand."""


def council_size(book: Book) -> int:
    """Return how many owners make a council."""
    return council_of_owners(book.rules)


def council_of_owners(rules: Genesis) -> int:
    """Return how many of the owners that a genesis names make a council."""
    return max(rules.threshold, len(rules.owners) // 2 + 1, COUNCIL_LEAST)


def votes_of(book: Book, placing: Placing) -> Votes:
    """Return who signed what, as owners stand in `placing`."""
    identities = {key: chain[0] for chain in placing.chains for key in chain}
    return Votes(book, placing, identities)


def council_of(book: Book, numbers: Mapping[AuthorId, int]) -> Council:
    """Return what the councils of a space decided; forks cut off from `numbers` on."""
    successions: dict[AuthorId, Record] = {}
    votes = _votes_after(book, numbers, successions)
    for _ in range(ROUNDS_MAX):
        fresh = _successions(book, votes, successions)
        if not fresh:
            break
        successions = {**successions, **fresh}
        votes = _votes_after(book, numbers, successions)
    acts = tuple(
        act
        for key in sorted(votes.identities)
        for act in book.judgements.get(key, ())
        if _is_council_act(votes, act, key) and not _lifted(votes, act)
    )
    return Council(votes, successions, acts)


def _votes_after(
    book: Book,
    numbers: Mapping[AuthorId, int],
    successions: Mapping[AuthorId, Record],
) -> Votes:
    """Return who signed what, once these successions are decided."""
    given = Given(
        numbers=numbers,
        effective=frozenset({book.genesis.id}),
        council=successions,
    )
    return votes_of(book, place(book, Rank.OWNER, book.rules.owners, given))


def target_of(judgement: Judgement) -> AuthorId:
    """Return the author whom a ban of an author, or a revocation, is of."""
    if isinstance(judgement, Ban):
        return AuthorId(judgement.target)
    return judgement.author


def is_retirement(votes: Votes, act: Record, key: AuthorId) -> bool:
    """Tell whether an owner ends a key of its own: it needs nobody for that."""
    own = votes.identities.get(act.author) == votes.identities.get(key)
    return own and isinstance(act.body, Revoke)


def _is_council_act(votes: Votes, act: Record, key: AuthorId) -> bool:
    return not is_retirement(votes, act, key) and by_council(votes, act)


def _lifted(votes: Votes, act: Record) -> bool:
    return any(by_council(votes, lift) for lift in votes.book.lifts.get(act.id, ()))


def by_council(votes: Votes, record: Record) -> bool:
    """Tell whether so many owners signed `record` that they are a council."""
    if not votes.counts(record):
        return False
    return len(votes.signers(record)) >= council_size(votes.book)


def _successions(
    book: Book, votes: Votes, settled: Mapping[AuthorId, Record]
) -> dict[AuthorId, Record]:
    """Return who follows which owner's key by this round of votes.

    Of several claims on one key that counts which more owners signed; of equals none.
    """
    claims: dict[AuthorId, list[tuple[int, Record]]] = {}
    for claim in book.claims:
        body = claim.body
        assert isinstance(body, Successor)
        known = body.of in votes.identities and body.of not in settled
        fresh = body.key not in votes.identities
        if known and fresh and by_council(votes, claim):
            signed = len(votes.signers(claim))
            claims.setdefault(body.of, []).append((signed, claim))
    found: dict[AuthorId, Record] = {}
    for of, signed_claims in sorted(claims.items()):
        most = max(count for count, _ in signed_claims)
        best = [claim for count, claim in signed_claims if count == most]
        keys = {c.body.key for c in best if isinstance(c.body, Successor)}
        if len(keys) == 1:
            found[of] = best[0]
    return found
