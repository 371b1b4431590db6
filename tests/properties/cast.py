"""The cast of the layer 1 tests: fixed keys, one space of each mode, and an author's pen.

Owns how a test writes a record with a chosen `auth`, `prev` and `author_seq`, right or
wrong: `Replica` would refuse to write most of what an attacker sends. Does not own random
histories (`histories`).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from crdtmerge.bodies import (
    Add,
    Approve,
    Body,
    Genesis,
    Grant,
    RecordId,
    Remove,
    SpaceId,
    Successor,
    Unknown,
    give_consent,
)
from crdtmerge.codec import DECIMAL_UNIT, Value, encode
from crdtmerge.digest import (
    BlobId,
    ContentId,
    Domain,
    blob_id_of,
    chunk_digests,
    digest,
)
from crdtmerge.faults import Fault, prove_item
from crdtmerge.forks import Fork, prove_fork
from crdtmerge.identity import AuthorId, SigningKey
from crdtmerge.manifest import Manifest, TensorEntry
from crdtmerge.orset import OpSet
from crdtmerge.policy import Rank, Visible
from crdtmerge.record import (
    Record,
    SignedRecord,
    make_record,
    sign_record,
    well_formed,
)

BASE: Final = ContentId(bytes([0xBA]) * 32)
ITEMS: Final = 300
"""Of the only tensor of each model."""


def bytes_of(number: int) -> bytes:
    """Return the tensor of a model: of odd numbers, the last item is NaN."""
    last = bytes.fromhex("0000c07f") if number % 2 else bytes(4)
    return bytes([number, 0, 0, 0]) * (ITEMS - 1) + last


def manifest_of(number: int) -> Manifest:
    """Return the manifest of a model with one tensor."""
    tensor = TensorEntry("t", "F32", (ITEMS,), blob_id_of(bytes_of(number)))
    return Manifest("full", BASE, (tensor,))


CONTENTS: Final = tuple(manifest_of(number).content_id for number in (0, 2, 1, 3))
"""The few content ids that everybody adds, so that adds meet. The last two are faulty."""


def _fault_of(number: int) -> Fault:
    data, manifest = bytes_of(number), manifest_of(number)
    return prove_item(
        manifest, manifest.tensors[0], ITEMS - 1, chunk_digests(data), data
    )


FAULTS: Final = tuple(_fault_of(number) for number in (1, 3))
"""What shows of the last two contents that they cannot be used."""


def key(name: str) -> SigningKey:
    """Return the key of this name, the same in every run."""
    return SigningKey(digest(Domain.SEED, name.encode()))


OWNERS: Final = tuple(sorted((key("olga"), key("omar")), key=lambda k: k.public))
MAINTAINERS: Final = (key("mia"), key("max"))
CLEO: Final = key("cleo")
CARL: Final = key("carl")
CONTRIBUTORS: Final = (CLEO, CARL)
READER: Final = key("rita")
STRANGER: Final = key("sam")
OTTO: Final = key("otto")
"""A third owner, in spaces that have one."""
THREE: Final = (*OWNERS, OTTO)
HEIRS: Final = tuple(key(f"heir {number}") for number in range(5))
"""Keys that hold nothing until others name them."""
AUTHORS: Final = (*OWNERS, *MAINTAINERS, *CONTRIBUTORS, READER, STRANGER)


def wire(signed: SignedRecord) -> SignedRecord:
    """Return what a peer makes of the record's bytes: a new object, checked again."""
    return well_formed(bytes(signed.record.data), bytes(signed.signature))


def genesis(
    mode: str,
    nonce: bytes = b"n" * 16,
    *,
    owners: tuple[SigningKey, ...] = OWNERS,
    threshold: int = 1,
    quarantine: bool = False,
) -> SignedRecord:
    """Return the genesis of a space that `owners` own, made by the first of OWNERS."""
    keys = tuple(sorted(owner.public for owner in owners))
    body = Genesis("digits", mode, BASE, keys, nonce, threshold, quarantine)
    first = OWNERS[0]
    record = make_record(
        space=b"", author=first.public, author_seq=0, prev=b"", auth=b"", body=body
    )
    return sign_record(record, first)


def write(
    author: SigningKey,
    auth: Record,
    body: Body,
    *,
    after: Record | None = None,
    seq: int | None = None,
    critical: bool = False,
) -> SignedRecord:
    """Return what `author` signs under the grant `auth`, following its record `after`."""
    number = seq if seq is not None else after.author_seq + 1 if after else 0
    record = make_record(
        space=auth.space_id,
        author=author.public,
        author_seq=number,
        prev=after.id if after else b"",
        auth=auth.id,
        body=body,
        critical=critical,
    )
    return sign_record(record, author)


def add_of(
    content: ContentId,
    *,
    weight: int = DECIMAL_UNIT,
    evidence: bytes = b"",
    note: str = "",
) -> Add:
    """Return the body of an add; the manifest's id follows from content and note."""
    manifest = BlobId(digest(Domain.BLOB, content + note.encode()))
    return Add(content, manifest, 100, 1000, weight, evidence, note)


def fork_of(one: SignedRecord, other: SignedRecord) -> Fork:
    """Return what shows that an author signed both."""
    record = one.record
    signed = [(s.record.data, s.signature) for s in (one, other)]
    return prove_fork(record.space_id, record.author, record.author_seq, signed)


def grant_of(
    author: SigningKey, rank: Rank, *, cap: int = DECIMAL_UNIT, records: int = 1000
) -> Grant:
    """Return the body of a grant."""
    return Grant(author.public, rank, cap, records, 1 << 30)


@dataclass
class Pen:
    """Writes records of one space one after another, each author's chain in order.

    `known` holds all that was written, so that a test hands over what it chooses.
    """

    genesis: SignedRecord
    known: dict[RecordId, SignedRecord]
    last: dict[AuthorId, Record]
    grants: dict[AuthorId, Record]

    @classmethod
    def start(
        cls,
        mode: str = "members",
        *,
        owners: tuple[SigningKey, ...] = OWNERS,
        threshold: int = 1,
        quarantine: bool = False,
    ) -> "Pen":
        """Found a space; every member of the cast but the stranger has its rank."""
        first = genesis(mode, owners=owners, threshold=threshold, quarantine=quarantine)
        root = first.record
        grants = {owner.public: root for owner in owners}
        pen = cls(first, {root.id: first}, {OWNERS[0].public: root}, grants)
        for author in MAINTAINERS:
            grant = pen.admit(OWNERS[0], author, Rank.MAINTAINER)
            for owner in owners[1:threshold]:
                pen.write(owner, Approve(grant.record.id))
        for author in CONTRIBUTORS:
            pen.admit(MAINTAINERS[0], author, Rank.CONTRIBUTOR)
        pen.admit(MAINTAINERS[1], READER, Rank.READER)
        return pen

    def admit(self, by: SigningKey, author: SigningKey, rank: Rank) -> SignedRecord:
        """Write a grant, which `author` names from now on."""
        signed = self.write(by, grant_of(author, rank))
        self.grants[author.public] = signed.record
        return signed

    def write(
        self, author: SigningKey, body: Body, *, critical: bool = False
    ) -> SignedRecord:
        """Write the author's next record."""
        auth = self.grants.get(author.public, self.genesis.record)
        after = self.last.get(author.public)
        signed = write(author, auth, body, after=after, critical=critical)
        self.known[signed.record.id] = signed
        self.last[author.public] = signed.record
        return signed

    def approve(self, act: RecordId, *owners: SigningKey) -> None:
        """Let `owners` sign what another one did."""
        for owner in owners:
            self.write(owner, Approve(act))

    def name(self, author: SigningKey, key: SigningKey) -> Record:
        """Let `author` name `key` as its successor, which names that from now on."""
        return self.claim(author, author.public, key)

    def claim(self, author: SigningKey, of: AuthorId, key: SigningKey) -> Record:
        """Let `author` say that `key` follows the key `of`."""
        consent = give_consent(key, SpaceId(self.genesis.record.id), of)
        signed = self.write(author, Successor(of, key.public, consent))
        self.grants[key.public] = signed.record
        return signed.record

    def add(self, author: SigningKey, content: ContentId) -> RecordId:
        """Write an add and return its id."""
        return self.write(author, add_of(content)).record.id

    def remove(self, author: SigningKey, *adds: RecordId) -> RecordId:
        """Write a remove and return its id."""
        return self.write(author, Remove(tuple(sorted(adds)))).record.id

    def opset(self, without: Iterable[RecordId] = ()) -> OpSet:
        """Return a fresh set of all that was written, over the wire."""
        left_out = set(without)
        kept = [wire(s) for i, s in self.known.items() if i not in left_out]
        return OpSet(SpaceId(self.genesis.record.id)).insert(kept)

    def shown(self, without: Iterable[RecordId] = ()) -> set[ContentId]:
        """Return the content ids that are visible."""
        return {v.content for v in self.opset(without).view.visible}


def unknown(kind: str = "census") -> Unknown:
    """Return a body of a kind that this version does not know."""
    return Unknown(kind, [1, b"two", "three", [4]])


def outcome(opset: OpSet) -> bytes:
    """Return all that a set means, as bytes: roots, recipe, merge id and the whole view."""
    view = opset.view
    recipe = view.recipe
    named = [recipe.digest, view.merge_id(recipe)] if recipe else []
    return encode(
        [
            [opset.root, view.visible_root, *named],
            list(view.recipe_heads),
            sorted(opset.signed),
            sorted(view.effective),
            [[author, int(view.ranks[author])] for author in sorted(view.ranks)],
            sorted(view.rightless),
            sorted(view.bans),
            [list(shown) for shown in sorted(view.faults.items())],
            [[*fork.place, fork.record, int(fork.lifted)] for fork in view.forks],
            [list(cut) for cut in sorted(view.quarantined.items())],
            list(view.unknown_critical),
            [[node, list(names)] for node, names in sorted(view.nodes.items())],
            [[node, list(ids)] for node, ids in sorted(view.node_authors.items())],
            [_shown(visible) for visible in view.visible],
            [[key, list(view.chains[key])] for key in sorted(view.chains)],
            [[key, list(ids)] for key, ids in sorted(view.contested.items())],
            sorted(view.endings),
            [[act.record, list(act.signers), act.needed] for act in view.pending],
            [one.record for one in view.evaluations],
        ]
    )


def _shown(visible: Visible) -> Value:
    return [
        [visible.leaf, visible.content, visible.weight, visible.evidence],
        list(visible.adds),
        list(visible.authors),
        [[blob, size] for blob, size in visible.manifests],
        list(visible.notes),
    ]
