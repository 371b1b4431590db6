"""A ticket is read whole or refused, whatever happened to it on the way."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtmerge.bodies import SpaceId
from crdtmerge.digest import ContentId
from crdtmerge.errors import MalformedTicketError
from nodes.ticket import Ticket, decode_ticket

TICKET = Ticket(
    space=SpaceId(bytes(range(32))),
    base=ContentId(bytes(range(32, 64))),
    secret=bytes(range(16)),
    node=bytes(range(64, 96)),
    addresses=("192.0.2.1:7421", "node.example:7421"),
    name="friends",
)


def test_a_ticket_survives_the_clipboard() -> None:
    """Line breaks, spaces and capitals that pasting adds change nothing."""
    text = TICKET.encode()
    folded = "\n".join(text[i : i + 60] for i in range(0, len(text), 60))
    assert decode_ticket(text) == TICKET
    assert decode_ticket(f"  {folded.upper()}\n") == TICKET


@given(st.data())
def test_one_wrong_character_is_noticed(data: st.DataObject) -> None:
    """No single changed or lost character gives another ticket."""
    text = TICKET.encode()
    at = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.sampled_from("abcdefghijklmnopqrstuvwxyz234567"))
    for broken in (text[:at] + text[at + 1 :], text[:at] + other + text[at + 1 :]):
        if broken != text:
            try:
                assert decode_ticket(broken) == TICKET  # unused padding bits only
            except MalformedTicketError:
                continue


@pytest.mark.parametrize(
    "text", ["", "hello", "crdtmerge1", "crdtmerge2abc", "x" * 9999]
)
def test_what_is_no_ticket_is_refused(text: str) -> None:
    """The message says that it is no ticket; the hint says to paste it again."""
    with pytest.raises(MalformedTicketError):
        decode_ticket(text)
