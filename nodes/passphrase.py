"""What a passphrase is, whoever gives it.

Owns the rules of its text, and reading one from a file. Does not own where a command looks
for it (`cli.passphrases`), nor what it opens (`sealing`).

Its bytes are the UTF-8 of the text in Unicode's form NFC: a letter with an accent is typed
as one character on one system and as two on another, and must open the same key.
"""

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeAlias

from crdtmerge.errors import BadInputError, NotFoundError, PassphraseNeededError
from crdtmerge.identity import AuthorId

from .private import read_private

PASSPHRASE_BYTES_MAX: Final = 1024
_LINE_END_BYTES: Final = 2


@dataclass(frozen=True, slots=True)
class Passphrase:
    """A passphrase and where it came from; only the latter is ever shown."""

    secret: bytes = field(repr=False)
    source: str


AskPassphrase: TypeAlias = "Callable[[Path, AuthorId], Passphrase]"
"""Finds the passphrase of a home, given its place and its author."""


def no_passphrase(home: Path, _author: AuthorId) -> Passphrase:
    """Find none: for what only reads.

    Raises:
        PassphraseNeededError: always.
    """
    raise PassphraseNeededError(f"the keys of {home} are encrypted")


def from_text(text: str, source: str) -> Passphrase:
    """Return the passphrase that `text` is.

    Raises:
        BadInputError: it is empty, too long, or cannot be typed on one line.
    """
    if not text:
        raise BadInputError(f"the passphrase from {source} is empty")
    if any(unicodedata.category(character) == "Cc" for character in text):
        message = f"the passphrase from {source} is not one line of plain text"
        raise BadInputError(message, hint="it may have no tabs nor control characters")
    try:
        secret = unicodedata.normalize("NFC", text).encode()
    except UnicodeEncodeError:
        # The error itself would show a piece of the secret.
        raise BadInputError(f"the passphrase from {source} is not UTF-8 text") from None
    if len(secret) > PASSPHRASE_BYTES_MAX:
        limit = f"at most {PASSPHRASE_BYTES_MAX} bytes are taken"
        raise BadInputError(f"the passphrase from {source} is too long: {limit}")
    return Passphrase(secret, source)


def from_file(path: Path) -> Passphrase:
    """Return the passphrase in a private file; one line end after it does not count.

    Raises:
        NotFoundError: there is no such file.
        MachineError: others may read it.
        BadInputError: it holds no passphrase.
    """
    try:
        data = read_private(path, PASSPHRASE_BYTES_MAX + _LINE_END_BYTES, follow=True)
    except FileNotFoundError:
        raise NotFoundError(f"there is no passphrase file {path}") from None
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise BadInputError(f"the passphrase from {path} is not UTF-8 text") from None
    return from_text(text.removesuffix("\n").removesuffix("\r"), str(path))
