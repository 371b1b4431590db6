"""The two keys of a home and their files: in the clear, sealed, or an agent's key.

Owns the forms of a key file, reading and unlocking a key, and changing both files at once.
Does not own the sealed form itself (`sealing`), keys that an agent holds (`agent`), where a
passphrase comes from (`cli.passphrases`), nor the rest of a home (`home`).

In the clear a key file is one line of hex, the seed. Any form tells the public part
without a passphrase, so what only reads never asks for one. An agent may hold the author's
key; the node's is always here, for it signs the certificate of each start.

A change is made of whole files beside the old ones. The name `node.key.new` commits it: it
is given last, when both new files are on the disk. Before, the old keys hold; after, who
opens the home to write finishes the change: a crash leaves both keys changed, or neither.
"""

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Final, TypeAlias

from crdtmerge.errors import BadInputError, NotFoundError, WrongPassphraseError
from crdtmerge.identity import KEY_BYTES, Purpose, Signer, SigningKey

from . import agent, sealing
from .agent import AgentKey
from .passphrase import AskPassphrase, Passphrase
from .private import read_private
from .sealing import NONCE_BYTES, SALT_BYTES, Cost, SealedKey
from .store.disk import SYSTEM_DISK, Disk, explained, write_file

AUTHOR_KEY_FILE: Final = "author.key"
NODE_KEY_FILE: Final = "node.key"
NEW_AUTHOR_KEY_FILE: Final = "author.key.new"
NEW_NODE_KEY_FILE: Final = "node.key.new"
"""Its presence commits a change of both keys."""
PART_NODE_KEY_FILE: Final = "node.key.part"
KEY_FILE_BYTES_MAX: Final = 1024

_PARSERS: Final[Mapping[bytes, Callable[[bytes], SealedKey | AgentKey]]] = {
    sealing.HEAD: sealing.parse,
    agent.HEAD: agent.parse,
}

KeyForm: TypeAlias = "Callable[[bytes], bytes]"
"""Turns a seed into what a key file holds."""

_CLEAR: Final = re.compile(rb"[0-9a-f]{%d}\n?" % (2 * KEY_BYTES))


def clear(seed: bytes) -> bytes:
    """Return the form that the file's mode alone protects."""
    return f"{seed.hex()}\n".encode()


def sealed_with(
    passphrase: Passphrase,
    entropy: Callable[[int], bytes],
    cost: Cost = sealing.DEFAULT_COST,
) -> KeyForm:
    """Return the form that `passphrase` opens, with fresh salt and nonce each time."""

    def form(seed: bytes) -> bytes:
        salt, nonce = entropy(SALT_BYTES), entropy(NONCE_BYTES)
        return sealing.seal(seed, passphrase.secret, salt=salt, nonce=nonce, cost=cost)

    return form


class HomeKey:
    """A key of a home: who it is at once, the means to sign when that is needed."""

    def __init__(
        self,
        path: Path,
        held: SigningKey | SealedKey | AgentKey,
        ask: Callable[[], Passphrase],
    ) -> None:
        """Hold what the file at `path` holds; `ask` finds the passphrase."""
        self.path = path
        self.public = held.public
        self.in_the_clear = isinstance(held, SigningKey)
        self.in_agent = isinstance(held, AgentKey)
        self._held = held
        self._ask = ask

    def ready(self) -> None:
        """Make sure that it can sign; a passphrase is asked for the first time only.

        Verbs call it before long work, so that nobody waits for it in vain.

        Raises:
            PassphraseNeededError: it is encrypted, and there is no passphrase.
            WrongPassphraseError: the passphrase does not open it.
            NotFoundError: no agent holds it now.
            MachineError: the agent does not sign.
        """
        held = self._opened_or_named()
        if isinstance(held, AgentKey):
            held.probe()

    def unlock(self) -> SigningKey:
        """Return the key itself, unlocking it if it is not; raises as `ready`, too.

        Raises:
            BadInputError: it is an agent's, and so not to be had.
        """
        held = self._opened_or_named()
        if isinstance(held, AgentKey):
            raise BadInputError(f"{self.path} names a key that an agent holds")
        return held

    def passphrase(self) -> Passphrase:
        """Return what opens it; raises as `ready` where nobody knows."""
        return self._ask()

    def _opened_or_named(self) -> SigningKey | AgentKey:
        if isinstance(self._held, SealedKey):
            self._held = self._opened(self._held, self._ask())
        return self._held

    def _opened(self, sealed: SealedKey, given: Passphrase) -> SigningKey:
        try:
            return sealed.open(given.secret)
        except WrongPassphraseError:
            message = f"the passphrase from {given.source} does not open {self.path}"
            hint = "nothing was changed; if it is right, restore the key from a backup"
            raise WrongPassphraseError(message, hint=hint) from None
        except BadInputError as e:
            raise _in_file(self.path, e) from None

    def sign(self, purpose: Purpose, message: bytes) -> bytes:
        """Return the signature, unlocking the key if it is not; raises as `ready`."""
        signer: Signer = self._opened_or_named()
        return signer.sign(purpose, message)


def read_keys(home: Path, ask: AskPassphrase) -> tuple[HomeKey, HomeKey]:
    """Return the author's and the node's key; one asking serves both.

    Raises:
        NotFoundError: a file is missing.
        MachineError: others may read it, or it is no file of ours.
        BadInputError: it holds no key.
    """

    @cache
    def once() -> Passphrase:
        return ask(home, author.public)

    author = HomeKey(home / AUTHOR_KEY_FILE, _read(home / AUTHOR_KEY_FILE), once)
    node = HomeKey(home / NODE_KEY_FILE, _read(home / NODE_KEY_FILE), once)
    if node.in_agent:
        message = f"{node.path} names a key of an agent; a node's key must be here"
        raise BadInputError(message, hint="restore it from a backup")
    return author, node


def read_key(path: Path, ask: AskPassphrase) -> HomeKey:
    """Return the key in a file by itself; raises as `read_keys`."""
    held = _read(path)
    once = cache(lambda: ask(path, held.public))
    return HomeKey(path, held, once)


def write_keys(
    home: Path,
    keys: tuple[bytes | AgentKey, bytes],
    form: KeyForm,
    disk: Disk = SYSTEM_DISK,
) -> None:
    """Write the keys of a new home, from their seeds; the caller syncs the folder."""
    for name, key in zip((AUTHOR_KEY_FILE, NODE_KEY_FILE), keys, strict=True):
        data = key.form() if isinstance(key, AgentKey) else form(key)
        with explained(f"creating {home}"):
            write_file(disk, home / name, data)


def change_keys(
    home: Path,
    keys: tuple[HomeKey, HomeKey],
    form: KeyForm,
    disk: Disk = SYSTEM_DISK,
) -> None:
    """Give both key files another form; the caller holds the home's lock.

    That of a key that an agent holds stays as it is.

    Raises:
        WrongPassphraseError: the present passphrase does not open one; nothing changed.
        MachineError: the disk refused; the home opens with the old keys or the new ones.
    """
    author, node = (
        AgentKey(key.public).form() if key.in_agent else form(key.unlock().seed)
        for key in keys
    )
    finish_change(home, disk)
    try:
        with explained(f"changing the keys of {home}"):
            write_file(disk, home / NEW_AUTHOR_KEY_FILE, author)
            write_file(disk, home / PART_NODE_KEY_FILE, node)
            disk.sync_folder(home)
            disk.rename(home / PART_NODE_KEY_FILE, home / NEW_NODE_KEY_FILE)
            disk.sync_folder(home)
    except BaseException:
        if not disk.exists(home / NEW_NODE_KEY_FILE):
            _forget_parts(home, disk)
        raise
    finish_change(home, disk)


def finish_change(home: Path, disk: Disk = SYSTEM_DISK) -> None:
    """Finish a change that a crash cut short, or forget one that had not been committed.

    The caller holds the home's lock.
    """
    with explained(f"changing the keys of {home}"):
        if not disk.exists(home / NEW_NODE_KEY_FILE):
            _forget_parts(home, disk)
            return
        with suppress(FileNotFoundError):  # it has its name already
            disk.rename(home / NEW_AUTHOR_KEY_FILE, home / AUTHOR_KEY_FILE)
        # SUBTLE: the mark may go only when the first rename is on the disk; a system may
        # bring two renames there in any order.
        disk.sync_folder(home)
        disk.rename(home / NEW_NODE_KEY_FILE, home / NODE_KEY_FILE)
        disk.sync_folder(home)


def _forget_parts(home: Path, disk: Disk) -> None:
    for name in (NEW_AUTHOR_KEY_FILE, PART_NODE_KEY_FILE):
        disk.remove(home / name)


def _read(path: Path) -> SigningKey | SealedKey | AgentKey:
    """Return the key that a file holds or names."""
    try:
        data = read_private(path, KEY_FILE_BYTES_MAX, follow=False)
    except FileNotFoundError:
        hint = "restore it from a backup; without it this home cannot sign"
        raise NotFoundError(f"the key {path} is missing", hint=hint) from None
    for head, parse in _PARSERS.items():
        if data.startswith(head):
            try:
                return parse(data)
            except BadInputError as e:
                raise _in_file(path, e) from None
    if not _CLEAR.fullmatch(data):
        message = f"{path} does not hold a key, in the clear or encrypted"
        raise BadInputError(message, hint="restore it from a backup")
    return SigningKey(bytes.fromhex(data.decode().strip()))


def _in_file(path: Path, error: BadInputError) -> BadInputError:
    return BadInputError(f"{path}: {error}", hint=error.hint)
