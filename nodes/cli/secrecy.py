"""The commands that make or change the keys of a home: `init` and `passphrase`.

Owns their options, and whether a new key is encrypted. Does not own key files
(`nodes.keys`), nor where a passphrase comes from (`passphrases`).
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, TypeAlias

import typer

from crdtmerge.errors import BadInputError, PassphraseNeededError

from . import render
from .options import HomeOption, JsonOption, PassphraseFileOption
from .output import show
from .settings import settings

if TYPE_CHECKING:
    from ..home import Home
    from ..keys import KeyForm
    from ..passphrase import Passphrase

AgentOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="KEY",
        help="Sign with this Ed25519 key of an ssh-agent: fingerprint or comment.",
        show_default=False,
    ),
]
NoPassphraseOption: TypeAlias = Annotated[
    bool,
    typer.Option("--no-passphrase", help="Keep keys in the clear, and ask nothing."),
]
NODE_IN_THE_CLEAR: Final = (
    "the node's key lies in the clear, for your eyes only (mode 0600);"
    " `crdtmerge passphrase` encrypts it"
)
IN_THE_CLEAR: Final = (
    "the keys lie in the clear, for your eyes only (mode 0600);"
    " `crdtmerge passphrase` encrypts them"
)


def init(
    context: typer.Context,
    home: HomeOption = None,
    *,
    agent: AgentOption = None,
    passphrase_file: PassphraseFileOption = None,
    no_passphrase: NoPassphraseOption = False,
    as_json: JsonOption = False,
) -> None:
    """Make a home, with fresh keys for you and your node.

    The keys are encrypted with a passphrase: that of --passphrase-file, of
    CRDTMERGE_PASSPHRASE or CRDTMERGE_PASSPHRASE_FILE, or the one you type. Without
    any of these, in a script for example, they are kept in the clear, and a note says so.

    With --agent your author's key stays in ssh-agent, or in what speaks its protocol, such
    as gpg-agent with a card; the home holds its public part, and the node's key.
    """
    from crdtmerge.sync.messages import GENERATION_BYTES

    from ..agent import find
    from ..home import create_home
    from ..runtime import entropy

    chosen = settings(context, home, as_json=as_json, passphrase_file=passphrase_file)
    if no_passphrase and passphrase_file:
        raise typer.BadParameter(
            "it cannot go with --passphrase-file", param_hint="--no-passphrase"
        )
    held = find(agent) if agent is not None else None
    if held is not None:
        held.probe()
    new = None if no_passphrase else _for_new_home(chosen.home, chosen.passphrase_file)
    made = create_home(
        chosen.home,
        author_seed=held or entropy(32),
        node_seed=entropy(32),
        generation=entropy(GENERATION_BYTES),
        form=_form(new),
    )
    with made:
        facts = {
            **_facts(made),
            "notes": [] if made.encrypted or no_passphrase else [_in_the_clear(made)],
        }
    show(facts, render.home, as_json=chosen.as_json)


def passphrase(
    context: typer.Context,
    home: HomeOption = None,
    *,
    new_passphrase_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Private file with the new passphrase; else you type it, twice.",
            show_default=False,
        ),
    ] = None,
    remove: Annotated[
        bool, typer.Option("--remove", help="Keep the keys in the clear from now on.")
    ] = False,
    passphrase_file: PassphraseFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Set, change or remove the passphrase of a home's keys; stop its node first.

    Whoever has a home's keys speaks for its author. A passphrase keeps them from who
    copies the disk or a backup. What only reads never asks for it, nor does a command
    while a node runs on the home. The others, and `node run`, take it from the first of:

    1. the file that --passphrase-file names (no other user may read it);

    2. the variable CRDTMERGE_PASSPHRASE;

    3. the file that CRDTMERGE_PASSPHRASE_FILE names;

    4. the system's keyring, service "crdtmerge", user the author's id, if the extra
    crdtmerge[keyring] is installed;

    5. a prompt, on a terminal.
    """
    from ..home import open_home
    from ..keys import change_keys
    from ..next_key import require_no_next
    from .passphrases import present

    chosen = settings(context, home, as_json=as_json, passphrase_file=passphrase_file)
    if remove and new_passphrase_file:
        raise typer.BadParameter(
            "it cannot go with --new-passphrase-file", param_hint="--remove"
        )
    ask = present(chosen.passphrase_file)
    with open_home(chosen.home, write=True, ask=ask) as opened:
        require_no_next(opened.path)
        keys = (opened.author, opened.node)
        for key in keys:
            key.ready()
        change_keys(opened.path, keys, _form(_new(new_passphrase_file, remove=remove)))
    with open_home(chosen.home, write=False) as changed:
        show(_facts(changed), render.rekeyed, as_json=chosen.as_json)


def _facts(home: "Home") -> dict[str, object]:
    return {
        "home": str(home.path),
        "author": home.author.public.hex(),
        "node": home.node.public.hex(),
        "encrypted": home.encrypted,
        "agent": home.author.in_agent,
    }


def _in_the_clear(home: "Home") -> str:
    return NODE_IN_THE_CLEAR if home.author.in_agent else IN_THE_CLEAR


def _form(new: "Passphrase | None") -> "KeyForm":
    """Return the form of key files under the passphrase, or in the clear without one."""
    from ..keys import clear, sealed_with
    from ..runtime import entropy

    return clear if new is None else sealed_with(new, entropy)


def form_for_new(file: Path | None, *, no_passphrase: bool) -> "KeyForm":
    """Return the form of a new key that is no home's: sealed, if anybody says with what."""
    from ..passphrase import from_file
    from .passphrases import chosen, on_terminal

    if no_passphrase and file is not None:
        raise typer.BadParameter(
            "it cannot go with --new-passphrase-file", param_hint="--no-passphrase"
        )
    if file is not None:
        return _form(from_file(file))
    return _form(chosen() if on_terminal() and not no_passphrase else None)


def _for_new_home(home: Path, file: Path | None) -> "Passphrase | None":
    """Return the passphrase that a new home is to have."""
    from ..home import require_empty
    from .passphrases import chosen, on_terminal, stated

    found = stated(file)
    if found is not None or not on_terminal():
        return found
    require_empty(home)  # before anybody thinks of a passphrase
    return chosen()


def _new(file: Path | None, *, remove: bool) -> "Passphrase | None":
    """Return the passphrase that keys are to have from now on, or none.

    Raises:
        PassphraseNeededError: nobody says which.
        BadInputError: it is empty.
    """
    from ..passphrase import from_file
    from .passphrases import chosen, on_terminal

    if remove:
        return None
    if file is not None:
        return from_file(file)
    ways = "give --new-passphrase-file or --remove"
    if not on_terminal():
        message = "no new passphrase was given"
        raise PassphraseNeededError(message, hint=f"{ways}, or use a terminal")
    found = chosen()
    if found is None:
        message = "the new passphrase is empty"
        raise BadInputError(message, hint="`--remove` keeps the keys in the clear")
    return found
