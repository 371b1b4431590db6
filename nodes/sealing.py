"""The sealed form of a key: a public part in the clear, the seed under a passphrase.

Owns the text of the form, the cost of a guess and its limits, and the sealing itself; in
nodes the sole user of a key derivation and a cipher. Does not own files (`keys`), nor what
a passphrase is (`passphrase`). Takes entropy as an argument.

    crdtmerge key 1
    public <the public key>
    scrypt <log2 N> <r> <p> <salt>
    chacha20-poly1305 <nonce> <the encrypted seed and its tag>
    checksum <of the lines above>

The checksum tells damage before anybody is asked for a passphrase. It is no defence: the
first three lines are authenticated by the cipher, so who edits them, and the checksum too,
is found out on opening. Reasons: docs/adr/0007-keys-at-rest.md.
"""

import re
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from crdtmerge.digest import Domain, digest
from crdtmerge.errors import BadInputError, MachineError, WrongPassphraseError
from crdtmerge.identity import AuthorId, SigningKey

HEAD: Final = b"crdtmerge key "
SALT_BYTES: Final = 16
NONCE_BYTES: Final = 12
CHECKSUM_BYTES: Final = 8
MEMORY_MAX: Final = 256 << 20
"""Most memory that opening a key may take, whatever its file says."""
WORK_MAX: Final = 1 << 22
"""Most of N * r * p that opening a key may take: four times what we write."""

_LINES: Final = re.compile(
    rb"(crdtmerge key 1\n"
    rb"public ([0-9a-f]{64})\n"
    rb"scrypt ([1-9][0-9]?) ([1-9][0-9]?) ([1-9][0-9]?) ([0-9a-f]{32})\n)"
    rb"chacha20-poly1305 ([0-9a-f]{24}) ([0-9a-f]{96})\n"
)
_CHECKSUM: Final = re.compile(rb"checksum ([0-9a-f]{16})\n")
_CHECKSUM_LINE: Final = len("checksum \n") + 2 * CHECKSUM_BYTES
_VERSION: Final = re.compile(rb"crdtmerge key ([1-9][0-9]{0,8})\n")


@dataclass(frozen=True, slots=True)
class Cost:
    """What one guess costs: 128 * N * r bytes, and time as N * r * p, N = 2**log_n."""

    log_n: int
    r: int
    p: int

    @property
    def memory(self) -> int:
        """Bytes that one guess takes."""
        return (self.r << self.log_n) * 128

    def check(self) -> None:
        """Refuse what would exhaust the machine of who opens the key.

        Raises:
            BadInputError: it is above the limits.
        """
        if self.log_n >= 16 * self.r:  # scrypt asks that N is below 2**(16 r)
            hint = "restore the key from a backup; this file was changed"
            raise BadInputError("the key's scrypt has no such numbers", hint=hint)
        if self.memory > MEMORY_MAX or (self.r * self.p << self.log_n) > WORK_MAX:
            raise BadInputError(
                f"opening the key would take {self.memory >> 20} MiB, {self.p} times:"
                " above the limit, and no key of ours",
                hint="restore the key from a backup; this file was changed",
            )


DEFAULT_COST: Final = Cost(17, 8, 1)
"""128 MiB and about a third of a second a guess."""


@dataclass(frozen=True, slots=True)
class SealedKey:
    """A key that a passphrase opens."""

    public: AuthorId
    _head: bytes
    _cost: Cost
    _salt: bytes
    _nonce: bytes
    _box: bytes

    def open(self, secret: bytes) -> SigningKey:
        """Return the key.

        Raises:
            WrongPassphraseError: `secret` does not open it, or the file was changed.
            MachineError: the memory that it takes is not there.
        """
        cipher = ChaCha20Poly1305(_derive(secret, self._salt, self._cost))
        try:
            key = SigningKey(cipher.decrypt(self._nonce, self._box, self._head))
        except InvalidTag:
            raise WrongPassphraseError("the passphrase does not open the key") from None
        if key.public != self.public:  # whoever sealed it knew the passphrase, and lied
            raise BadInputError("the key is not the one that its file names")
        return key


def seal(
    seed: bytes, secret: bytes, *, salt: bytes, nonce: bytes, cost: Cost = DEFAULT_COST
) -> bytes:
    """Return the sealed form of the key of `seed`; salt and nonce are fresh entropy."""
    assert len(salt) == SALT_BYTES
    assert len(nonce) == NONCE_BYTES
    head = (
        f"crdtmerge key 1\npublic {SigningKey(seed).public.hex()}\n"
        f"scrypt {cost.log_n} {cost.r} {cost.p} {salt.hex()}\n"
    ).encode()
    box = ChaCha20Poly1305(_derive(secret, salt, cost)).encrypt(nonce, seed, head)
    lines = head + f"chacha20-poly1305 {nonce.hex()} {box.hex()}\n".encode()
    return lines + f"checksum {_checksum(lines)}\n".encode()


def parse(data: bytes) -> SealedKey:
    """Return the sealed key that these bytes are; no passphrase is needed.

    Raises:
        BadInputError: it was cut or changed, is of another version, or costs too much.
    """
    version = _VERSION.match(data)
    if version and version[1] != b"1":
        message = f"the key has version {version[1].decode()}, this program reads 1"
        raise BadInputError(message, hint="upgrade crdtmerge")
    lines = data[:-_CHECKSUM_LINE]
    found = _LINES.fullmatch(lines)
    stated = _CHECKSUM.fullmatch(data[-_CHECKSUM_LINE:])
    if not found or not stated or stated[1].decode() != _checksum(lines):
        message = "the key was cut or changed"
        raise BadInputError(message, hint="restore it from a backup")
    cost = Cost(*(int(number) for number in found.groups()[2:5]))
    cost.check()
    public, salt, nonce, box = (bytes.fromhex(found[i].decode()) for i in (2, 6, 7, 8))
    return SealedKey(AuthorId(public), found[1], cost, salt, nonce, box)


def _checksum(lines: bytes) -> str:
    return digest(Domain.KEY_FILE, lines)[:CHECKSUM_BYTES].hex()


def _derive(secret: bytes, salt: bytes, cost: Cost) -> bytes:
    """Return the cipher's key; slow and large on purpose."""
    kdf = Scrypt(salt=salt, length=32, n=1 << cost.log_n, r=cost.r, p=cost.p)
    try:
        return kdf.derive(secret)
    except MemoryError:
        message = (
            f"opening a key takes {cost.memory >> 20} MiB of memory, not to be had"
        )
        raise MachineError(message, hint="free some memory, and try again") from None
