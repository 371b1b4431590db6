"""Whether a node does its work, told by gRPC's own protocol (`grpc.health.v1`).

Owns which parts are told of, and when one is well. Does not own who may ask (`server`), nor
the command that asks (`crdtmerge node health`).

A probe of any kind that speaks the protocol can ask at the control socket, and members at
the sync port. A loop that stands still does not answer: probes have a deadline.
"""

from collections.abc import Coroutine, Mapping
from typing import Any, Final, Protocol

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio

from .wire import replica_pb2 as wire

STUCK_S: Final = 60.0
"""A node that is at one turn for longer than this does not do its work."""
ALL: Final = ""
"""The node as a whole: well if all its parts are."""
SYNC: Final = wire.DESCRIPTOR.services_by_name["Replica"].full_name
"""Members are served: it has started, and does not stop."""
TURNS: Final = "crdtmerge.turns"
"""What peers and commands bring is worked at."""
PARTS: Final = (ALL, SYNC, TURNS)

_SERVING: Final = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING: Final = health_pb2.HealthCheckResponse.NOT_SERVING


class Door(Protocol):
    """Who may ask at one port, and how many questions may stay open there."""

    async def admit(self, context: Any) -> bytes:
        """Return who calls; ends the call of who may not."""
        ...

    async def hold(
        self, context: Any, caller: bytes, work: Coroutine[Any, Any, None]
    ) -> None:
        """Run a question that stays open, as one of the calls of `caller`."""
        ...


class Health:
    """What is told of the parts of one node; nothing is well before it says so."""

    def __init__(self) -> None:
        """Start unwell."""
        self._statuses = aio.HealthServicer()
        self._told: dict[str, bool] = {}

    async def tell(self, *, serves: bool, busy_s: float) -> None:
        """Tell whether the node serves, and for how long it has been at one turn."""
        parts = {SYNC: serves, TURNS: busy_s < STUCK_S}
        for part, well in {ALL: all(parts.values()), **parts}.items():
            if self._told.get(part) != well:
                self._told[part] = well
                await self._statuses.set(part, _status(well))

    async def start(self) -> None:
        """Say that nothing is well yet."""
        await self.tell(serves=False, busy_s=STUCK_S)

    def serve_on(self, server: grpc.aio.Server, door: Door) -> None:
        """Let who may call `server` ask, as `door` says."""
        health_pb2_grpc.add_HealthServicer_to_server(
            _Guarded(self._statuses, self._told, door), server
        )


class _Guarded:
    """The servicer of one door."""

    def __init__(
        self,
        statuses: aio.HealthServicer,
        told: Mapping[str, bool],
        door: Door,
    ) -> None:
        self._statuses = statuses
        self._told = told
        self._door = door

    async def Check(self, request: Any, context: Any) -> Any:  # noqa: N802  the proto's name
        """Tell how a part is."""
        await self._door.admit(context)
        return await self._statuses.Check(request, context)

    async def List(self, _request: Any, context: Any) -> Any:  # noqa: N802
        """Tell how all parts are."""
        await self._door.admit(context)
        replies = {
            part: health_pb2.HealthCheckResponse(status=_status(well))
            for part, well in self._told.items()
        }
        return health_pb2.HealthListResponse(statuses=replies)

    async def Watch(self, request: Any, context: Any) -> None:  # noqa: N802
        """Tell how a part is, now and whenever that changes."""
        caller = await self._door.admit(context)
        if request.service not in PARTS:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such part")
        watching = self._statuses.Watch(request, context)
        await self._door.hold(context, caller, watching)


def _status(well: bool) -> Any:
    return _SERVING if well else _NOT_SERVING


async def check(channel: grpc.aio.Channel, seconds: float) -> dict[str, bool]:
    """Ask how all parts are; each is answered within `seconds`.

    Raises:
        grpc.aio.AioRpcError: it was not.
    """
    stub = health_pb2_grpc.HealthStub(channel)
    found = {}
    for part in PARTS:
        request = health_pb2.HealthCheckRequest(service=part)
        reply = await stub.Check(request, timeout=seconds)
        found[part] = reply.status == _SERVING
    return found
