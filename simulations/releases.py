"""Releases of the program, as other nodes see them: what each speaks.

Owns what a node of another release says in its hello, and which messages it knows. Does not
own when a machine is upgraded (`weather`), nor what a node does with a hello: that is the
real code. What there is of older nodes here is what `proto/README.md` says of them: they
name fewer features, or no range of versions, and refuse a message that they do not know.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from crdtmerge.errors import CrdtMergeError
from crdtmerge.sync.messages import (
    FEATURES,
    PROTOCOL_VERSION,
    SPEAKS_ATTESTATIONS,
    SPEAKS_COMPARE,
    SPEAKS_GOODBYE,
    SPEAKS_LOANS,
    SPEAKS_PEERS,
    SPEAKS_PROBES,
    Attestations,
    AttestationsRequest,
    CompareReply,
    CompareRequest,
    Goodbye,
    Hello,
    Message,
    PeersReply,
    PeersRequest,
    ProbeReply,
    ProbeRequest,
    TensorsReply,
    TensorsRequest,
)

NEEDS: Final[Mapping[type[Message], int]] = {
    Attestations: SPEAKS_ATTESTATIONS,
    AttestationsRequest: SPEAKS_ATTESTATIONS,
    TensorsReply: SPEAKS_ATTESTATIONS,
    TensorsRequest: SPEAKS_ATTESTATIONS,
    CompareReply: SPEAKS_COMPARE,
    CompareRequest: SPEAKS_COMPARE,
    PeersReply: SPEAKS_PEERS,
    PeersRequest: SPEAKS_PEERS,
    ProbeReply: SPEAKS_PROBES,
    ProbeRequest: SPEAKS_PROBES,
    Goodbye: SPEAKS_GOODBYE,
}
"""The feature that a message belongs to; the others belong to the protocol's beginning."""


class NotUnderstoodError(CrdtMergeError):
    """A node said what its peer does not know: a bug of ours."""


@dataclass(frozen=True, slots=True)
class Release:
    """What one release speaks.

    It is made of this one: `features` that it lacks are taken out of the hellos that go out
    and come in, so that neither side uses them.
    """

    name: str
    features: int = FEATURES
    oldest: int = 0
    """The oldest version; 0 is of a node that names no range."""
    newest: int = 0

    def says(self, message: Message) -> Message:
        """Return what a node of this release says in place of `message`."""
        if not isinstance(message, Hello):
            return message
        return replace(
            message,
            version=self.oldest or PROTOCOL_VERSION,
            features=self.features,
            oldest=self.oldest,
            newest=self.newest,
        )

    def hears(self, message: Message) -> Message:
        """Return what a node of this release makes of `message`.

        Raises:
            NotUnderstoodError: it knows no such message, and would hang up.
        """
        if isinstance(message, Hello):
            unknown = FEATURES & ~self.features
            return replace(message, features=message.features & ~unknown)
        needs = NEEDS.get(type(message), 0)
        if needs & ~self.features:
            raise NotUnderstoodError(f"{self.name} knows no {type(message).__name__}")
        return message


_RANGE: Final = (PROTOCOL_VERSION, PROTOCOL_VERSION)
CURRENT: Final = Release("this release", FEATURES, *_RANGE)
RELEASES: Final = (
    Release("the first release", 0),
    Release("one without comparisons", SPEAKS_ATTESTATIONS),
    Release("one without a range of versions", FEATURES),
    Release("one without loans", FEATURES & ~SPEAKS_LOANS, *_RANGE),
    Release("the next release", FEATURES | 1 << 20, 1, PROTOCOL_VERSION + 1),
    Release("one too new", FEATURES, PROTOCOL_VERSION + 1, PROTOCOL_VERSION + 1),
)
"""What a machine may come back as; the last shares no version with this one."""
