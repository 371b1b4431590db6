"""What a target of fuzzing is, and the one rule that all of them are held to.

Owns the words for whose bytes a decoder reads, and the check. Does not own which targets
there are (`targets`), nor how inputs are found (`engine`).

A target's `read` hands bytes to a decoder and asserts what must hold of what comes out.
The rule: it returns, or raises one of the target's `refusals`. Whatever else it raises is
a find: an error of Python's that a decoder let through, or a broken promise.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from crdtmerge.errors import BadInputError, CrdtMergeError, LocalError, RemoteError

Refusals = tuple[type[CrdtMergeError], ...]

PEER: Final[Refusals] = (RemoteError,)
"""What peers and authors send: whatever is wrong is their fault, never a bug of ours."""
USER: Final[Refusals] = (BadInputError,)
"""Files and texts that users give, from wherever they have them."""
HOME: Final[Refusals] = (LocalError,)
"""Files that this machine wrote itself, and that a disk or a person may have changed."""
NEVER: Final[Refusals] = ()
"""Bytes that say something or nothing, and are never an error."""

LENGTH: Final = 4096
"""Most bytes of one input where a target names no limit of its own."""


@dataclass(frozen=True, slots=True)
class Target:
    """One decoder.

    `of` is what it decodes, in words; `shape` is what a mutator may take an input for:
    `value` (a canonical value), `json`, `text` or `bytes`. `slow` targets (which load
    torch, or run a key derivation) are mutated less in the replay.
    """

    name: str
    of: str
    read: Callable[[bytes], None]
    refusals: Refusals
    seeds: Callable[[], Iterable[bytes]]
    shape: str = "bytes"
    length: int = LENGTH
    slow: bool = False


def accepts(target: Target, data: bytes) -> bool:
    """Tell whether a decoder takes `data`; it may refuse it as the table says.

    Raises:
        Exception: anything else that came out of it: a find.
    """
    try:
        target.read(data)
    except target.refusals:
        return False
    return True


def either(refusals: Refusals, *reads: Callable[[], None]) -> None:
    """Read all forms of an input: it is refused only if every one of them is.

    Raises:
        CrdtMergeError: the refusal of the last form.
    """
    refused: list[CrdtMergeError] = []
    for read in reads:
        try:
            read()
        except refusals as e:
            refused.append(e)
    if len(refused) == len(reads):
        raise refused[-1]
