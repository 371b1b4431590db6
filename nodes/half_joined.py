"""What this author signed for joins that failed half way.

Owns that such records are kept, and forgotten once the space is here. Does not own joining
(`join`).

A joiner says where its node is before it knows that the host will keep its word. A host may
take what it said and hang up; were the number used again for the next host, the first could
show both records: a fork, which convicts its author for ever.
"""

from collections.abc import Iterable
from typing import Final

from crdtmerge.bodies import SpaceId
from crdtmerge.codec import Value, decode, encode
from crdtmerge.errors import EncodingError, MachineError
from crdtmerge.record import SignedRecord, decode_record

from .store.sqlite import SqliteLocal

BYTES_MAX: Final = 16 << 20
"""What is remembered of one space, with the grants that it hangs on."""


def signed_in_vain(local: SqliteLocal, space: SpaceId) -> list[SignedRecord]:
    """Return what was signed for joins of `space`, with the grants that it hangs on.

    Raises:
        MachineError: the store is damaged.
    """
    data = local.get_value(_name(space))
    if not data:
        return []
    try:
        value = decode(data, BYTES_MAX)
    except EncodingError as e:
        raise _damaged() from e
    found: list[SignedRecord] = []
    for item in value if isinstance(value, list) else [value]:
        match item:
            case [bytes(record), bytes(signature)]:
                found.append(SignedRecord(decode_record(record), signature))
            case _:
                raise _damaged()
    return found


def remember(
    local: SqliteLocal, space: SpaceId, records: Iterable[SignedRecord]
) -> None:
    """Keep `records`, durably, beside what is remembered already.

    Raises:
        MachineError: there is no room for more, or the disk refused.
    """
    kept = {s.record.id: s for s in (*signed_in_vain(local, space), *records)}
    value: list[Value] = [[s.record.data, s.signature] for s in kept.values()]
    data = encode(value)
    if len(data) > BYTES_MAX:
        raise MachineError("too many joins of this space failed half way")
    local.set_value(_name(space), data)


def forget(local: SqliteLocal, space: SpaceId) -> None:
    """Forget what was remembered: the space is here, with all of it."""
    if local.get_value(_name(space)):
        local.set_value(_name(space), b"")


def _name(space: SpaceId) -> str:
    return f"joining/{space.hex()}"


def _damaged() -> MachineError:
    return MachineError("the store is damaged: what was signed for a join")
