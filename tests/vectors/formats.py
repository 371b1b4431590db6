"""Golden bytes of codec, digests, records, manifest, recipe, trie, roots, kept sums.

`python -m tests.vectors.formats` prints them as JSON. They change only with a version
bump, or, until 0.1.0 is tagged, by ADR.
"""

import json
import sys
from collections.abc import Iterator
from fractions import Fraction

import numpy as np

from crdtmerge.bodies import (
    Add,
    Approve,
    Ban,
    Body,
    Evaluation,
    Genesis,
    Grant,
    Lift,
    NodeAddress,
    RecipeChange,
    Remove,
    Revoke,
    SpaceId,
    Successor,
    Unknown,
    give_consent,
)
from crdtmerge.codec import Value, encode
from crdtmerge.digest import (
    CHUNK_BYTES,
    BlobId,
    ContentId,
    Domain,
    blob_id_of,
    chunk_digest,
    chunk_digests,
    digest,
)
from crdtmerge.faults import prove_item
from crdtmerge.identity import SigningKey
from crdtmerge.manifest import EvidenceEntry, FileEntry, Manifest, TensorEntry
from crdtmerge.membership import prove_membership
from crdtmerge.numerics import Data, Grid
from crdtmerge.orset import OpSet
from crdtmerge.recipe import Recipe, Rule
from crdtmerge.record import SignedRecord, make_record, sign_record
from crdtmerge.resolve.accumulators import Accumulator, Member
from crdtmerge.resolve.kept import Last, Packing, header_of
from crdtmerge.strategies.sums import Share
from crdtmerge.trie import Trie
from nodes.sealing import seal
from nodes.ticket import Ticket

VALUES: dict[str, Value] = {
    "integers": [0, 127, 128, -1, -33, 2**32, 2**64 - 1, -(2**63)],
    "bytes": [b"", b"\x00\xff", bytes(300)],
    "text": ["", "a", "é", "x" * 40],
    "arrays": [[], [[1], ["a", b"b"]], list(range(20))],
}
OWNER = SigningKey(bytes(range(32)))
MEMBER = SigningKey(bytes(range(1, 33)))
HEIR = SigningKey(bytes(range(3, 35)))
BASE = ContentId(digest(Domain.CONTENT, b"base"))
RECIPE = Recipe(
    "ties/1",
    (("density", "0.2"), ("lambda", "1"), ("normalize", "true")),
    (Rule("*.bias", (("density", "1"),)),),
    "BF16",
)
MANIFEST = Manifest(
    "full",
    BASE,
    (
        TensorEntry("a.weight", "F32", (2, 3), blob_id_of(bytes(24))),
        TensorEntry("b", "BF16", (), blob_id_of(b"\x80\x3f")),
    ),
    (FileEntry("README.md", 2, blob_id_of(b"hi")),),
    (EvidenceEntry("fisher", TensorEntry("b", "F32", (), blob_id_of(bytes(4)))),),
    "a note",
)


def history() -> dict[str, SignedRecord]:
    """Return one signed record of each kind, in the order in which they were made."""
    made: dict[str, SignedRecord] = {}
    last: dict[SigningKey, SignedRecord] = {}

    def say(name: str, key: SigningKey, auth: bytes, body: Body) -> SignedRecord:
        before = last.get(key)
        genesis = isinstance(body, Genesis)
        record = make_record(
            space=b"" if genesis else made["genesis"].record.id,
            author=key.public,
            author_seq=before.record.author_seq + 1 if before else 0,
            prev=before.record.id if before else b"",
            auth=auth,
            body=body,
        )
        made[name] = last[key] = sign_record(record, key)
        return made[name]

    owners = (OWNER.public,)
    body = Genesis("vectors", "members", BASE, owners, bytes(16))
    root = say("genesis", OWNER, b"", body).record.id
    recipe = say("recipe", OWNER, root, RecipeChange(RECIPE, ())).record.id
    given = Grant(MEMBER.public, 1, 10**9, 1000, 1 << 30)
    grant = say("grant", OWNER, root, given).record.id
    add = Add(
        MANIFEST.content_id,
        MANIFEST.blob,
        len(MANIFEST.encode()),
        MANIFEST.size,
        1_500_000_000,
        MANIFEST.evidence_digest,
        "first",
    )
    added = say("add", MEMBER, grant, add).record.id
    node = NodeAddress(bytes(range(2, 34)), ("192.0.2.1:7420",))
    say("node", MEMBER, grant, node)
    say("unknown", MEMBER, grant, Unknown("shiny", [1, "x", b"y"]))
    other = ContentId(digest(Domain.CONTENT, b"other"))
    second = Add(other, BlobId(bytes(32)), 100, 1000, 10**9, b"", "")
    kept = say("second add", OWNER, root, second).record.id
    say("recipe change", OWNER, root, RecipeChange(RECIPE, (recipe,)))
    say("remove", OWNER, root, Remove((added,)))
    ban = say("ban", OWNER, root, Ban("content", other)).record.id
    say("lift", OWNER, root, Lift(ban))
    say("revoke", OWNER, root, Revoke(MEMBER.public, (added,)))
    assert kept != added
    return made


def fault(space: bytes) -> SignedRecord:
    """Return a signed fault: a model of one tensor, whose last item is an infinity."""
    data = bytes(1398) + b"\x00\x7c"
    tensor = TensorEntry("weight", "F16", (7, 100), blob_id_of(data))
    manifest = Manifest("full", BASE, (tensor,))
    record = make_record(
        space=space,
        author=OWNER.public,
        author_seq=0,
        prev=b"",
        auth=space,
        body=prove_item(manifest, tensor, 699, chunk_digests(data), data),
    )
    return sign_record(record, OWNER)


def scored(space: bytes) -> dict[str, SignedRecord]:
    """Return an evaluation of a contribution, and one of a merged model."""
    bodies = {
        "evaluation": Evaluation(
            "content", MANIFEST.content_id, "accuracy", "digits-held-out", 930_000_000
        ),
        "evaluation of a model": Evaluation(
            "model",
            digest(Domain.MERGE, b"any"),
            "loss",
            "set_2.v1",
            -25 * 10**7,
            "ours",
        ),
    }
    return {
        name: sign_record(
            make_record(
                space=space,
                author=MEMBER.public,
                author_seq=0,
                prev=b"",
                auth=space,
                body=body,
            ),
            MEMBER,
        )
        for name, body in bodies.items()
    }


def shared() -> dict[str, SignedRecord]:
    """Return a space of two owners, an approval, and a key that follows another."""
    owners = tuple(sorted((OWNER.public, MEMBER.public)))
    body = Genesis("shared", "members", BASE, owners, bytes(16), 2, quarantine=True)
    made: dict[str, SignedRecord] = {}

    def say(name: str, key: SigningKey, seq: int, body: Body) -> SignedRecord:
        space = made["shared genesis"].record.id if made else b""
        before = [s for s in made.values() if s.record.author == key.public]
        record = make_record(
            space=space,
            author=key.public,
            author_seq=seq,
            prev=before[-1].record.id if before else b"",
            auth=space,
            body=body,
        )
        made[name] = sign_record(record, key)
        return made[name]

    root = say("shared genesis", OWNER, 0, body).record.id
    given = Grant(HEIR.public, 2, 10**9, 1000, 1 << 30)
    grant = say("shared grant", OWNER, 1, given).record.id
    say("approve", MEMBER, 0, Approve(grant))
    consent = give_consent(HEIR, SpaceId(root), OWNER.public)
    say("successor", OWNER, 2, Successor(OWNER.public, HEIR.public, consent))
    return made


def vectors() -> Iterator[tuple[str, str]]:
    """Yield (name, hex or text) of every vector."""
    for name, value in VALUES.items():
        yield f"codec {name}", encode(value).hex()
    for domain in Domain:
        yield f"digest {domain.name}", digest(domain, b"crdtmerge").hex()
    yield "chunk", chunk_digest(b"abc").hex()
    for size in (0, 1, CHUNK_BYTES, CHUNK_BYTES + 1):
        yield f"blob of {size} zero bytes", blob_id_of(bytes(size)).hex()
    for count in (0, 1, 16, 17, 1000):
        items = [
            digest(Domain.RECORD, bytes([i % 256, i // 256])) for i in range(count)
        ]
        yield f"trie of {count}", Trie.build(items).root.hex()
    for name, item in (("that holds", items[5]), ("without", bytes(32))):
        proof = prove_membership(Trie.build(items), item)
        yield f"proof of membership, {name}", proof.to_bytes().hex()
    yield "manifest", MANIFEST.encode().hex()
    yield "manifest content id", MANIFEST.content_id.hex()
    yield "manifest evidence digest", MANIFEST.evidence_digest.hex()
    yield "recipe digest", RECIPE.digest.hex()
    made = history()
    for name, signed in made.items():
        yield f"record {name}", signed.record.data.hex()
        yield f"record {name} id", signed.record.id.hex()
        yield f"record {name} signature", signed.signature.hex()
    space = SpaceId(made["genesis"].record.id)
    shown = fault(space)
    yield "record fault", shown.record.data.hex()
    yield "record fault id", shown.record.id.hex()
    for name, signed in scored(space).items():
        yield f"record {name}", signed.record.data.hex()
        yield f"record {name} id", signed.record.id.hex()
    for name, signed in shared().items():
        yield f"record {name}", signed.record.data.hex()
        yield f"record {name} id", signed.record.id.hex()
        yield f"record {name} signature", signed.signature.hex()
    whole = OpSet(space).insert(made.values())
    early = OpSet(space).insert(list(made.values())[:7])
    for name, opset in (("early", early), ("whole", whole)):
        yield f"{name} record root", opset.root.hex()
        yield f"{name} visible root", opset.view.visible_root.hex()
        yield f"{name} merge id", opset.view.merge_id(RECIPE).hex()
    ticket = Ticket(space, BASE, bytes(16), bytes(32), ("192.0.2.1:7421",), "vectors")
    yield "ticket", ticket.encode()
    sealed = seal(OWNER.seed, b"passphrase", salt=bytes(16), nonce=bytes(12))
    yield "sealed key", sealed.decode()
    sums, planes = kept_sums(), list[Data]()
    packing = Packing(sums.grid, planes.append)
    packing.add(sums.part(range(3)))
    yield "kept sums 2", header_of(sums, LAST, packing.packed).hex()
    yield "kept sums 2 planes", b"".join(planes).hex()


LAST = Last(digest(Domain.TASK, b"emit"), "BF16", blob_id_of(b"tensor"))


def kept_sums() -> Accumulator:
    """Return sums of two limbs over three items, with members of every kind."""
    blob = blob_id_of(b"blob")
    offered = (
        (Member(blob, 10**9), Share(10**9), 2),
        (Member(["delta", "F32", blob], -7), Share(-7, Fraction(1, 3), is_tau=True), 1),
        (Member(blob, 0, (("p", "0.5"),), digest(Domain.CONTENT, b"")), Share(0), 1),
    )
    held = {member.key: (share, count) for member, share, count in offered}
    planes = np.array([[1.0, -2.5, 0.0], [0.0, 2.0**-40, -(2.0**-39)]])
    made_for = digest(Domain.SUMS, b"tensor")
    members = dict(sorted(held.items()))
    return Accumulator(made_for, 0, Grid(-5, 2), (2, 3), lambda _: planes, members)


def main() -> None:
    """Print the vectors."""
    json.dump(dict(vectors()), sys.stdout, indent=1)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
