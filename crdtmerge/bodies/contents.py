"""The kinds about contributions: `add`, `remove`, `recipe`.

Owns their form and limits. Does not own what is visible of them (`policy`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Final

from crdtmerge.bodies.forms import (
    WEIGHT_UNITS_MAX,
    RecordId,
    not_a,
    require,
    sorted_ids,
)
from crdtmerge.codec import Value, format_decimal, parse_decimal
from crdtmerge.digest import BLOB_BYTES_MAX, DIGEST_BYTES, BlobId, ContentId
from crdtmerge.errors import BadInputError, MalformedRecordError
from crdtmerge.manifest import MANIFEST_BYTES_MAX
from crdtmerge.recipe import Recipe, recipe_from_value
from crdtmerge.rules import TAGS_MAX, check_tag

NOTE_CHARACTERS_MAX: Final = 1024


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
                return cls(tuple(RecordId(i) for i in sorted_ids(adds)))
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
                ids = tuple(RecordId(i) for i in sorted_ids(replaces))
                return cls(recipe_from_value(recipe), ids)
            case _:
                raise not_a("recipe [recipe, replaced ids]")


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
