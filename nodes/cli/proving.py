"""The commands `space prove` and `space check-proof`: that a set holds a record, or not.

Owns their options and how they are shown. Does not own the proof (`crdtmerge.membership`):
who checks one needs no home, only the root, from somebody that it believes.
"""

import re
import sys
from typing import Annotated, Final

import typer

from crdtmerge.errors import BadInputError

from .executor import read
from .options import HomeOption, JsonOption, SpaceOption
from .output import show
from .render import Facts
from .settings import settings

_HEX: Final = re.compile(r"([0-9a-f]{2})*")


def prove(
    context: typer.Context,
    record: Annotated[
        str,
        typer.Argument(
            metavar="RECORD",
            help="A record's id, or the start of one that is there, as `log` prints it.",
        ),
    ],
    *,
    space: SpaceOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Prove that the set of a space holds a record, or that it does not."""
    chosen = settings(context, home, as_json=as_json)
    facts = read(chosen.home, "space_prove", {"id": record, "space": space})
    show(facts, _proved, as_json=chosen.as_json)


def check_proof(
    context: typer.Context,
    root: Annotated[
        str,
        typer.Argument(metavar="ROOT", help="The record root, as `prove` prints it."),
    ],
    record: Annotated[
        str, typer.Argument(metavar="RECORD", help="The whole id of the record.")
    ],
    proof: Annotated[
        str,
        typer.Argument(
            metavar="PROOF", help="The proof, as `prove` prints it; - reads it."
        ),
    ],
    *,
    as_json: JsonOption = False,
) -> None:
    """Check such a proof; that the root is one to believe is for you to know."""
    from crdtmerge.digest import DIGEST_BYTES
    from crdtmerge.membership import (
        MEMBERSHIP_BYTES_MAX,
        check_membership,
        read_membership,
    )

    chosen = settings(context, as_json=as_json)
    under = _bytes(root, "a root", DIGEST_BYTES)
    item = _bytes(record, "a record's id", DIGEST_BYTES)
    text = sys.stdin.read(2 * MEMBERSHIP_BYTES_MAX + 2) if proof == "-" else proof
    shown = read_membership(_bytes(text, "a proof"))
    held = check_membership(under, item, shown)
    facts: Facts = {"root": under.hex(), "record": item.hex(), "held": held}
    show(facts, _checked, as_json=chosen.as_json)


def _proved(facts: Facts) -> list[str]:
    return [
        f"{facts['name']}: a set of {facts['records']} records",
        *_checked(facts),
        f"  proof {facts['proof']}",
    ]


def _checked(facts: Facts) -> list[str]:
    verb = "holds" if facts["held"] else "does not hold"
    return [
        f"the set {verb} the record",
        f"  root {facts['root']}",
        f"  record {facts['record']}",
    ]


def _bytes(given: str, what: str, size: int | None = None) -> bytes:
    """Return the bytes that hexadecimal digits are."""
    text = given.strip().lower()
    fits = size is None or len(text) == 2 * size
    if not fits or not _HEX.fullmatch(text):
        wanted = f"{2 * size} hexadecimal digits" if size else "hexadecimal digits"
        raise BadInputError(f"{text[:20]!r} is not {what}: give {wanted}")
    return bytes.fromhex(text)
