"""Commands of a running node: none outlives it, or works on for a caller that is gone."""

import asyncio
import json
import threading
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, cast

import pytest

from crdtmerge.errors import ConflictError, NotFoundError
from nodes.commands import PATIENT_MAX, PROGRESS_MAX, Commands
from nodes.operations.verbs import Operations

WAIT = json.dumps({"verb": "wait", "arguments": {}}).encode()
REQUEST = json.dumps({"verb": "any", "arguments": {}}).encode()
Tell = Callable[[Mapping[str, object]], None]


class Work:
    """Stands in for the verbs: does what a test says, and notes how it ended."""

    def __init__(self, do: Callable[[Tell], object]) -> None:
        self.do = do
        self.begun, self.over = threading.Event(), threading.Event()
        self.ended: list[str] = []

    def call(self, _verb: str, _arguments: object, tell: Tell) -> object:
        """Do it."""
        self.begun.set()
        try:
            answer = self.do(tell)
        except BaseException as e:
            self.ended.append(type(e).__name__)
            self.over.set()
            raise
        self.ended.append("done")
        self.over.set()
        return answer

    @property
    def operations(self) -> Operations:
        """It, as what it stands in for."""
        return cast(Operations, self)


def run(test: Callable[[Commands], Coroutine[Any, Any, None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20):
            commands = Commands()
            try:
                await test(commands)
            finally:
                await commands.stop()

    asyncio.run(bounded())


async def replies(
    commands: Commands, work: Work, request: bytes = REQUEST
) -> list[dict[str, object]]:
    return [json.loads(r) async for r in commands.call(work.operations, request)]


def test_a_command_answers_with_progress_and_result() -> None:
    """In that order, and an error as JSON."""

    def do(tell: Tell) -> object:
        tell({"done": 1})
        return {"it": "worked"}

    def fail(_: Tell) -> object:
        raise NotFoundError("nothing there", hint="look elsewhere")

    async def test(commands: Commands) -> None:
        assert await replies(commands, Work(do)) == [
            {"progress": {"done": 1}},
            {"result": {"it": "worked"}},
        ]
        (reply,) = await replies(commands, Work(fail))
        error = reply["error"]
        assert isinstance(error, dict)
        assert (error["type"], error["exit_code"]) == ("NotFoundError", 4)

    run(test)


def forever(tell: Tell) -> object:
    """Work until one is told to stop."""
    while True:
        tell({})
        time.sleep(0.001)


def test_the_node_stops_after_its_commands() -> None:
    """Long work is given up at its next sign of life; then nothing of it runs."""

    async def test(commands: Commands) -> None:
        work = Work(forever)
        asked = asyncio.ensure_future(replies(commands, work))
        await asyncio.to_thread(work.begun.wait)
        await commands.stop()
        assert work.ended == ["ConflictError"]
        (*_, last) = await asked
        assert "error" in last

    run(test)


def test_a_commit_under_way_is_waited_for() -> None:
    """What gives no sign of life may be writing: the home stays ours until it ended."""

    async def test(commands: Commands) -> None:
        def write(_: Tell) -> object:
            time.sleep(0.3)
            return {}

        work = Work(write)
        asked = asyncio.ensure_future(replies(commands, work))
        await asyncio.to_thread(work.begun.wait)
        await commands.stop()
        assert work.ended == ["done"]
        assert await asked == [{"result": {}}]

    run(test)


def test_a_command_whose_caller_is_gone_is_given_up() -> None:
    """Ctrl-C at the caller ends the work here, which would hold one of few threads."""

    async def test(commands: Commands) -> None:
        work = Work(forever)
        asked = asyncio.ensure_future(replies(commands, work))
        await asyncio.to_thread(work.begun.wait)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        await asyncio.to_thread(work.over.wait)
        assert work.ended == ["ConflictError"]

    run(test)


def test_a_command_that_waits_for_the_loop_ends_with_the_node() -> None:
    """A joining that gets no answer does not keep the node from stopping."""

    async def test(commands: Commands) -> None:
        never = asyncio.Event()
        work = Work(lambda _: commands.run(silent()))

        async def silent() -> None:
            await never.wait()

        asked = asyncio.ensure_future(replies(commands, work))
        await asyncio.to_thread(work.begun.wait)
        await asyncio.sleep(0.05)
        await commands.stop()
        assert work.ended == ["ConflictError"]
        await asked

    run(test)


def test_commands_that_wait_do_not_hold_up_the_others() -> None:
    """However many wait for peers, a quick one answers; more than a few are refused."""

    async def test(commands: Commands) -> None:
        waiting = [Work(lambda _: commands.pause(60)) for _ in range(PATIENT_MAX)]
        asked = [
            asyncio.ensure_future(replies(commands, work, WAIT)) for work in waiting
        ]
        for work in waiting:
            assert await asyncio.to_thread(work.begun.wait, 20)
        quick = Work(lambda _: {"it": "worked"})
        async with asyncio.timeout(20):
            assert await replies(commands, quick) == [{"result": {"it": "worked"}}]
        (refused,) = await replies(commands, Work(lambda _: {}), WAIT)
        error = refused["error"]
        assert isinstance(error, dict)
        assert (error["type"], error["exit_code"]) == ("ConflictError", 5)
        await commands.stop()
        ends = await asyncio.gather(*asked)
        assert all("error" in end[-1] for end in ends)
        assert {name for work in waiting for name in work.ended} == {"ConflictError"}

    run(test)


def test_one_that_waited_makes_room_for_the_next() -> None:
    """The few places are given back when a wait ends, however it ends."""

    async def test(commands: Commands) -> None:
        for _ in range(2 * PATIENT_MAX):
            work = Work(lambda _: {})
            (reply,) = await replies(commands, work, WAIT)
            assert reply == {"result": {}}

    run(test)


def test_progress_for_a_slow_caller_is_bounded() -> None:
    """It is left out rather than kept; the result never is."""

    async def test(commands: Commands) -> None:
        def chatter(tell: Tell) -> object:
            for number in range(100 * PROGRESS_MAX):
                tell({"done": number})
                if number % PROGRESS_MAX == 0:
                    time.sleep(0.001)
            return {}

        work = Work(chatter)
        calls = commands.call(work.operations, REQUEST)
        first = await anext(calls)
        assert "progress" in json.loads(first)
        await asyncio.to_thread(work.over.wait)
        rest = [json.loads(reply) async for reply in calls]
        assert len(rest) < 10 * PROGRESS_MAX
        assert rest[-1] == {"result": {}}

    run(test)


def test_a_stopped_node_takes_no_command() -> None:
    """Work that comes too late is refused, and its coroutine does not linger."""

    async def test(commands: Commands) -> None:
        await commands.stop()

        async def late() -> None:
            raise AssertionError("it must not run")

        with pytest.raises(ConflictError):
            await asyncio.to_thread(commands.run, late())

    run(test)
