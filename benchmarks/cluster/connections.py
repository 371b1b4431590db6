"""`python -m benchmarks connections`: one node process with many real peers.

    python -m benchmarks connections [--json] [--peers 200] [--processes 4] [--idle 30]

Each peer is a whole node with a home of its own; `--processes` share them. Owns what is
measured: what the one node takes while nothing happens, how news reaches all, and what its
restart does. Does not own the nodes (`crowd`, `process`).
"""

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from simulations.real.process import NodeProcess, end_in_order

from .making import Made, knows, make
from .network import isolate, loopback_bytes

MEET_S: Final = 180.0
NEWS_S: Final = 60.0
DOWN_S: Final = 3.0
POLL_S: Final = 0.25


class Peers:
    """The processes that hold the peers."""

    def __init__(self, made: Made, processes: int) -> None:
        """Start them; the peers are dealt out in turn."""
        shares = [made.members[start::processes] for start in range(processes)]
        argv = [sys.executable, "-m", "benchmarks.cluster.crowd", made.space.hex()]
        self.count = len(made.members)
        self._processes = [
            subprocess.Popen(
                [*argv, *map(str, share)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for share in shares
        ]
        for process in self._processes:
            self._line(process)

    def ask(self, **asked: Any) -> list[dict[str, Any]]:
        """Ask all of them the same at once; return their answers."""
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.write(json.dumps(asked) + "\n")
            process.stdin.flush()
        return [self._line(process) for process in self._processes]

    def one(self, **asked: Any) -> dict[str, Any]:
        """Ask the first of them."""
        process = self._processes[0]
        assert process.stdin is not None
        process.stdin.write(json.dumps(asked) + "\n")
        process.stdin.flush()
        return self._line(process)

    def total(self, what: str) -> int:
        """Return a number of their status, of all together."""
        return sum(int(status[what]) for status in self.ask(ask="status"))

    def _line(self, process: "subprocess.Popen[str]") -> dict[str, Any]:
        assert process.stdout is not None
        if not (line := process.stdout.readline()):
            raise SystemExit("a process of peers ended")
        found: dict[str, Any] = json.loads(line)
        return found

    def stop(self) -> None:
        """End them, as their input ends."""
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.close()
        for process in self._processes:
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            assert process.stdout is not None
            process.stdout.close()


def main(argv: Sequence[str]) -> int:
    """Measure, and print JSON or a table; 1 unless all were held, heard and came back."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks connections")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--peers", type=int, default=200)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--idle", type=float, default=30.0, help="seconds of silence")
    options = parser.parse_args(argv)
    end_in_order()
    own_network = isolate()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), options.peers, options.processes, options.idle)
    if not own_network:
        found["idle_bytes_a_peer_a_second"] = None
    if options.json:
        print(json.dumps(found, indent=1))
    else:
        for name, value in found.items():
            print(f"{name:32} {value}")
    held = found["connected"] == found["heard_news"] == options.peers
    return 0 if held and found["after_restart"]["connected"] == options.peers else 1


def measure(folder: Path, peers: int, processes: int, idle_s: float) -> dict[str, Any]:
    """Run it all in `folder`; return the figures."""
    made = make(folder, peers)
    alone = NodeProcess(made.owner)
    address = alone.ready()
    empty_mib, empty_fds = alone.memory_mib(), alone.descriptors()
    for path in made.members:
        knows(path, made, address)
    with _peers(made, processes) as crowd:
        node = alone
        try:
            found: dict[str, Any] = {"peers": peers}
            found |= _meeting(crowd, node)
            found |= {"memory_mib_alone": empty_mib, "descriptors_alone": empty_fds}
            found |= _idle(node, peers, idle_s)
            found |= _news(crowd)
            node.stop(signal.SIGTERM)
            node, found["after_restart"] = _again(crowd, made, address, down_s=0.0)
            node.stop(signal.SIGKILL)
            node, found["after_kill"] = _again(crowd, made, address, down_s=DOWN_S)
        finally:
            node.stop()
    return found


@contextmanager
def _peers(made: Made, processes: int) -> Iterator[Peers]:
    crowd = Peers(made, processes)
    try:
        yield crowd
    finally:
        crowd.stop()


def _meeting(crowd: Peers, node: NodeProcess) -> dict[str, Any]:
    """Wait until all are connected."""
    end = time.monotonic() + MEET_S
    while (connected := crowd.total("connected")) < crowd.count:
        if time.monotonic() > end:
            break
        time.sleep(POLL_S)
    time.sleep(3)
    return {
        "connected": connected,
        "memory_mib": node.memory_mib(),
        "descriptors": node.descriptors(),
        "threads": node.threads(),
    }


def _idle(node: NodeProcess, peers: int, seconds: float) -> dict[str, Any]:
    """Let time pass, and tell what that took."""
    cpu, sent = node.cpu_s(), loopback_bytes()
    time.sleep(seconds)
    carried = loopback_bytes() - sent
    return {
        "idle_processor_share": round((node.cpu_s() - cpu) / seconds, 4),
        "idle_bytes_a_peer_a_second": round(carried / seconds / peers, 1),
    }


def _news(crowd: Peers) -> dict[str, Any]:
    """Let one peer publish a record, and tell when the others had it."""
    records = 1 + max(status["records"] for status in crowd.ask(ask="status"))
    began = float(crowd.one(ask="publish")["at"])
    answers = crowd.ask(ask="await", records=records, seconds=NEWS_S)
    lasts = [a["last"] - began for a in answers if a["last"]]
    medians = [a["median"] - began for a in answers if a["median"]]
    return {
        "heard_news": sum(answer["reached"] for answer in answers),
        "news_median_s": round(sum(medians) / max(1, len(medians)), 2),
        "news_last_s": round(max(lasts, default=0.0), 2),
    }


def _again(
    crowd: Peers, made: Made, address: str, *, down_s: float
) -> tuple[NodeProcess, dict[str, Any]]:
    """Start the node again where it was; tell how the peers came back."""
    began, before = time.monotonic(), crowd.total("dials")
    samples: list[tuple[float, int]] = [(began, before)]
    time.sleep(down_s)
    node = NodeProcess(made.owner, "--listen", address)
    node.ready()
    up = time.monotonic()
    connected = 0
    while connected < crowd.count and time.monotonic() < up + MEET_S:
        time.sleep(POLL_S)
        connected = crowd.total("connected")
        samples.append((time.monotonic(), crowd.total("dials")))
    rates = [
        (later[1] - first[1]) / (later[0] - first[0])
        for first, later in zip(samples, samples[4:], strict=False)
    ]
    return node, {
        "connected": connected,
        "seconds": round(time.monotonic() - up, 2),
        "dials_ended": samples[-1][1] - before,
        "dials_a_second_max": round(max(rates, default=0.0), 1),
        "processor_s": node.cpu_s(),
        "memory_mib": node.memory_mib(),
    }
