"""The key that is to take the place of a home's author key, and its taking it.

Owns the file `author.key.next` and the order of its steps. Does not own the forms of key
files (`keys`), nor the records that let one key follow another (`operations.succeeding`).

The next key is on the disk before any record names it: a key that the spaces name and
nobody holds would be the end of an author. It keeps its name until it has taken the place
of the old one, so what was broken off is found, and gone on with.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Final

from crdtmerge.errors import ConflictError, NotFoundError

from .agent import AgentKey
from .keys import AUTHOR_KEY_FILE, HomeKey, KeyForm, clear, read_key, sealed_with
from .passphrase import AskPassphrase
from .store.disk import SYSTEM_DISK, Disk, explained, write_file

NEXT_KEY_FILE: Final = "author.key.next"
PART_NEXT_KEY_FILE: Final = "author.key.next.part"


def form_like(key: HomeKey, entropy: Callable[[int], bytes]) -> KeyForm:
    """Return the form of `key`'s file: in the clear, or under the same passphrase.

    Raises:
        PassphraseNeededError: it is encrypted, and there is no passphrase.
        WrongPassphraseError: the passphrase is not that of `key`.
    """
    if key.in_the_clear:
        return clear
    key.unlock()
    return sealed_with(key.passphrase(), entropy)


def read_next(home: Path, ask: AskPassphrase) -> HomeKey | None:
    """Return the key that is to be the author's, if there is one; raises as `read_key`."""
    try:
        return read_key(home / NEXT_KEY_FILE, ask)
    except NotFoundError:
        return None


def require_no_next(home: Path, disk: Disk = SYSTEM_DISK) -> None:
    """Refuse to change the form of a home's keys while another one waits beside them.

    It would keep its form, in the clear or under the passphrase before, and take over.

    Raises:
        ConflictError: a rotation was broken off.
    """
    if disk.exists(home / NEXT_KEY_FILE):
        raise broken_off()


def broken_off() -> ConflictError:
    """Return the refusal of a home where another key waits to be the author's."""
    message = "a rotation of this home's key was broken off"
    return ConflictError(message, hint="`crdtmerge key rotate` goes on with it first")


def keep_next(
    home: Path, key: bytes | AgentKey, form: KeyForm, disk: Disk = SYSTEM_DISK
) -> None:
    """Put the next key, from its seed, on the disk; the caller holds the home's lock.

    Raises:
        MachineError: the disk refused; there is no next key.
    """
    part = home / PART_NEXT_KEY_FILE
    with explained(f"keeping the next key of {home}"):
        disk.remove(part)
        write_file(disk, part, key.form() if isinstance(key, AgentKey) else form(key))
        disk.rename(part, home / NEXT_KEY_FILE)
        disk.sync_folder(home)


def take_over(home: Path, disk: Disk = SYSTEM_DISK) -> None:
    """Give the next key the place of the author's, whose file is gone then.

    Raises:
        MachineError: the disk refused; either key is the author's, and may go on.
    """
    with explained(f"changing the author key of {home}"):
        disk.rename(home / NEXT_KEY_FILE, home / AUTHOR_KEY_FILE)
        disk.sync_folder(home)


def write_spare(path: Path, data: bytes, disk: Disk = SYSTEM_DISK) -> None:
    """Write the file of a spare key, durably; no other file is overwritten.

    Raises:
        ConflictError: there is a file.
        MachineError: the disk refused.
    """
    if disk.exists(path):
        raise ConflictError(f"there is a file {path} already")
    with explained(f"writing {path}"):
        write_file(disk, path, data)
        disk.sync_folder(path.parent)
