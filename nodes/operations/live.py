"""What the verbs are given: the home, its spaces, and the running node if there is one.

Owns the types that verbs share. Does not own any verb, nor how a node answers.
"""

from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar

from crdtmerge.bodies import SpaceId
from crdtmerge.digest import BlobId
from crdtmerge.formats.progress import Progress
from crdtmerge.sync.messages import Heartbeat, ProbeReply

if TYPE_CHECKING:  # a verb without a home starts without its modules
    from crdtmerge.errors import VersionsApartError

    from ..attesting import Attested
    from ..holding import Held
    from ..home import Home
    from ..keys import HomeKey
    from ..quotas import Quotas
    from ..spaces import Spaces

T = TypeVar("T")

Answer: TypeAlias = "dict[str, object]"
"""What a verb answers: a JSON object."""
Arguments: TypeAlias = "Mapping[str, object]"
"""What a verb is asked: a JSON object, maybe from another process."""
Tell: TypeAlias = "Callable[[Mapping[str, object]], None]"
"""Receives progress as JSON objects with `work`, `done`, `total`, and the `unit` of these.

Where tensors are worked on, `tensors` has how many are done, and how many there are."""


class Run(Protocol):
    """Runs a coroutine to its end and returns its result."""

    def __call__(self, work: Coroutine[Any, Any, T], /) -> T:
        """Run `work` on an event loop and wait for it."""
        ...


class Live(Protocol):
    """What a running node knows that its home does not."""

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where peers reach this node."""
        ...

    @property
    def join_addresses(self) -> tuple[str, ...]:
        """Where a joiner reaches this node."""
        ...

    def connected(self) -> list[bytes]:
        """Return the transport keys of the peers with an open stream."""
        ...

    def apart(self) -> "Mapping[bytes, VersionsApartError]":
        """Return the peers with which we share no version of the protocol, and why."""
        ...

    def listed(self) -> Mapping[bytes, tuple[str, ...]]:
        """Return where the list that this node was started with says that nodes are."""
        ...

    def moved(self, node: bytes) -> None:
        """Take up the addresses that the home has for `node`, and try them at once."""
        ...

    def reports(self, space: SpaceId, /) -> Mapping[bytes, Heartbeat | None]:
        """Return the peers that share `space`, and where each last said it stands.

        A later report of a peer is another object, even if it says the same.
        """
        ...

    def attested(self, space: SpaceId, /) -> "Attested":
        """Return who attests what of a space, as this node has heard."""
        ...

    def want_tensors(self, space: SpaceId, node: bytes, /) -> None:
        """Ask `node` for the tensors behind what it attests, once it is connected."""
        ...

    def want_probes(self) -> None:
        """Ask a few peers to try our addresses; forget what they found before."""
        ...

    def probed(self) -> Mapping[bytes, ProbeReply | None]:
        """Return who was asked, and what each found; None until it says so."""
        ...

    def brought(self) -> int:
        """Return how many bytes came from peers since the node started."""
        ...

    def arriving(self) -> Mapping[BlobId, int]:
        """Return the blobs that are coming now, and how much of each is here."""
        ...

    def metrics(self) -> Answer:
        """Return what this node counts: the `text` that Prometheus reads, and JSON."""
        ...

    @property
    def quotas(self) -> "Quotas":
        """What one peer and one author may use here now."""
        ...

    def limit(self, quotas: "Quotas") -> None:
        """Hold to other quotas; those that `node run` was given stay."""
        ...

    def waiting(self, space: SpaceId) -> "Sequence[Held]":
        """Return how many records wait, by author: they said more than their quota."""
        ...

    def upkeep(self) -> Answer:
        """Return what this node did for its store by itself: checks and collections."""
        ...

    def needing(self) -> AbstractContextManager[Callable[[Iterable[BlobId]], None]]:
        """Lend what says which blobs a command waits for: they come first."""
        ...

    def now(self) -> float:
        """Return seconds that only grow."""
        ...

    def pause(self, seconds: float) -> None:
        """Let time pass, in a command's thread.

        Raises:
            ConflictError: the node stops.
        """
        ...


@dataclass(frozen=True, slots=True)
class Context:
    """Everything a verb works on; `live` is None without a running node.

    `clock` gives the seconds of the system's clock, which go on while nothing runs.
    """

    home: "Home"
    spaces: "Spaces"
    entropy: Callable[[int], bytes]
    run: Run
    live: Live | None
    clock: Callable[[], float]

    @property
    def key(self) -> "HomeKey":
        """The key that signs this home's records; `unlock` it before long work."""
        return self.home.author


def telling(tell: Tell) -> Callable[[Progress], None]:
    """Return a receiver of progress values that passes them on as JSON objects."""

    def report(progress: Progress) -> None:
        tell(
            {
                "work": progress.work,
                "done": progress.done,
                "total": progress.total,
                "unit": progress.unit,
                **({"tensors": list(progress.tensors)} if progress.tensors else {}),
            }
        )

    return report
