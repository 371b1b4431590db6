"""The verb `space prove`: shows that a set holds a record, or that it does not.

Owns what is told of it. Does not own the proof (`crdtmerge.membership`).
"""

import re
from typing import Final

from crdtmerge.bodies import RecordId
from crdtmerge.membership import check_membership, prove_membership

from . import arguments as given
from .live import Answer, Arguments, Context, Tell
from .selection import choose_space, find_record

_WHOLE: Final = re.compile(r"[0-9a-f]{64}")


def space_prove(context: Context, asked: Arguments, _tell: Tell) -> Answer:
    """Return the record root of a space, and the proof that a record is under it, or not.

    A whole id may be of a record that is not there; the start of one names one that is.

    Raises:
        NotFoundError: no record has an id that starts so.
        BadInputError: several have.
    """
    space = choose_space(context.spaces, given.optional_text(asked, "space"))
    opset = context.spaces.opset(space)
    text = given.text(asked, "id").strip().lower()
    whole = _WHOLE.fullmatch(text)
    record = RecordId(bytes.fromhex(text)) if whole else find_record(opset, text)
    trie = context.spaces.trie(space)
    proof = prove_membership(trie, record)
    return {
        "space": space.hex(),
        "name": context.spaces.name(space),
        "root": trie.root.hex(),
        "records": len(trie),
        "record": record.hex(),
        "held": check_membership(trie.root, record, proof),
        "proof": proof.to_bytes().hex(),
    }
