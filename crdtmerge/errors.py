"""Every error that crdtmerge raises on purpose: whose fault it is, and what to do.

Owns the tree `CrdtMergeError` > `LocalError` / `RemoteError` > one leaf per broken rule.
A leaf carries the values as attributes, a one-line message, a hint and an exit code. Does
not own how they are printed: that is the command line's.

Exit codes: 1 a bug, 2 wrong usage, 3 bad input, 4 not found, 5 a conflict (busy, in use,
exists), 6 the machine (disk, permissions), 7 a peer or what it sent, 8 verification failed,
9 not allowed.
"""

from typing import ClassVar


class CrdtMergeError(Exception):
    """Base of all errors that crdtmerge raises on purpose."""

    exit_code: ClassVar[int] = 1
    hint: str = ""

    def __init__(self, message: str, *, hint: str = "") -> None:
        """Keep the one-line message; `hint` says what to do about it."""
        super().__init__(message)
        if hint:
            self.hint = hint


class LocalError(CrdtMergeError):
    """The fault lies on this machine: our input, our store, our configuration."""


class RemoteError(CrdtMergeError):
    """The fault lies with a peer or an author: what it sent breaks a rule."""

    exit_code = 7


# --- form ------------------------------------------------------------------------------


class EncodingError(RemoteError):
    """Bytes that are not the canonical encoding of a value within the limits."""


class MalformedRecordError(RemoteError):
    """A record whose bytes alone show that it breaks the form of its kind."""


class BadSignatureError(RemoteError):
    """A signature that the named key did not make over these bytes."""


class MalformedManifestError(RemoteError):
    """A manifest whose bytes alone show that it breaks its form."""


class MalformedProofError(MalformedRecordError):
    """A proof that does not lead from what it shows to the digest that it names."""


class MalformedTicketError(LocalError):
    """A ticket that was cut, mistyped, or made by another version."""

    exit_code = 3
    hint = "paste the whole ticket again, as `crdtmerge space ticket` printed it"


class MalformedMessageError(RemoteError):
    """A message of a peer that breaks the protocol."""


class MalformedAttestationError(MalformedMessageError):
    """An attestation whose bytes alone show that it breaks its form."""


class MessageTooLargeError(RemoteError):
    """A message above the stated limit."""

    def __init__(self, size: int, limit: int) -> None:
        """Keep both numbers, in bytes."""
        super().__init__(f"a message of {size} bytes is above the limit of {limit}")
        self.size = size
        self.limit = limit


# --- the set ---------------------------------------------------------------------------


class MissingAuthorityError(RemoteError):
    """A record that names a grant we have not received: it counts as not received."""

    def __init__(self, record: bytes, auth: bytes) -> None:
        """Keep the record id and the id of the grant that is missing."""
        super().__init__(
            f"record {record.hex()[:12]} hangs on grant {auth.hex()[:12]}, not received"
        )
        self.record = record
        self.auth = auth


class NotAdmissibleError(RemoteError):
    """A record whose author had no right to make it."""

    exit_code = 9

    def __init__(self, record: bytes, reason: str) -> None:
        """Keep the record id and the rule that it breaks."""
        super().__init__(f"record {record.hex()[:12]} is not admissible: {reason}")
        self.record = record
        self.reason = reason


class WrongSpaceError(RemoteError):
    """A record of another space."""


class NotAllowedError(LocalError):
    """This author's rank does not suffice for what was asked."""

    exit_code = 9


class UpgradeNeededError(LocalError):
    """The set holds a critical record of a kind that this version does not know."""

    exit_code = 9
    hint = "upgrade crdtmerge; this space uses a newer feature"


# --- content ---------------------------------------------------------------------------


class BadInputError(LocalError):
    """A file, folder or value given by the user that cannot be used."""

    exit_code = 3


class WrongPassphraseError(BadInputError):
    """A passphrase that does not open a key; nobody can tell in what it is wrong."""


class PassphraseNeededError(BadInputError):
    """A key must be opened or made, and no passphrase is at hand."""


class MalformedArchiveError(BadInputError):
    """A file that is said to hold a space, and was cut, damaged or made otherwise."""


class NotFoundError(LocalError):
    """Something named by the user does not exist here."""

    exit_code = 4


class ConflictError(LocalError):
    """Something is busy, in use, or already there."""

    exit_code = 5


class NodeNeededError(ConflictError):
    """What was asked takes peers, and no node runs here."""

    hint = "start `crdtmerge node run`"


class RestoredError(LocalError):
    """A home that may not know all that its author signed: to sign could make a fork."""

    exit_code = 5


class BusyError(ConflictError):
    """Another command is changing the home; it will be done soon."""


class MachineError(LocalError):
    """The machine refused: disk full, permissions, I/O."""

    exit_code = 6


class NoRoomError(MachineError):
    """The disk is full or its quota used up; nothing is wrong with what is there."""


class BaseMismatchError(BadInputError):
    """The base folder given is not the base of the space."""


class UnknownNameError(BadInputError):
    """An unknown strategy or parameter; the hint suggests the nearest names."""


class ContentMissingError(LocalError):
    """A visible contribution whose bytes have not arrived yet."""

    exit_code = 4
    hint = (
        "`crdtmerge fetch` brings them, and so does a running node by itself, but for what"
        " a quota keeps away; `crdtmerge status` tells how much is missing, and why"
    )


class CorruptBlobError(RemoteError):
    """Bytes that do not have the digest they were named by."""

    exit_code = 8


class MalformedChunkError(RemoteError):
    """An encoded chunk that breaks its form, or that would decode to another length."""

    exit_code = 8


class FaultyContributionError(RemoteError):
    """A visible contribution whose content breaks a rule, so that resolve refuses."""

    hint = (
        "`crdtmerge check ID` takes it out if its bytes prove that, else a maintainer can"
        " `crdtmerge ban` it; `--without ID` resolves locally"
    )

    def __init__(self, content: bytes, reason: str) -> None:
        """Keep the content id and the rule that it breaks."""
        super().__init__(f"contribution {content.hex()[:12]}: {reason}")
        self.content = content
        self.reason = reason


class NothingToResolveError(LocalError):
    """The space has no visible contribution."""

    exit_code = 4
    hint = "contribute a fine-tune first, or wait until records arrive"


class VerificationError(LocalError):
    """A model that is not what its resolution says."""

    exit_code = 8


class DamagedStateError(LocalError):
    """Derived data kept on this machine that is not what was written."""

    exit_code = 8
    hint = "remove it: it is made afresh from the contributions"


class ContractError(LocalError):
    """A limit of the numeric contract would be broken (headroom, sum of weights)."""

    exit_code = 3


# --- peers -----------------------------------------------------------------------------


class BackendError(MachineError):
    """A backend of the numeric contract that was asked for and does not work here."""


class PluginError(MachineError):
    """A strategy of another package that cannot be used here; the message says why."""


class UnreachableError(RemoteError):
    """No answer from a peer."""


class VersionsApartError(RemoteError):
    """A peer with which we share no version of the protocol: nobody lied."""

    def __init__(self, ours: tuple[int, int], theirs: tuple[int, int]) -> None:
        """Keep the oldest and the newest version of both sides; say who must upgrade."""
        self.we_upgrade = theirs[0] > ours[1]
        who = "this node" if self.we_upgrade else "the peer"
        super().__init__(
            f"no version of the protocol in common: the peer speaks {_range(theirs)},"
            f" we speak {_range(ours)}; {who} must be upgraded",
            hint="upgrade crdtmerge here, and start the node again"
            if self.we_upgrade
            else "ask who runs the peer to upgrade crdtmerge",
        )
        self.ours = ours
        self.theirs = theirs


def _range(versions: tuple[int, int]) -> str:
    oldest, newest = versions
    return str(oldest) if oldest == newest else f"{oldest} to {newest}"


class UnansweredError(RemoteError):
    """A peer that is heard but does not answer us: no lie, a link may lose the answers."""


class NotConvergedError(RemoteError):
    """Peers that do not agree with this home, or with fewer of them than asked for."""

    hint = (
        "`crdtmerge peers list` shows who is connected; waiting longer may do. Peers that"
        " run and never connect may refuse this node: was its author revoked or banned?"
    )


class RefusedError(RemoteError):
    """A peer refused what we asked, and said why."""


class OverloadedError(RefusedError):
    """A peer that has no room for one more of our calls: it is asked again later."""


class NotMemberError(RemoteError):
    """A caller whose transport key is none of the members'."""

    exit_code = 9
