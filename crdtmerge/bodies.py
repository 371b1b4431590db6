"""The kinds of record: what each says, in its one canonical form.

Owns the bodies and their limits. Does not own the frame around a body, ids or signatures
(`record`), nor who may say what (`policy`).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Final, NewType

from crdtmerge.codec import Value, format_decimal, parse_decimal
from crdtmerge.digest import BLOB_BYTES_MAX, DIGEST_BYTES, BlobId, ContentId
from crdtmerge.errors import BadInputError, MalformedRecordError
from crdtmerge.faults import Fault
from crdtmerge.identity import KEY_BYTES, AuthorId, is_weak
from crdtmerge.manifest import MANIFEST_BYTES_MAX
from crdtmerge.recipe import Recipe, recipe_from_value
from crdtmerge.rules import TAGS_MAX, check_tag

NAME_CHARACTERS_MAX: Final = 64
NOTE_CHARACTERS_MAX: Final = 1024
IDS_MAX: Final = 1024
OWNERS_MAX: Final = 64
ADDRESSES_MAX: Final = 8
NONCE_BYTES: Final = 16
WEIGHT_UNITS_MAX: Final = 1000 * 10**9
"""Largest weight of one contribution: 1000, in units of 1e-9."""
RANKS: Final = (0, 1, 2)
"""Ranks that a grant can give: reader, contributor, maintainer."""

RecordId = NewType("RecordId", bytes)
SpaceId = NewType("SpaceId", bytes)
"""The record id of the space's genesis."""

_ADDRESS: Final = re.compile(r"[!-~]{1,249}:[0-9]{1,5}")


@dataclass(frozen=True, slots=True)
class Genesis:
    """Founds a space: its name, who may join, the base, the owners.

    `mode` is `members` (a grant is needed) or `open` (anybody may contribute).
    """

    KIND: ClassVar[str] = "genesis"
    name: str
    mode: str
    base: ContentId
    owners: tuple[AuthorId, ...]
    nonce: bytes

    def to_value(self) -> Value:
        """Return the body's plain value."""
        return [self.name, self.mode, self.base, list(self.owners), self.nonce]

    @classmethod
    def from_value(cls, value: Value) -> "Genesis":
        """Return the body that `value` is."""
        match value:
            case [str(name), str(mode), bytes(base), [*owners], bytes(nonce)]:
                require(_is_label(name), "the name is not 1 to 64 printable characters")
                require(mode in {"members", "open"}, f"unknown mode {mode!r}")
                require(len(base) == DIGEST_BYTES, "the base is no content id")
                require(0 < len(owners) <= OWNERS_MAX, "owners are missing or too many")
                require(len(nonce) == NONCE_BYTES, "the nonce has another length")
                keys = tuple(AuthorId(key) for key in _ids(owners))
                return cls(name, mode, ContentId(base), keys, nonce)
            case _:
                raise not_a("genesis [name, mode, base, owners, nonce]")


@dataclass(frozen=True, slots=True)
class Add:
    """Offers a contribution: its content id, manifest, weight, a note and tags.

    `manifest` is the blob that the manifest travels as, `manifest_bytes` its size, and
    `content_bytes` what the manifest declares; `weight` is in units of 1e-9; `evidence`
    is the evidence digest of the manifest, or empty. `tags` are sorted words of the
    author's choice, which recipes may select by.
    """

    KIND: ClassVar[str] = "add"
    content: ContentId
    manifest: BlobId
    manifest_bytes: int
    content_bytes: int
    weight: int
    evidence: bytes
    note: str
    tags: tuple[str, ...] = ()

    def to_value(self) -> Value:
        """Return the body's plain value; no tags are left out."""
        tags: list[Value] = [list(self.tags)] if self.tags else []
        return [
            self.content,
            self.manifest,
            self.manifest_bytes,
            self.content_bytes,
            format_decimal(self.weight),
            self.evidence,
            self.note,
            *tags,
        ]

    @classmethod
    def from_value(cls, value: Value) -> "Add":
        """Return the body that `value` is."""
        match value:
            case [
                bytes(content),
                bytes(manifest),
                int(manifest_bytes),
                int(content_bytes),
                str(weight),
                bytes(evidence),
                str(note),
                *tags,
            ]:
                units = parse_decimal(weight)
                sizes_hold = 0 < manifest_bytes <= MANIFEST_BYTES_MAX
                sizes_hold = sizes_hold and 0 <= content_bytes <= BLOB_BYTES_MAX
                require(len(content) == DIGEST_BYTES, "no content id")
                require(len(manifest) == DIGEST_BYTES, "no manifest blob")
                require(sizes_hold, "sizes are out of bounds")
                require(
                    0 <= units <= WEIGHT_UNITS_MAX, f"weight {weight} not in 0..1000"
                )
                require(len(evidence) in {0, DIGEST_BYTES}, "no evidence digest")
                require(len(note) <= NOTE_CHARACTERS_MAX, "the note is too long")
                return cls(
                    ContentId(content),
                    BlobId(manifest),
                    manifest_bytes,
                    content_bytes,
                    units,
                    evidence,
                    note,
                    _tags(tags),
                )
            case _:
                raise not_a("add [content, manifest, sizes, weight, evidence, note]")


@dataclass(frozen=True, slots=True)
class Remove:
    """Takes back exactly these adds; a concurrent add survives (add wins)."""

    KIND: ClassVar[str] = "remove"
    adds: tuple[RecordId, ...]

    def to_value(self) -> Value:
        """Return the body's plain value."""
        return [list(self.adds)]

    @classmethod
    def from_value(cls, value: Value) -> "Remove":
        """Return the body that `value` is."""
        match value:
            case [[_, *_] as adds]:
                return cls(tuple(RecordId(i) for i in _ids(adds)))
            case _:
                raise not_a("remove [add ids]")


@dataclass(frozen=True, slots=True)
class RecipeChange:
    """Sets the recipe of the space, in place of those it names."""

    KIND: ClassVar[str] = "recipe"
    recipe: Recipe
    replaces: tuple[RecordId, ...]

    def to_value(self) -> Value:
        """Return the body's plain value."""
        return [self.recipe.to_value(), list(self.replaces)]

    @classmethod
    def from_value(cls, value: Value) -> "RecipeChange":
        """Return the body that `value` is."""
        match value:
            case [recipe, [*replaces]]:
                ids = tuple(RecordId(i) for i in _ids(replaces))
                return cls(recipe_from_value(recipe), ids)
            case _:
                raise not_a("recipe [recipe, replaced ids]")


@dataclass(frozen=True, slots=True)
class Grant:
    """Gives an author a rank, with limits.

    `weight_cap` is in units of 1e-9, `records_max` bounds the author's `author_seq`,
    `bytes_max` what one manifest may declare.
    """

    KIND: ClassVar[str] = "grant"
    author: AuthorId
    rank: int
    weight_cap: int
    records_max: int
    bytes_max: int

    def to_value(self) -> Value:
        """Return the body's plain value."""
        cap = format_decimal(self.weight_cap)
        return [self.author, self.rank, cap, self.records_max, self.bytes_max]

    @classmethod
    def from_value(cls, value: Value) -> "Grant":
        """Return the body that `value` is."""
        match value:
            case [bytes(author), int(rank), str(cap), int(records), int(size)]:
                units = parse_decimal(cap)
                require(len(author) == KEY_BYTES, "no author key")
                require(rank in RANKS, f"rank {rank} cannot be granted")
                require(
                    0 <= units <= WEIGHT_UNITS_MAX, f"weight cap {cap} not in 0..1000"
                )
                require(0 <= records < 2**63, "records are out of bounds")
                require(0 <= size <= BLOB_BYTES_MAX, "bytes are out of bounds")
                return cls(AuthorId(author), rank, units, records, size)
            case _:
                raise not_a("grant [author, rank, weight cap, records, bytes]")


@dataclass(frozen=True, slots=True)
class Revoke:
    """Ends an author's rights; only the `prev` closure of `accepted` keeps its effect."""

    KIND: ClassVar[str] = "revoke"
    author: AuthorId
    accepted: tuple[RecordId, ...]

    def to_value(self) -> Value:
        """Return the body's plain value."""
        return [self.author, list(self.accepted)]

    @classmethod
    def from_value(cls, value: Value) -> "Revoke":
        """Return the body that `value` is."""
        match value:
            case [bytes(author), [*accepted]] if len(author) == KEY_BYTES:
                return cls(AuthorId(author), tuple(RecordId(i) for i in _ids(accepted)))
            case _:
                raise not_a("revoke [author, accepted ids]")


@dataclass(frozen=True, slots=True)
class Ban:
    """Keeps a content id, or all records of an author, out, whatever is added."""

    KIND: ClassVar[str] = "ban"
    subject: str
    target: bytes

    def to_value(self) -> Value:
        """Return the body's plain value."""
        return [self.subject, self.target]

    @classmethod
    def from_value(cls, value: Value) -> "Ban":
        """Return the body that `value` is."""
        match value:
            case ["content" | "author" as subject, bytes(target)]:
                require(len(target) == DIGEST_BYTES, "no content id or author key")
                return cls(subject, target)
            case _:
                raise not_a("ban [content or author, id]")


@dataclass(frozen=True, slots=True)
class Lift:
    """Lifts the ban or revocation that it names."""

    KIND: ClassVar[str] = "lift"
    target: RecordId

    def to_value(self) -> Value:
        """Return the body's plain value."""
        return [self.target]

    @classmethod
    def from_value(cls, value: Value) -> "Lift":
        """Return the body that `value` is."""
        match value:
            case [bytes(target)] if len(target) == DIGEST_BYTES:
                return cls(RecordId(target))
            case _:
                raise not_a("lift [record id]")


@dataclass(frozen=True, slots=True)
class NodeAddress:
    """Names a transport key of the author's node, and where it listens."""

    KIND: ClassVar[str] = "node"
    node: bytes
    addresses: tuple[str, ...]

    def to_value(self) -> Value:
        """Return the body's plain value."""
        return [self.node, list(self.addresses)]

    @classmethod
    def from_value(cls, value: Value) -> "NodeAddress":
        """Return the body that `value` is."""
        match value:
            case [bytes(node), [*addresses]] if len(addresses) <= ADDRESSES_MAX:
                require(len(node) == KEY_BYTES, "no node key")
                require(not is_weak(node), "anybody could use the node key")
                require(all(map(is_address, addresses)), "an address is not host:port")
                return cls(node, tuple(str(address) for address in addresses))
            case _:
                raise not_a("node [node key, addresses]")


@dataclass(frozen=True, slots=True)
class Unknown:
    """A body of a kind that this version does not know: kept, forwarded, no effect."""

    kind: str
    value: Value

    def to_value(self) -> Value:
        """Return the body's plain value."""
        return self.value


Body = (
    Genesis
    | Add
    | Remove
    | RecipeChange
    | Grant
    | Revoke
    | Ban
    | Lift
    | NodeAddress
    | Fault
    | Unknown
)

BODIES: Final = {
    body.KIND: body
    for body in (
        Genesis,
        Add,
        Remove,
        RecipeChange,
        Grant,
        Revoke,
        Ban,
        Lift,
        NodeAddress,
        Fault,
    )
}
CRITICAL: Final = frozenset({Fault.KIND})
"""Kinds whose critical flag is set, and of no other known one: a version that does not know
them must not merge on without their effect."""


def is_address(text: object) -> bool:
    """Tell whether `text` is host:port with a port of 1 to 65535."""
    if not isinstance(text, str) or not _ADDRESS.fullmatch(text):
        return False
    return 0 < int(text.rpartition(":")[2]) < 1 << 16


def _tags(rest: Sequence[object]) -> tuple[str, ...]:
    """Return the tags of an add: sorted, unique, and left out if there are none."""
    match rest:
        case []:
            return ()
        case [[_, *_] as found] if len(found) <= TAGS_MAX:
            tags = tuple(tag for tag in found if isinstance(tag, str))
        case _:
            raise not_a("add with up to 16 tags")
    require(len(tags) == len(found), "a tag is no text")
    require(all(a < b for a, b in pairwise(tags)), "tags are not sorted and unique")
    try:
        for tag in tags:
            check_tag(tag)
    except BadInputError as e:
        raise MalformedRecordError(str(e)) from e
    return tags


def _is_label(text: str) -> bool:
    return (
        0 < len(text) <= NAME_CHARACTERS_MAX
        and text.isprintable()
        and text.strip() == text
    )


def _ids(value: Sequence[Value]) -> tuple[bytes, ...]:
    """Return 32-byte ids that are sorted and unique, so that one list has one form."""
    require(len(value) <= IDS_MAX, f"more than {IDS_MAX} ids")
    ids = tuple(item for item in value if isinstance(item, bytes))
    whole = len(ids) == len(value) and all(len(i) == DIGEST_BYTES for i in ids)
    require(whole, "not 32-byte ids")
    require(all(a < b for a, b in pairwise(ids)), "ids are not sorted and unique")
    return ids


def require(holds: bool, broken: str) -> None:
    """Raise MalformedRecordError with the broken rule unless it holds."""
    if not holds:
        raise MalformedRecordError(broken)


def not_a(form: str) -> MalformedRecordError:
    """Return the error for a value of another form."""
    return MalformedRecordError(f"not a {form}")
