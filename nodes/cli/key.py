"""The commands `key rotate`, `key spare` and `key recover`.

Owns their options, and the steps between key files and records. Does not own the files
(`nodes.next_key`), the records (`operations.succeeding`), nor passphrases (`passphrases`).

They work on a home that nothing else has open, for a node holds its keys in memory.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from crdtmerge.errors import BadInputError, ConflictError, NotFoundError

from . import render_keys
from .executor import alone
from .options import HomeOption, JsonOption, PassphraseFileOption
from .output import show
from .secrecy import AgentOption, NoPassphraseOption, form_for_new
from .settings import settings

if TYPE_CHECKING:
    from crdtmerge.identity import AuthorId

    from ..agent import AgentKey
    from ..keys import HomeKey
    from ..operations.live import Context
    from ..passphrase import AskPassphrase, Passphrase

GOING_ON: Final = "a rotation was broken off here: it was gone on with"
ENDED_ONLY: Final = (
    "a change of keys was broken off here, and is done now: to rotate, say it again"
)
SPARE_IN_THE_CLEAR: Final = (
    "the spare key lies in the clear (mode 0600): keep it where nobody else comes"
)
NOTHING_TO_END: Final = (
    "this key follows no other in a space here: nothing had to be said"
)
TOLD_LATER: Final = "others hear of it while `crdtmerge node run` runs on this home"

NewPassphraseFileOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Private file with a passphrase for the spare key; else you type it, twice.",
        show_default=False,
    ),
]


def rotate(
    context: typer.Context,
    home: HomeOption = None,
    *,
    agent: AgentOption = None,
    passphrase_file: PassphraseFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Change to a fresh author key in all spaces; stop the node first.

    The old key names the new one, which then ends it: what it signed so far stays, and what
    anybody signs with it afterwards counts nowhere. Rank, limits and contributions are the
    new key's too. If it is broken off, say it again.
    """
    from ..next_key import read_next, take_over

    chosen = settings(context, home, as_json=as_json, passphrase_file=passphrase_file)
    ask = _asking_once(chosen.passphrase_file)
    notes: list[str] = []
    with alone(chosen.home, ask) as here:
        was = here.key.public
        key = read_next(chosen.home, ask)
        if key is not None and _never_named(here, key):
            key = None  # whether its agent is still there, nobody knows
        if key is not None:
            notes.append(GOING_ON)
        elif _unfinished(here):
            notes.append(ENDED_ONLY)
        else:
            key = _fresh(here, chosen.home, agent, ask)
        named = _change_to(here, key) if key is not None else []
        if key is not None:
            take_over(chosen.home)
    with alone(chosen.home, ask) as here:
        facts = _retired(here, was, ())
    if facts["retired"]:
        notes.append(TOLD_LATER)
    facts |= {"named": named, "notes": [*_nowhere(named, facts), *notes]}
    show(facts, render_keys.changed, as_json=chosen.as_json)


def spare(
    context: typer.Context,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Where the spare key is to lie.")
    ],
    home: HomeOption = None,
    *,
    new_passphrase_file: NewPassphraseFileOption = None,
    no_passphrase: NoPassphraseOption = False,
    passphrase_file: PassphraseFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a spare key, and name it in all spaces as the one that follows yours.

    Keep it away from this machine: if this home's key is lost or stolen, `crdtmerge key
    recover FILE` takes its place. A key names one that follows it, once and for all. Said
    again with the same FILE, the key is named in the spaces that came since.
    """
    from ..keys import read_key
    from ..operations.succeeding import (
        NAMED_ALREADY,
        has_rights,
        name_everywhere,
        require_nameable,
    )

    chosen = settings(context, home, as_json=as_json, passphrase_file=passphrase_file)
    ask = _asking_once(chosen.passphrase_file)
    place = file.expanduser().absolute()
    if place.is_dir():
        message = f"{place} is a folder: name the file that the spare key is to be"
        raise BadInputError(message)
    with alone(chosen.home, ask) as here:
        made = not place.exists()
        if made:
            require_nameable(here, None)
            here.key.ready()
            _write_spare(place, new_passphrase_file, no_passphrase=no_passphrase)
        key = read_key(place, _asking_once(new_passphrase_file))
        require_nameable(here, key.public)
        key.ready()
        named = name_everywhere(here, key)
        facts = {
            "file": str(place),
            "key": key.public.hex(),
            "author": here.key.public.hex(),
            "made": made,
            "encrypted": not key.in_the_clear,
            "named": named,
            "notes": [
                *([NAMED_ALREADY] if has_rights(here) and not named else []),
                *(_nowhere(named, {}) if not has_rights(here) else []),
                *([SPARE_IN_THE_CLEAR] if key.in_the_clear else []),
            ],
        }
    show(facts, render_keys.spare, as_json=chosen.as_json)


def recover(
    context: typer.Context,
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="[FILE]", help="The spare key; left out, the key of this home."
        ),
    ] = None,
    home: HomeOption = None,
    *,
    keep: Annotated[
        list[str] | None,
        typer.Option(
            metavar="RECORD",
            help="Accept of the old key this record and what precedes it; may be repeated.",
            show_default=False,
        ),
    ] = None,
    key_passphrase_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Private file with the passphrase of the spare key; else as the home's.",
            show_default=False,
        ),
    ] = None,
    passphrase_file: PassphraseFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take up a spare key in place of a lost or stolen one, and end that one.

    In the old home, or in a fresh one (`crdtmerge init`): then join the spaces, or import
    them, before or after. In each space here the keys before this one are ended. What is
    known here of them stays, unless --keep says from where on a thief spoke.
    """
    chosen = settings(context, home, as_json=as_json, passphrase_file=passphrase_file)
    ask = _asking_once(chosen.passphrase_file)
    with alone(chosen.home, ask) as here:
        was = here.key.public
        if file is not None:
            _take_up(here, file, _asking_once(key_passphrase_file or passphrase_file))
    with alone(chosen.home, ask) as here:
        facts = _retired(here, was, keep or ())
    ended = facts["retired"]
    facts |= {"named": [], "notes": [TOLD_LATER if ended else NOTHING_TO_END]}
    show(facts, render_keys.changed, as_json=chosen.as_json)


def _asking_once(file: Path | None) -> "AskPassphrase":
    """Return what asks for a passphrase the first time; old and new key share it."""
    from .passphrases import present

    ask = present(file)
    answers: list[Passphrase] = []

    def once(home: Path, author: "AuthorId") -> "Passphrase":
        if not answers:
            answers.append(ask(home, author))
        return answers[0]

    return once


def _unfinished(here: "Context") -> bool:
    from ..operations.succeeding import earlier_keys

    return any(earlier_keys(here, space) for space in here.spaces.all())


def _never_named(here: "Context", key: "HomeKey") -> bool:
    """Tell whether a next key of an agent may be forgotten: no space hangs on it."""
    from crdtmerge.replica import named_successor

    me, spaces = here.key.public, here.spaces
    named = {named_successor(spaces.opset(space), me) for space in spaces.all()}
    return key.in_agent and key.public not in named


def _fresh(
    here: "Context", home: Path, agent: str | None, ask: "AskPassphrase"
) -> "HomeKey | None":
    """Make the next key, once it is clear that it can be named everywhere."""
    from ..next_key import form_like, keep_next, read_next
    from ..operations.succeeding import require_nameable

    require_nameable(here, None)
    here.key.ready()
    key: bytes | AgentKey = here.entropy(32)
    if agent is not None:
        from ..agent import find

        key = find(agent)
        key.probe()
        if key.public == here.key.public:
            raise ConflictError("that key of the agent is this home's already")
    keep_next(home, key, form_like(here.home.node, here.entropy))
    return read_next(home, ask)


def _change_to(here: "Context", key: "HomeKey") -> list[dict[str, object]]:
    from ..operations.succeeding import name_everywhere, require_nameable

    require_nameable(here, key.public)
    return name_everywhere(here, key)


def _write_spare(
    place: Path, new_passphrase_file: Path | None, *, no_passphrase: bool
) -> None:
    from ..next_key import write_spare
    from ..runtime import entropy

    form = form_for_new(new_passphrase_file, no_passphrase=no_passphrase)
    write_spare(place, form(entropy(32)))


def _take_up(here: "Context", file: Path, ask: "AskPassphrase") -> None:
    """Let the key in `file` take the place of this home's author key."""
    from ..keys import read_key
    from ..next_key import broken_off, form_like, keep_next, read_next, take_over
    from ..operations.succeeding import require_follower

    home = here.home.path
    path = file.expanduser().absolute()
    if not path.exists():
        hint = "give the file that `crdtmerge key spare` wrote"
        raise NotFoundError(f"no spare key is at {path}", hint=hint)
    key = read_key(path, ask)
    if key.public == here.key.public:
        return
    following = read_next(home, ask)
    if following is not None and following.public != key.public:
        raise broken_off()
    require_follower(here, key.public)
    form = form_like(here.home.node, here.entropy)
    keep_next(home, key.unlock().seed, form)
    take_over(home)


def _retired(
    here: "Context", was: bytes, keep: "tuple[str, ...] | list[str]"
) -> dict[str, object]:
    from ..operations.succeeding import retire_everywhere

    return {
        "author": here.key.public.hex(),
        "was": was.hex(),
        "retired": retire_everywhere(here, keep),
    }


def _nowhere(named: object, facts: Mapping[str, object]) -> list[str]:
    from ..operations.succeeding import NOWHERE

    return [] if named or facts.get("retired") else [NOWHERE]
