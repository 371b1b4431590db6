"""Where a command finds the passphrase of a home.

Owns the order of the sources, the prompts and the keyring. Does not own what a passphrase
is (`nodes.passphrase`), nor what it opens (`nodes.keys`).

There is no option that takes a passphrase itself: other users of the machine see the words
of a command line, and shells keep them.
"""

import getpass
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from crdtmerge.errors import BadInputError, PassphraseNeededError
from crdtmerge.identity import AuthorId

from ..passphrase import AskPassphrase, Passphrase, from_file, from_text

PASSPHRASE_VARIABLE: Final = "CRDTMERGE_PASSPHRASE"  # noqa: S105  a name
PASSPHRASE_FILE_VARIABLE: Final = "CRDTMERGE_PASSPHRASE_FILE"  # noqa: S105
KEYRING_SERVICE: Final = "crdtmerge"
PROMPT: Final = "the prompt"


def present(file: Path | None) -> AskPassphrase:
    """Return what finds the passphrase of a home whose keys are encrypted.

    The order: the file of the option, CRDTMERGE_PASSPHRASE, CRDTMERGE_PASSPHRASE_FILE,
    the system's keyring, a prompt if there is a terminal.
    """

    def ask(home: Path, author: AuthorId) -> Passphrase:
        found = stated(file) or _from_keyring(author)
        if found is not None:
            return found
        if not on_terminal():
            raise PassphraseNeededError(
                f"the keys of {home} are encrypted, and no passphrase was given",
                hint="give `--passphrase-file FILE` before the verb, set"
                f" {PASSPHRASE_VARIABLE} or"
                f" {PASSPHRASE_FILE_VARIABLE}, put it into the system's keyring"
                f" (service {KEYRING_SERVICE}, user {author.hex()}), or use a terminal",
            )
        return from_text(_typed(f"passphrase of {home}: "), PROMPT)

    return ask


def stated(file: Path | None) -> Passphrase | None:
    """Return the passphrase that options or the environment state, if they do.

    A variable that is set but empty is an error: a secret that went missing must not
    become a home without one.
    """
    if file is not None:
        return from_file(file)
    if (text := os.environ.get(PASSPHRASE_VARIABLE)) is not None:
        return from_text(text, PASSPHRASE_VARIABLE)
    if (name := os.environ.get(PASSPHRASE_FILE_VARIABLE)) is not None:
        if not name:
            raise BadInputError(f"{PASSPHRASE_FILE_VARIABLE} is set, but empty")
        return from_file(Path(name).expanduser())
    return None


def chosen() -> Passphrase | None:
    """Let who sits at the terminal choose a passphrase, typed twice; none if empty.

    Raises:
        BadInputError: the two differ.
    """
    text = _typed("new passphrase (empty for none): ")
    if not text:
        return None
    found = from_text(text, PROMPT)
    if _typed("the same once more: ") != text:
        message = "the two passphrases differ"
        raise BadInputError(message, hint="nothing was changed; try again")
    return found


def on_terminal() -> bool:
    """Tell whether somebody can be asked."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def _typed(prompt: str) -> str:
    """Return what is typed without showing it."""
    try:
        return getpass.getpass(prompt)
    except EOFError:
        raise PassphraseNeededError("no passphrase was typed") from None


def _from_keyring(author: AuthorId) -> Passphrase | None:
    """Return what the system's keyring has for this author, if there is a keyring."""
    look = _keyring()
    text = look(author.hex()) if look else None
    return None if text is None else from_text(text, "the system's keyring")


def _keyring() -> Callable[[str], str | None] | None:
    """Return how to look a user up in the keyring; the package is an optional extra."""
    try:
        import keyring
        import keyring.errors
    except ImportError:
        return None

    def look(user: str) -> str | None:
        try:
            return keyring.get_password(KEYRING_SERVICE, user)
        except keyring.errors.KeyringError:  # none runs here, or it stays locked
            return None

    return look
