"""The processes that fuzz a target each, with atheris: `python -m tests.fuzz.engine`.

Owns what is instrumented, the limits of one input, and that a find ends nothing: it is
written down once for each place that it comes out of, and the search goes on. What ends
the process is an input that takes too long or too much memory; `running` starts it anew.

Of compiled code (numba, msgpack, zstd, torch, RE2, SQLite, OpenSSL) nothing is
instrumented: what it does is seen only by what it returns and raises.
"""

import hashlib
import json
import logging
import os
import random
import resource
import shutil
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import atheris

from tests.fuzz.scratch import SCRATCH

if TYPE_CHECKING:
    from tests.fuzz.target import Target

OURS: Final = ("crdtmerge", "nodes")
ROOT: Final = Path(__file__).parent.parent.parent
COMPILED: Final = ROOT / "crdtmerge" / "numerics" / "cpu"
"""What numba compiles must stay as it is written."""
MEMORY_ROOM: Final = 1 << 30
"""What a process may take beyond what it has after its imports: more is a find."""
RESIDENT_MIB_MAX: Final = 4096
INPUT_S_MAX: Final = 25
"""Longest time for one input. A limit of milliseconds is another's work: machines that
fuzz are busy, and a bomb takes minutes."""


def main() -> None:
    """Fuzz what the lines of the input ask for, each in a process of its own.

    A line is [target, seconds, folder for the results, folders of inputs to begin with] in
    JSON; it is answered by one when its process has ended. To import our packages and to
    instrument them takes ten seconds of a processor, so it is done once.
    """
    left_out = [f"crdtmerge.numerics.cpu.{path.stem}" for path in COMPILED.glob("*.py")]
    with atheris.instrument_imports(include=list(OURS), exclude=left_out):
        from tests.fuzz import targets  # noqa: F401  instrumented here, once
    for line in sys.stdin:
        name, seconds, folder, given = json.loads(line)
        child = os.fork()
        if not child:
            log = os.open(Path(folder) / "log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            for stream in (1, 2):
                os.dup2(log, stream)
            _fuzz(name, seconds, Path(folder), given)
        os.waitpid(child, 0)
        for left in SCRATCH.glob(f"crdtmerge-fuzz-{child}-*"):
            shutil.rmtree(
                left, ignore_errors=True
            )  # it ends without a word of Python's
        print("ended", flush=True)


def _fuzz(name: str, seconds: int, folder: Path, given: Sequence[str]) -> None:
    """Fuzz one target; libFuzzer ends the process."""
    from tests.fuzz.mutators import mutated, structured
    from tests.fuzz.targets import TARGETS

    target, finds = TARGETS[name], Finds(folder / "finds")
    corpus, first = folder / "corpus", folder / "seeds"
    for place in (corpus, first):
        place.mkdir(parents=True, exist_ok=True)
    for seed in target.seeds():
        (first / hashlib.sha1(seed).hexdigest()).write_bytes(seed)
    _limit_memory()
    logging.disable()  # what decoders say of millions of inputs is not read

    def mutator(data: bytes, size: int, seed: int) -> bytes:
        rng = random.Random(seed)
        if rng.random() < 0.5:
            return bytes(atheris.Mutate(data, size))
        return mutated(target.shape, data, rng)[:size]

    arguments = [
        f"-max_total_time={seconds}",
        f"-max_len={target.length}",
        f"-timeout={INPUT_S_MAX}",
        f"-rss_limit_mb={RESIDENT_MIB_MAX}",
        f"-artifact_prefix={finds.folder}/",
        "-print_final_stats=1",
        "-report_slow_units=5",
        *_dictionary(folder, target.shape),
    ]
    places = [str(corpus), str(first), *given]
    more = {"custom_mutator": mutator} if structured(target.shape) else {}
    atheris.Setup([sys.argv[0], *arguments, *places], finds.of(target), **more)
    atheris.Fuzz()


class Finds:
    """What came out of a decoder that should not have, each place once."""

    def __init__(self, folder: Path) -> None:
        """Write finds to `folder`."""
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._seen: set[tuple[str, str]] = set()

    def of(self, target: "Target") -> Callable[[bytes], None]:
        """Return what the fuzzer calls with each input."""
        from tests.fuzz.target import accepts

        def one(data: bytes) -> None:
            try:
                accepts(target, data)
            except (KeyboardInterrupt, SystemExit):
                raise
            except BaseException as e:  # noqa: BLE001  a panic of Rust is no Exception
                self._note(e, data)

        return one

    def _note(self, error: BaseException, data: bytes) -> None:
        frames = traceback.extract_tb(error.__traceback__)
        ours = [
            f
            for f in frames
            if f.filename.startswith(str(ROOT)) and "venv" not in f.filename
        ]
        place = (type(error).__name__, f"{ours[-1].filename}:{ours[-1].lineno}")
        if place in self._seen:
            return
        self._seen.add(place)
        path = self.folder / f"find-{hashlib.sha1(data).hexdigest()}"
        path.write_bytes(data)
        text = "".join(traceback.format_exception(error))
        path.with_suffix(".txt").write_text(text, errors="backslashreplace")


def _limit_memory() -> None:
    """Let what one input takes end in a MemoryError, which names the line."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + MEMORY_ROOM
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


WORDS: Final = (
    "strategy:", "parameters:", "rules:", "weights:", "tensors:", "models:", "model:",
    "slices:", "sources:", "layer_range:", "merge_method:", "base_model:", "filter:",
    "value:", "density:", "weight:", "layers:", "regex:", "tag:", "content:",
    "!!int ", "!!float ", "!!binary ", "!!str ", "!!set ", "&a ", "*a", "<<: ", "? ",
    "- ", "---", "|\n ", ">-\n ", "\\UFFFFFFFF", "\\ud800", "\\x00", "0..7", "-1",
    ".inf", ".nan", "1e999", "0x", "[[x]]", "tokenizer_source:", "union", "modules:",
    "default:", "2026-01-01", "'''", '"""', "license:",
)  # fmt: skip


def _dictionary(folder: Path, shape: str) -> list[str]:
    """Return the option that names the words of texts, in a file of libFuzzer's."""
    if shape != "text":
        return []
    path = folder / "words"
    lines = ("".join(f"\\x{byte:02x}" for byte in word.encode()) for word in WORDS)
    path.write_text("".join(f'"{line}"\n' for line in lines))
    return [f"-dict={path}"]


if __name__ == "__main__":
    main()
