"""The kinds that found a space and name its nodes: `genesis` and `node`; and unknown ones.

Owns their form and limits. Does not own what owners may do (`policy`).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

from crdtmerge.bodies.forms import is_label, not_a, require, sorted_ids
from crdtmerge.codec import Value
from crdtmerge.digest import DIGEST_BYTES, ContentId
from crdtmerge.identity import KEY_BYTES, AuthorId, is_weak

OWNERS_MAX: Final = 64
ADDRESSES_MAX: Final = 8
NONCE_BYTES: Final = 16
RULES_DEFAULT: Final = (1, 0)
"""One owner suffices, and a fork has no effect: what a genesis means that says nothing."""

_ADDRESS: Final = re.compile(r"[!-~]{1,249}:[0-9]{1,5}")


@dataclass(frozen=True, slots=True)
class Genesis:
    """Founds a space: its name, who may join, the base, the owners.

    `mode` is `members` (a grant is needed) or `open` (anybody may contribute).
    `threshold` is how many owners must sign what an owner does; with `quarantine` a proven
    fork takes the rights of its author. What says `[1, 0]` of both leaves them out.
    """

    KIND: ClassVar[str] = "genesis"
    name: str
    mode: str
    base: ContentId
    owners: tuple[AuthorId, ...]
    nonce: bytes
    threshold: int = 1
    quarantine: bool = False

    def to_value(self) -> Value:
        """Return the body's plain value; the default of the last two is left out."""
        rules: list[Value] = [self.threshold, int(self.quarantine)]
        more: list[Value] = [rules] if rules != list(RULES_DEFAULT) else []
        return [self.name, self.mode, self.base, list(self.owners), self.nonce, *more]

    @classmethod
    def from_value(cls, value: Value) -> "Genesis":
        """Return the body that `value` is."""
        match value:
            case [str(name), str(mode), bytes(base), [*owners], bytes(nonce), *rest]:
                require(is_label(name), "the name is not 1 to 64 printable characters")
                require(mode in {"members", "open"}, f"unknown mode {mode!r}")
                require(len(base) == DIGEST_BYTES, "the base is no content id")
                require(0 < len(owners) <= OWNERS_MAX, "owners are missing or too many")
                require(len(nonce) == NONCE_BYTES, "the nonce has another length")
                keys = tuple(AuthorId(key) for key in sorted_ids(owners))
                rules = _rules(rest, len(keys))
                return cls(name, mode, ContentId(base), keys, nonce, *rules)
            case _:
                raise not_a("genesis [name, mode, base, owners, nonce]")


def _rules(rest: Sequence[Value], owners: int) -> tuple[int, bool]:
    """Return the threshold and whether forks are cut off; their default has no form."""
    match rest:
        case []:
            return RULES_DEFAULT[0], bool(RULES_DEFAULT[1])
        case [[int(threshold), int(quarantine)]]:
            require(0 < threshold <= owners, "the threshold is not 1 to all owners")
            require(quarantine in {0, 1}, "the quarantine flag is not 0 or 1")
            spelt = (threshold, quarantine) == RULES_DEFAULT
            require(not spelt, "what is the default is left out")
            return threshold, bool(quarantine)
        case _:
            raise not_a("genesis with [threshold, quarantine]")


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


def is_address(text: object) -> bool:
    """Tell whether `text` is host:port with a port of 1 to 65535."""
    if not isinstance(text, str) or not _ADDRESS.fullmatch(text):
        return False
    return 0 < int(text.rpartition(":")[2]) < 1 << 16
