"""The commands that reach a running node over its control socket.

Owns their threads, their progress on its way to the caller, and that none outlives the
node. Does not own what a command does (`operations`), nor the socket (`server`).
"""

import asyncio
import contextlib
import json
import threading
from collections import Counter
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from typing import Any, Final, TypeVar

from crdtmerge.errors import BadInputError, ConflictError, CrdtMergeError

from .operations.verbs import PATIENT, Operations

T = TypeVar("T")

COMMANDS_MAX: Final = 4
"""Commands at work at once; more wait."""
PATIENT_MAX: Final = 8
"""Commands that wait for peers at once, beside those; more are refused."""
PROGRESS_MAX: Final = 64
"""Progress that waits for a slow caller; what comes on top is left out."""

Replies = asyncio.Queue["Mapping[str, object] | None"]


class Commands:
    """The commands at work."""

    def __init__(self) -> None:
        """Start with none, on the running loop."""
        self._loop = asyncio.get_running_loop()
        self._threads = ThreadPoolExecutor(COMMANDS_MAX, "command")
        self._patient = ThreadPoolExecutor(PATIENT_MAX, "patient")
        self._patient_now = 0
        self._stopped = threading.Event()
        self._waiting: set[Future[Any]] = set()
        self.failed: Counter[str] = Counter()
        """Commands that ended with an error, by its kind, since the start."""

    def pause(self, seconds: float) -> None:
        """Let time pass in a command's thread.

        Raises:
            ConflictError: the node stops.
        """
        if self._stopped.wait(seconds):
            raise _stops()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run asynchronous work of a command on the node's loop; called in its thread.

        Raises:
            ConflictError: the node stops.
        """
        if self._stopped.is_set():
            work.close()
            raise _stops()
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        self._waiting.add(future)
        try:
            if self._stopped.is_set():  # it was, while this was added
                future.cancel()
            return future.result()
        except CancelledError as e:
            raise _stops() from e
        finally:
            self._waiting.discard(future)

    async def call(
        self, operations: Operations, request: bytes
    ) -> AsyncIterator[bytes]:
        """Run one command; yield its progress and its result.

        A command whose caller is gone is given up the next time that it tells of
        progress, as one that runs alone is by Ctrl-C.
        """
        try:
            verb, arguments = asked_for(request)
            patient = verb in PATIENT
            if patient and self._patient_now >= PATIENT_MAX:
                raise _crowded()
        except CrdtMergeError as e:
            yield json.dumps({"error": error_facts(e)}).encode()
            return
        replies, gone = Replies(), threading.Event()

        def tell(progress: Mapping[str, object]) -> None:
            if gone.is_set() or self._stopped.is_set():
                raise _stops()
            if replies.qsize() < PROGRESS_MAX:
                self._loop.call_soon_threadsafe(
                    replies.put_nowait, {"progress": progress}
                )

        def work() -> None:
            last: Mapping[str, object] | None = None
            try:
                last = {"result": operations.call(verb, arguments, tell)}
            except CrdtMergeError as e:
                self.failed[type(e).__name__] += 1
                last = {"error": error_facts(e)}
            finally:
                for reply in (last, None):
                    self._loop.call_soon_threadsafe(replies.put_nowait, reply)

        with self._place(patient=patient) as threads:
            done = self._loop.run_in_executor(threads, work)
            try:
                while (reply := await replies.get()) is not None:
                    yield json.dumps(reply).encode()
                await done
            finally:
                gone.set()
                done.cancel()  # if it has not begun

    @contextlib.contextmanager
    def _place(self, *, patient: bool) -> Iterator[ThreadPoolExecutor]:
        """Lend the threads for a command: those that wait do not hold up the others."""
        if not patient:
            yield self._threads
            return
        self._patient_now += 1
        try:
            yield self._patient
        finally:
            self._patient_now -= 1

    async def stop(self) -> None:
        """Give up what can be, and wait for the rest: they write to the home.

        Raises nothing of theirs: their callers were told, or are gone.
        """
        self._stopped.set()
        for future in tuple(self._waiting):
            future.cancel()
        for threads in (self._threads, self._patient):
            await asyncio.to_thread(threads.shutdown, wait=True, cancel_futures=True)


def asked_for(request: bytes) -> tuple[str, dict[str, object]]:
    """Return the verb of a request on the control socket, and its arguments.

    Raises:
        BadInputError: it is no request; what each argument must be, its verb knows.
    """
    try:
        asked = json.loads(request)
    except (ValueError, RecursionError) as e:
        raise BadInputError("a request on the control socket that is not JSON") from e
    match asked:
        case {"verb": str(verb), "arguments": dict(arguments)}:
            return verb, arguments
        case _:
            message = "a request on the control socket has no verb with arguments"
            raise BadInputError(message)


def _crowded() -> ConflictError:
    message = f"{PATIENT_MAX} commands wait for peers already"
    return ConflictError(message, hint="end one of them first")


def _stops() -> ConflictError:
    hint = "start it again, and repeat the command"
    return ConflictError("the node stops; the command was given up", hint=hint)


def error_facts(error: CrdtMergeError) -> dict[str, object]:
    """Return an error as JSON can carry it."""
    return {
        "type": type(error).__name__,
        "message": str(error),
        "hint": error.hint,
        "exit_code": error.exit_code,
    }
