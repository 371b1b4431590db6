"""What this home is told of compaction: which records went from its sets, and whose.

Owns the notice in the log, and the sums that `status` shows. Does not own what is dead
(`crdtmerge.policy`), nor when records go (`sets`).
"""

import logging
from dataclasses import dataclass
from typing import Final

from crdtmerge.bodies import IDS_MAX, RecordId, SpaceId
from crdtmerge.codec import Value, decode, encode
from crdtmerge.digest import DIGEST_BYTES
from crdtmerge.errors import EncodingError, MachineError

from .batches import Compacted
from .store.base import LocalStore

BYTES_MAX: Final = 64 << 10

_log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Gone:
    """What went from one set of this home so far."""

    records: int = 0
    own: int = 0
    """How many of them this home's author signed."""
    lost: tuple[RecordId, ...] = ()
    """Its adds that were live when an owner listed them, the last so many."""


class Compactions:
    """The notices of one home."""

    def __init__(self, local: LocalStore) -> None:
        """Keep the sums in `local`."""
        self._local = local

    def happened(self, space: SpaceId, news: Compacted) -> None:
        """Add up what went, and log it."""
        before = self.gone(space)
        lost = (*before.lost, *news.lost)[-IDS_MAX:]
        records, own = before.records + news.gone, before.own + news.own
        self._local.set_value(_name(space), encode([records, own, list(lost)]))
        name = space.hex()[:12]
        _log.warning(
            "space %s was compacted: %d records that this home held are gone, %d of them"
            " its author's own; %d of its own stay",
            *(name, news.gone, news.own, news.kept),
        )
        for add in news.lost:
            _log.warning(
                "space %s: an owner listed your contribution %s as dead, which nobody had"
                " removed: contribute it again to bring it back",
                *(name, add.hex()[:12]),
            )

    def gone(self, space: SpaceId) -> Gone:
        """Return what went from a set so far.

        Raises:
            MachineError: the store is damaged.
        """
        data = self._local.get_value(_name(space))
        if data is None:
            return Gone()
        try:
            value: Value = decode(data, BYTES_MAX)
        except EncodingError as e:
            raise _damaged() from e
        match value:
            case [int(records), int(own), [*lost]]:
                ids = tuple(RecordId(i) for i in lost if isinstance(i, bytes))
                if len(ids) == len(lost) and all(len(i) == DIGEST_BYTES for i in ids):
                    return Gone(records, own, ids)
            case _:
                pass
        raise _damaged()


def _name(space: SpaceId) -> str:
    return f"compacted {space.hex()}"


def _damaged() -> MachineError:
    return MachineError("what the store keeps of compactions is damaged")
