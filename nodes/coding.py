"""Chunks as they travel: encoded against the base where that pays, and back.

Owns which form is used on the wire, and whose fault a failure is. Does not own the forms
(`crdtmerge.encodings`), when they pay (`crdtmerge.sync.thrift`), nor twins (`twins`).
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from crdtmerge.digest import BlobId
from crdtmerge.encodings import BASED, Form, decode, encode, form_of
from crdtmerge.errors import CrdtMergeError, LocalError

from .twins import Twin

ACCEPTED: Final = bytes(sorted(Form))
"""What we ask for: every form there is, one a byte."""
BYTES_MIN: Final = 1 << 16
"""Smaller blobs travel as they are: there is little to save."""

ReadChunk = Callable[[BlobId, int], bytes]
"""Returns a verified chunk of a blob that is here."""


class OwnBaseError(LocalError):
    """Our copy of a base cannot be read: no fault of who encoded against it."""


@dataclass(frozen=True, slots=True)
class Encoder:
    """Encodes the chunks of one blob for one peer; any thread may."""

    form: Form
    twin: Twin
    read_chunk: ReadChunk

    @classmethod
    def of(
        cls, twin: Twin | None, accepted: bytes, against: bytes, read: ReadChunk
    ) -> "Encoder | None":
        """Return one for what a peer accepts, if there is a form for it.

        The base counts only if the peer named our own twin (`twins`).
        """
        if twin is None:
            return None
        based = twin.against is not None and twin.against == against
        for form in (Form.DIFFERENCE, Form.PLANES):
            if form in accepted and (based or form not in BASED):
                return cls(form, twin, read)
        return None

    def encoded(self, index: int, raw: bytes) -> bytes:
        """Return a chunk as it travels: encoded, or as it is if that is no longer."""
        base = None
        if self.form in BASED:
            assert self.twin.against is not None
            with suppress(CrdtMergeError):
                base = self.read_chunk(self.twin.against, index)
            if base is None or len(base) != len(raw):
                return raw
        made = encode(raw, width=self.twin.width, against=base, form=self.form)
        return raw if made is None else made


def decoded(
    data: bytes, index: int, length: int, against: bytes, read_chunk: ReadChunk
) -> bytes:
    """Return the raw bytes of an encoded chunk; their digest is not yet checked.

    Raises:
        MalformedChunkError: it is none of this length.
        OwnBaseError: the base that we named cannot be read.
    """
    base = None
    if form_of(data) in BASED and against:
        try:
            base = read_chunk(BlobId(against), index)
        except CrdtMergeError as e:
            raise OwnBaseError(f"the base cannot be read: {e}") from e
    return decode(data, length=length, against=base)
