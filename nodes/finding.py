"""How a node finds its peers beside what they announce: a list of the user's, and mDNS.

Owns reading the list: a file for one run of a node, with a node key and addresses a line.
Does not own what is kept (`crdtmerge peers add`), nor the local network (`local_network`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from crdtmerge.bodies import ADDRESSES_MAX, is_address
from crdtmerge.errors import BadInputError
from crdtmerge.identity import KEY_BYTES

LIST_BYTES_MAX: Final = 1 << 20
LISTED_MAX: Final = 4096
"""Nodes in one list."""
FORM: Final = "each line has a node's key and one address or more: KEY HOST:PORT"


@dataclass(frozen=True, slots=True)
class Finding:
    """Where one run of a node looks for peers, beside what it was told before."""

    listed: Mapping[bytes, tuple[str, ...]] = field(default_factory=dict)
    mdns: bool = False
    """Whether it tells the local network where it listens, and looks for members there."""


def read_list(path: Path) -> dict[bytes, tuple[str, ...]]:
    """Return the nodes and addresses in a file; `#` begins a comment.

    Raises:
        BadInputError: it cannot be read, or a line is not what it should be.
    """
    try:
        with path.open("rb") as file:
            data = file.read(LIST_BYTES_MAX + 1)
        text = data.decode("utf-8")
    except (OSError, UnicodeDecodeError) as e:
        raise BadInputError(f"cannot read the peers in {path}: {e}", hint=FORM) from e
    if len(data) > LIST_BYTES_MAX:
        raise BadInputError(f"{path} is above {LIST_BYTES_MAX} bytes", hint=FORM)
    listed: dict[bytes, tuple[str, ...]] = {}
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if words:
            node, addresses = _entry(words, f"line {number} of {path}")
            listed[node] = (*listed.get(node, ()), *addresses)[:ADDRESSES_MAX]
    if len(listed) > LISTED_MAX:
        raise BadInputError(f"{path} names {len(listed)} nodes, above {LISTED_MAX}")
    return listed


def _entry(words: list[str], where: str) -> tuple[bytes, tuple[str, ...]]:
    try:
        node = bytes.fromhex(words[0])
    except ValueError:
        node = b""
    if len(node) != KEY_BYTES:
        message = f"{where}: {words[0][:80]!r} is no node key of {2 * KEY_BYTES} digits"
        raise BadInputError(
            message, hint="`crdtmerge peers list --json` has whole keys"
        )
    if len(words) < 2:
        raise BadInputError(f"{where} has no address", hint=FORM)
    for address in words[1:]:
        if not is_address(address):
            raise BadInputError(
                f"{where}: {address[:80]!r} is not HOST:PORT", hint=FORM
            )
    return node, tuple(words[1:])
