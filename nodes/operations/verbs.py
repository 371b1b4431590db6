"""The table of verbs: one set, two executors.

Owns the table of verbs and the call by name. Does not own who executes: the command
itself, holding the home's lock, or the running node, asked over its control socket. Both
call the same functions with JSON values in and out.
"""

from collections.abc import Callable
from typing import Final

from crdtmerge.bodies import SpaceId
from crdtmerge.errors import BadInputError
from crdtmerge.faults import Fault
from crdtmerge.forks import Fork

from ..compaction import Compactions
from ..home import Home
from ..spaces import Spaces
from ..upkeep.references import watch
from .adopting import store_adopt
from .approving import space_approve, space_pending
from .auditing import attested_tensors, audit
from .banning import ban, ban_lift
from .bringing import fetch
from .checking import recipe_check
from .compacting import space_compact
from .contributing import contribute, remove
from .converging import wait
from .evaluating import evaluation_add, evaluation_list
from .examining import store_await, store_fsck
from .exporting import space_export
from .faulting import check
from .forking import space_forks, space_forks_lift, space_forks_publish
from .granting import space_grant
from .history import log
from .importing import space_import
from .inspecting import inspect
from .leaving import space_leave
from .limiting import node_quotas, quotas_of
from .live import Answer, Arguments, Context, Live, Run, Tell
from .members import space_members
from .membership import space_create, space_join, space_ticket, space_ticket_revoke
from .metering import node_metrics
from .packing import store_pack, store_unpack
from .peers import peers_add, peers_list, peers_remove
from .proving import space_prove
from .publishing import announce_node, name_node, publish_fault, publish_fork
from .reaching import doctor_reach
from .reading import space_list, status, whoami
from .recipes import recipe_set, recipe_show
from .resolving import resolve
from .revoking import space_revoke, space_revoke_lift
from .storing import store_gc, store_pin, store_quota, store_show, store_unpin
from .verifying import verify

__all__ = [
    "PATIENT",
    "VERBS",
    "Answer",
    "Arguments",
    "Live",
    "Operations",
    "Run",
    "Tell",
]

VERBS: Final = {
    "whoami": whoami,
    "space_list": space_list,
    "status": status,
    "resolve": resolve,
    "verify": verify,
    "audit": audit,
    "attested_tensors": attested_tensors,
    "space_create": space_create,
    "space_join": space_join,
    "space_ticket": space_ticket,
    "space_ticket_revoke": space_ticket_revoke,
    "space_grant": space_grant,
    "space_revoke": space_revoke,
    "space_revoke_lift": space_revoke_lift,
    "space_members": space_members,
    "space_leave": space_leave,
    "space_approve": space_approve,
    "space_pending": space_pending,
    "space_prove": space_prove,
    "space_forks": space_forks,
    "space_forks_publish": space_forks_publish,
    "space_forks_lift": space_forks_lift,
    "space_compact": space_compact,
    "space_export": space_export,
    "space_import": space_import,
    "contribute": contribute,
    "remove": remove,
    "ban": ban,
    "ban_lift": ban_lift,
    "check": check,
    "evaluation_add": evaluation_add,
    "evaluation_list": evaluation_list,
    "inspect": inspect,
    "recipe_set": recipe_set,
    "recipe_show": recipe_show,
    "recipe_check": recipe_check,
    "log": log,
    "doctor_reach": doctor_reach,
    "peers_add": peers_add,
    "peers_remove": peers_remove,
    "peers_list": peers_list,
    "node_metrics": node_metrics,
    "node_quotas": node_quotas,
    "fetch": fetch,
    "wait": wait,
    "store_show": store_show,
    "store_gc": store_gc,
    "store_adopt": store_adopt,
    "store_pin": store_pin,
    "store_quota": store_quota,
    "store_unpin": store_unpin,
    "store_pack": store_pack,
    "store_unpack": store_unpack,
    "store_fsck": store_fsck,
    "store_await": store_await,
}
PATIENT: Final = frozenset(
    {"doctor_reach", "fetch", "wait", "store_await", "attested_tensors"}
)
"""Verbs that mostly wait: for peers, as long as it takes. They need a node."""


class Operations:
    """The verbs, bound to one open home."""

    def __init__(
        self,
        home: Home,
        spaces: Spaces,
        *,
        entropy: Callable[[int], bytes],
        run: Run,
        live: Live | None,
        clock: Callable[[], float],
    ) -> None:
        """Bind to `home`; `run` ends coroutines, `live` is the node if one runs here.

        `clock` gives the seconds of the system's clock.
        """
        if home.lock is not None:
            watch(home, spaces)
        self._context = Context(home, spaces, entropy, run, live, clock)
        spaces.author = home.author.public
        if live is None:
            spaces.author_bytes = quotas_of(home).author_bytes
        spaces.pinned = lambda: {(p.space, p.content) for p in home.marks.pins()}
        spaces.on_returned = home.anchor.returned
        spaces.on_compacted = Compactions(home.local).happened

    @property
    def context(self) -> Context:
        """What the verbs work on, for work on a home that is no verb."""
        return self._context

    def call(self, verb: str, arguments: Arguments, progress: Tell) -> Answer:
        """Return what `verb` answers; `progress` hears of long work.

        Raises:
            BadInputError: there is no such verb, or an argument has another type.
            CrdtMergeError: what the verb refuses.
        """
        found = VERBS.get(verb)
        if found is None:
            message = f"there is no command {verb!r} here"
            hint = "the running node may be of another version: restart it"
            raise BadInputError(message, hint=hint)
        return found(self._context, arguments, progress)

    def report_fault(self, space: SpaceId, fault: Fault) -> None:
        """Publish that a contribution of `space` can never be merged.

        Raises:
            LocalError: this author may not say it, or the store refused.
        """
        publish_fault(self._context, space, fault)

    def report_fork(self, space: SpaceId, fork: Fork) -> None:
        """Publish that an author signed two records of one number in `space`.

        Raises:
            LocalError: this author may not say it, or the store refused.
        """
        publish_fork(self._context, space, fork)

    def announce_node(self, node: bytes, addresses: tuple[str, ...]) -> None:
        """Publish where this node listens, in each space whose set does not say so."""
        announce_node(self._context, node, addresses)

    def name_node(self, node: bytes) -> None:
        """Publish the key of this node in each space that does not know it as ours."""
        name_node(self._context, node)
