"""What transfers of blobs have cost and brought, in numbers, and how fast they may go.

Owns the counters and the limits. Does not own what is transferred.
"""

from dataclasses import dataclass
from typing import Final

from crdtmerge.digest import CHUNK_BYTES
from crdtmerge.errors import BadInputError
from crdtmerge.sizes import amount_of

RATE_LEAST: Final = CHUNK_BYTES // 16
"""Bytes a second below which a chunk takes so long that it looks like silence."""


def rate_of(text: str) -> float:
    """Return a rate such as 100MB/s (thousands) or 20MiB/s (1024s); 0 is no limit.

    Raises:
        BadInputError: it is none, or it may be meant in bits, as 100Mb/s is.
    """
    hint = "write 100MB/s or 20MiB/s, in bytes; 0 is no limit"
    if text.strip().removesuffix("/s").endswith("b"):
        raise BadInputError(f"{text!r} is no rate: b means bits", hint=hint)
    amount = text.strip().upper().removesuffix("/S")
    return float(amount_of(amount, f"{text!r} is no rate", hint))


@dataclass(frozen=True, slots=True)
class Limits:
    """Bytes a second that may come and go, in all and for each peer; 0: without limit."""

    download: float = 0.0
    upload: float = 0.0
    peer_download: float = 0.0
    peer_upload: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what no chunk could pass in time.

        Raises:
            BadInputError: a limit is below `RATE_LEAST`.
        """
        for rate in (self.download, self.upload, self.peer_download, self.peer_upload):
            if rate and not rate >= RATE_LEAST:
                raise BadInputError(
                    f"a limit of {rate:g} bytes a second is below {RATE_LEAST}",
                    hint="a chunk of 1 MiB must pass while its peer waits for it",
                )


@dataclass(slots=True)
class Traffic:
    """What happened since the start; every number only grows."""

    bytes_in: int = 0
    """Bytes of chunks that came, were verified and stored."""
    wire_in: int = 0
    """Bytes of replies that came, encoded as they were, for whatever they were good."""
    chunks_in: int = 0
    blobs_in: int = 0
    bytes_out: int = 0
    """Bytes of the chunks that were sent, before they were encoded."""
    wire_out: int = 0
    chunks_out: int = 0
    refused: int = 0
    """Fetches of peers that found no free slot."""
    bad_chunks: int = 0
    """Chunks that had another digest, or no decoding."""
    bans: int = 0
    """Sources left out of a blob, because they sent what it is not."""
    lacking: int = 0
    """Times that a source did not have the blob, or a larger one than was signed."""
    away: int = 0
    """Times that a source did not answer, went away, or had no room."""
    stalls: int = 0
    """Streams that brought nothing for too long."""
    stolen: int = 0
    """Chunks taken over from a slow source."""
    hedged: int = 0
    """Chunks asked of a second source, for the first took long."""
    wasted: int = 0
    """Chunks that came although they were here."""
    resumed: int = 0
    """Fetches that began with chunks of an earlier one."""
    failed: int = 0
    """Fetches that ended without their blob."""
