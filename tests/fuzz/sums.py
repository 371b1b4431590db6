"""Checksums made right: what a fuzzer cannot guess, so that it gets past them.

Owns how a checksum, a length or a seal is put around bytes, written a second time and on
purpose: these are the forms that docs/design.md and the decoders' own modules state.
"""

import base64

from crdtmerge.digest import Domain, digest


def ticket_of(payload: bytes) -> str:
    """Return the ticket whose payload this is."""
    checked = payload + digest(Domain.TICKET, payload)[:4]
    return "crdtmerge1" + base64.b32encode(checked).decode().rstrip("=").lower()


def sealed_of(lines: bytes) -> bytes:
    """Return a sealed key of these lines."""
    checksum = digest(Domain.KEY_FILE, lines)[:8].hex()
    return lines + f"checksum {checksum}\n".encode()


def sums_of(value: bytes) -> bytes:
    """Return the header of kept sums whose value this is."""
    numbers = (2).to_bytes(4, "little") + len(value).to_bytes(4, "little")
    return b"crdtsums" + numbers + value + digest(Domain.SUMS_HEADER, value)
