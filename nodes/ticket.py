"""Tickets: one pasteable string that opens the door of a space.

Owns the text form. A ticket holds the space id, the digest of its base, a revocable invite
secret, and where and who the inviting node is. It opens the door; only a grant gives
rights. Does not own the protocol behind the door (`join`).
"""

import base64
import binascii
from dataclasses import dataclass
from typing import Final

from crdtmerge.bodies import NAME_CHARACTERS_MAX, SpaceId, is_address
from crdtmerge.codec import decode, encode
from crdtmerge.digest import DIGEST_BYTES, ContentId, Domain, digest
from crdtmerge.errors import EncodingError, MalformedTicketError
from crdtmerge.identity import KEY_BYTES

PREFIX: Final = "crdtmerge1"
VERSION: Final = 1
SECRET_BYTES: Final = 16
CHECKSUM_BYTES: Final = 4
TICKET_CHARACTERS_MAX: Final = 4096


@dataclass(frozen=True, slots=True)
class Ticket:
    """What a joiner needs to know; `addresses` are those of the join port."""

    space: SpaceId
    base: ContentId
    secret: bytes
    node: bytes
    addresses: tuple[str, ...]
    name: str

    def encode(self) -> str:
        """Return the pasteable text; the inverse of `decode_ticket`."""
        payload = encode(
            [
                VERSION,
                self.space,
                self.base,
                self.secret,
                self.node,
                list(self.addresses),
                self.name,
            ]
        )
        checked = payload + digest(Domain.TICKET, payload)[:CHECKSUM_BYTES]
        return PREFIX + base64.b32encode(checked).decode().rstrip("=").lower()


def decode_ticket(text: str) -> Ticket:
    """Return the ticket that `text` is; white space from pasting is ignored.

    Raises:
        MalformedTicketError: it was cut, mistyped, or is of another version.
    """
    compact = "".join(text.split()).lower()
    if not compact.startswith(PREFIX) or len(compact) > TICKET_CHARACTERS_MAX:
        raise MalformedTicketError(f"a ticket starts with {PREFIX!r}; this does not")
    body = compact.removeprefix(PREFIX).upper()
    try:
        checked = base64.b32decode(body + "=" * (-len(body) % 8))
    except (binascii.Error, ValueError) as e:
        raise MalformedTicketError("the ticket holds a wrong character") from e
    payload, checksum = checked[:-CHECKSUM_BYTES], checked[-CHECKSUM_BYTES:]
    if digest(Domain.TICKET, payload)[:CHECKSUM_BYTES] != checksum:
        raise MalformedTicketError(
            "the ticket's checksum is wrong: it was cut or mistyped"
        )
    try:
        value = decode(payload, TICKET_CHARACTERS_MAX)
    except EncodingError as e:
        raise MalformedTicketError(str(e)) from e
    match value:
        case [int(version), *_] if version != VERSION:
            raise MalformedTicketError(
                f"the ticket has version {version}, this program reads {VERSION}",
                hint="upgrade crdtmerge",
            )
        case [
            int(),
            bytes(space),
            bytes(base),
            bytes(secret),
            bytes(node),
            [*addresses],
            str(name),
        ]:
            lengths = (len(space), len(base), len(secret), len(node))
            due = (DIGEST_BYTES, DIGEST_BYTES, SECRET_BYTES, KEY_BYTES)
            hosts = tuple(str(address) for address in addresses)
            if lengths == due and all(map(is_address, hosts)):
                short = name[:NAME_CHARACTERS_MAX]
                return Ticket(
                    SpaceId(space), ContentId(base), secret, node, hosts, short
                )
        case _:
            pass
    raise MalformedTicketError("the ticket's fields have another form")
