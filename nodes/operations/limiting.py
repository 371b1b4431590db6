"""The verb `node_quotas`: what one peer and one author may use of this machine.

Owns how quotas are kept in a home, written and shown. Does not own what they mean
(`nodes.quotas`), nor holding to them (`nodes.node`).
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from crdtmerge.errors import BadInputError, CrdtMergeError, MachineError
from crdtmerge.sizes import amount_of, size_of

from ..quotas import DEFAULT, NAMES, Quotas
from . import arguments as given
from .live import Answer, Arguments, Context, Tell

if TYPE_CHECKING:
    from ..home import Home

_KEY: Final = "quotas"
MEANING: Final[Mapping[str, str]] = {
    "peer_cost": "signature checks, or as much other work, a second that a peer causes",
    "peer_records": "records a second that a peer sends",
    "peer_bytes": "bytes of messages a second that a peer sends",
    "peer_questions": "questions of a peer a second that are answered",
    "author_rate": "records of an author a second that are taken",
    "author_records": "records of an author that lie here",
    "author_bytes": "bytes of an author's contributions that come without being asked for",
}
BYTES: Final = frozenset({"peer_bytes", "author_bytes"})
TOTALS: Final = frozenset({"author_records", "author_bytes"})
RESET: Final = "default"
Settings = dict[str, float | int]


def node_quotas(context: Context, asked: Arguments, _tell: Tell) -> Answer:
    """Return the quotas of this home; `set` gives others, which hold from now on.

    Raises:
        BadInputError: there is no such quota, or it cannot be that.
        MachineError: the disk refused.
    """
    texts = given.pairs(asked, "set")
    kept = _kept(context.home)
    if texts:
        changed, reset = read(texts)
        kept = {n: v for n, v in (kept | changed).items() if n not in reset}
        quotas = with_settings(kept)
        text = " ".join(f"{name}={value}" for name, value in sorted(kept.items()))
        context.home.local.set_value(_KEY, text.encode())
        if context.live is not None:
            context.live.limit(quotas)
        else:
            context.spaces.author_bytes = quotas.author_bytes
    quotas = context.live.quotas if context.live else with_settings(kept)
    return {
        "quotas": [
            {
                "name": name.replace("_", "-"),
                "value": getattr(quotas, name),
                "default": getattr(DEFAULT, name),
                "unit": "bytes" if name in BYTES else "",
                "total": name in TOTALS,
                "meaning": MEANING[name],
            }
            for name in NAMES
        ],
        "burst_seconds": quotas.burst_s,
        "notes": [],
    }


def quotas_of(home: "Home") -> Quotas:
    """Return the quotas that the user of a home set, with the defaults of the others.

    Raises:
        MachineError: the store cannot be read, or is damaged.
    """
    return with_settings(_kept(home))


def _kept(home: "Home") -> Settings:
    text = (home.local.get_value(_KEY) or b"").decode(errors="replace")
    try:
        pairs = dict(item.split("=", 1) for item in text.split())
        kept, _ = read(pairs)
        with_settings(kept)
    except (ValueError, CrdtMergeError) as e:
        message = f"{home.path} is damaged: its quotas are {text!r}"
        raise MachineError(message) from e
    return kept


def with_settings(settings: Mapping[str, float | int]) -> Quotas:
    """Return the defaults with other values for some; raises as `Quotas` does."""
    values: dict[str, Any] = dict(settings)
    return replace(DEFAULT, **values)


def read(texts: Mapping[str, str]) -> tuple[Settings, frozenset[str]]:
    """Return the values that texts such as 2TB give to quotas, and which go back.

    Raises:
        BadInputError: there is no such quota, or the text is no number.
    """
    found: Settings = {}
    for text_name, text in texts.items():
        name = text_name.strip().replace("-", "_")
        if name not in NAMES:
            known = ", ".join(n.replace("_", "-") for n in NAMES)
            raise BadInputError(
                f"there is no quota {text_name!r}", hint=f"known: {known}"
            )
        if text.strip().lower() != RESET:
            found[name] = _number(name, text.strip())
    back = {name.strip().replace("-", "_") for name in texts} - found.keys()
    return found, frozenset(back)


def _number(name: str, text: str) -> float | int:
    if name == "author_bytes":
        return size_of(text)
    if name == "author_records":
        if text.isascii() and text.isdigit():
            return int(text)
        raise BadInputError(f"{text!r} is no number of records", hint="write 100000")
    unit = text.lower().removesuffix("/s")
    wrong, hint = f"{text!r} is no rate", "write 500 or 2MB, both a second"
    if name not in BYTES and unit.replace(".", "", 1).isdigit():
        return float(unit)
    if name in BYTES:
        return float(amount_of(unit, wrong, hint))
    raise BadInputError(wrong, hint=hint)
