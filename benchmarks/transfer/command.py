"""`python -m benchmarks transfer`: blobs between processes, against sockets and the disk.

    python -m benchmarks transfer [--json] [--rounds 5] [--folder DIR] [--only KIND]

Needs 12 GiB in DIR. Owns which processes run, the figures that follow, and the goals.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

Figures = dict[str, float]
BLOB_MIB: Final = 512
THROTTLED_MIB: Final = 300
THROTTLE: Final = 100e6
LARGE_MIB: Final = (4 << 10) + 3
GOALS: Final[dict[str, tuple[str, float]]] = {
    "plain_share_of_socket": (">=", 0.6),
    "mtls_share_of_socket": (">=", 0.4),
    "files_share_of_fsync": (">=", 0.8),
    "two_sources_mb_s": (">=", 180.0),
    "peak_memory_mib": ("<=", 64.0),
    "hashing_gb_s": (">=", 4.0),
    "over_4_gib": (">=", 1.0),
}


def main(argv: Sequence[str]) -> int:
    """Measure, and print JSON or a table; the status does not say whether goals are met."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks transfer")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where to write")
    parser.add_argument("--only", choices=sorted(KINDS), help="one kind alone")
    options = parser.parse_args(argv)
    found: dict[str, Any] = {"rounds": options.rounds}
    for kind, measure in KINDS.items():
        if options.only in {None, kind}:
            with tempfile.TemporaryDirectory(dir=options.folder) as scratch:
                found |= measure(Path(scratch), options.rounds)
    print(json.dumps(found, indent=1) if options.json else _table(found))
    return 0


def _streams(folder: Path, rounds: int) -> dict[str, Any]:
    found = _received("streams", folder, rounds, [(BLOB_MIB, 0.0)])
    one = found["medians"]
    return {
        "plain_share_of_socket": one["plain"] / one["raw"],
        "mtls_share_of_socket": one["mtls"] / one["raw"],
        "hashing_gb_s": one["hashing"],
        "streams_gb_s": found["rounds"],
    }


def _files(folder: Path, rounds: int) -> dict[str, Any]:
    found = _received("files", folder, rounds, [(BLOB_MIB, 0.0)])
    one = found["medians"]
    return {
        "files_share_of_fsync": one["files"] / one["fsync"],
        "files_gb_s": found["rounds"],
    }


def _sources(folder: Path, rounds: int) -> dict[str, Any]:
    servers = [(THROTTLED_MIB, THROTTLE)] * 2
    found = _received("sources", folder, rounds, servers)
    return {
        "two_sources_mb_s": found["medians"]["mb_s"],
        "two_sources_rounds": found["rounds"]["mb_s"],
    }


def _peak(folder: Path, rounds: int) -> dict[str, Any]:
    found = _received("peak", folder, rounds, [(BLOB_MIB, 0.0)])
    return {
        # The first one grows most: what it leaves is used again.
        "peak_memory_mib": max(found["rounds"]["mib"]),
        "peak_memory_rounds": found["rounds"]["mib"],
    }


def _large(folder: Path, rounds: int) -> dict[str, Any]:
    found = _received("large", folder, rounds, [(-LARGE_MIB, 0.0)])["rounds"]
    return {
        "over_4_gib": found["whole"],
        "over_4_gib_bytes": found["bytes"],
        "over_4_gib_s": found["seconds"],
    }


def _many(folder: Path, rounds: int) -> dict[str, Any]:
    found = _run("benchmarks.transfer.small", "guest", str(folder), str(rounds))
    return {"many_small_s": found["medians"]["s"], "many_small": found["rounds"]["s"]}


KINDS: Final[dict[str, Callable[[Path, int], dict[str, Any]]]] = {
    "streams": _streams,
    "files": _files,
    "sources": _sources,
    "peak": _peak,
    "large": _large,
    "many": _many,
}


def _received(
    kind: str, folder: Path, rounds: int, servers: Sequence[tuple[int, float]]
) -> dict[str, Any]:
    """Run servers, and a client that receives from them; return what it found."""
    with ExitStack() as stack:
        served = [
            stack.enter_context(_server(folder / f"server{n}", mib, limit))
            for n, (mib, limit) in enumerate(servers)
        ]
        return _client(kind, folder, rounds, served)


@contextmanager
def _server(folder: Path, mib: int, limit: float) -> Iterator[str]:
    """Lend what a server printed once it serves."""
    command = [sys.executable, "-m", "benchmarks.transfer.server"]
    with subprocess.Popen(
        [*command, str(folder), str(mib), str(limit)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        try:
            yield process.stdout.readline()
        finally:
            process.stdin.close()


def _client(
    kind: str, folder: Path, rounds: int, served: Sequence[str]
) -> dict[str, Any]:
    module = "benchmarks.transfer.client"
    return _run(module, kind, str(folder), str(rounds), *served)


def _run(module: str, *arguments: str) -> dict[str, Any]:
    """Run a process, and return what it printed."""
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(done.stdout))


def _table(found: dict[str, Any]) -> str:
    lines = []
    for name, (sign, goal) in GOALS.items():
        if name in found:
            value = float(found[name])
            met = value >= goal if sign == ">=" else value <= goal
            word = "met" if met else "MISSED"
            lines.append(f"{name:<24} {value:>10.2f}   goal {sign} {goal:g}: {word}")
    if "many_small_s" in found:
        lines.append(f"{'many_small_s':<24} {found['many_small_s']:>10.2f}")
    return "\n".join(lines)
