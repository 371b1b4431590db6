"""Author keys that another program holds: whatever speaks ssh-agent's protocol.

Owns the text that names such a key in a key file, finding it, and having it sign. Does not
own the protocol itself (paramiko, an optional extra, imported late), nor other forms of key
files (`keys`). OpenSSH's agent, gpg-agent with an Ed25519 key on a card, and others serve.

    crdtmerge agent key 1
    public <the public key>

The agent signs the very bytes that a key here would (`identity.tagged`), so nobody can tell
from a record who held the key. They begin with our purposes' text; what ssh has an agent
sign begins with a length or with "SSHSIG", so neither can be taken for the other.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from crdtmerge.errors import (
    BadInputError,
    BadSignatureError,
    MachineError,
    NotFoundError,
)
from crdtmerge.identity import (
    KEY_BYTES,
    SIGNATURE_BYTES,
    AuthorId,
    Purpose,
    tagged,
    verify,
)

if TYPE_CHECKING:
    import paramiko

HEAD: Final = b"crdtmerge agent key "
KEY_TYPE: Final = "ssh-ed25519"
"""Raw Ed25519. Keys of security keys ("sk-ssh-ed25519") sign other bytes than they get."""
SHOWN_MAX: Final = 16
"""Keys of an agent that an error names."""

_FORM: Final = re.compile(rb"crdtmerge agent key 1\npublic ([0-9a-f]{64})\n")
_HINT: Final = (
    "SSH_AUTH_SOCK names the agent; `ssh-add -l` lists its keys, `ssh-add FILE` adds to"
    " them"
)
_PROBE: Final = b"can you sign?"


@dataclass(frozen=True, slots=True)
class AgentKey:
    """A `Signer` whose secret is in an agent, never in this process."""

    public: AuthorId

    def form(self) -> bytes:
        """Return what a key file holds that names this key."""
        return b"crdtmerge agent key 1\npublic %s\n" % self.public.hex().encode()

    def sign(self, purpose: Purpose, message: bytes) -> bytes:
        """Return the signature over `purpose` and `message`, checked before it is used.

        Raises:
            NotFoundError: no agent holds the key now.
            MachineError: the agent refused, or signed something else.
        """
        with _keys() as keys:
            held = {_raw(key): key for key in keys}.get(self.public)
            if held is None:
                message_ = f"no agent holds the key {self.public.hex()[:12]}"
                raise NotFoundError(message_, hint=_HINT)
            signature = _signature(held, tagged(purpose, message))
        try:
            verify(self.public, purpose, message, signature)
        except BadSignatureError as e:
            raise MachineError(f"the agent signed something else: {e}") from e
        return signature

    def probe(self) -> None:
        """Have it sign something of no meaning; raises as `sign`."""
        self.sign(Purpose.PROBE, _PROBE)


def parse(data: bytes) -> AgentKey:
    """Return the key that a key file names.

    Raises:
        BadInputError: it is of another form.
    """
    found = _FORM.fullmatch(data)
    if found is None:
        message = (
            "the name of an agent's key was cut, changed, or is of a newer version"
        )
        raise BadInputError(message, hint="restore it from a backup, or upgrade")
    return AgentKey(AuthorId(bytes.fromhex(found[1].decode())))


def find(named: str) -> AgentKey:
    """Return the key of the agent with this fingerprint, comment, or public part in hex.

    Raises:
        NotFoundError: no Ed25519 key, or more than one, is named so.
        MachineError: no agent answers.
    """
    with _keys() as keys:
        known = [(_raw(key), _names(key)) for key in keys]
    ours = [(raw, names) for raw, names in known if raw is not None]
    found = {raw for raw, names in ours if named in (*names, raw.hex())}
    if len(found) == 1:
        return AgentKey(AuthorId(found.pop()))
    shown = ", ".join(" ".join(names) for _, names in ours[:SHOWN_MAX])
    has = f"it has {shown}" if shown else "it has no Ed25519 key"
    many = "more than one key" if found else "no Ed25519 key"
    raise NotFoundError(f"the agent has {many} named {named!r}; {has}", hint=_HINT)


@contextmanager
def _keys() -> "Iterator[tuple[paramiko.AgentKey, ...]]":
    """Connect to the agent for one piece of work: it may come and go meanwhile."""
    try:
        from paramiko import Agent, SSHException
    except ImportError:
        message = "keys of an agent need the package paramiko"
        hint = "install the extra: `pip install 'crdtmerge[agent]'`"
        raise MachineError(message, hint=hint) from None
    try:
        agent = Agent()
        try:
            yield agent.get_keys()
        finally:
            agent.close()
    except (SSHException, OSError) as e:
        raise MachineError(f"the agent does not do it: {e}", hint=_HINT) from e
    except (ValueError, TypeError) as e:
        # What paramiko makes of answers, comments and keys that break their form.
        raise MachineError(f"the agent answers nonsense: {e}", hint=_HINT) from e


def _raw(key: "paramiko.AgentKey") -> bytes | None:
    """Return the 32 bytes of an Ed25519 key; None of any other."""
    from paramiko import Message

    blob = Message(key.asbytes())
    if blob.get_string() != KEY_TYPE.encode():
        return None
    raw: bytes = blob.get_binary()
    return raw if len(raw) == KEY_BYTES else None


def _names(key: "paramiko.AgentKey") -> tuple[str, ...]:
    return tuple(str(name) for name in (key.fingerprint, key.comment) if name)


def _signature(key: "paramiko.AgentKey", data: bytes) -> bytes:
    from paramiko import Message

    blob = Message(key.sign_ssh_data(data))
    kind, signature = blob.get_string(), blob.get_binary()
    if kind != KEY_TYPE.encode() or len(signature) != SIGNATURE_BYTES:
        raise MachineError("the agent's signature has another form")
    return bytes(signature)
