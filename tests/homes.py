"""Real homes and real safetensors folders for tests of verbs and commands.

Snapshots of a home tell whether a refusal left it as it was.
"""

import asyncio
import itertools
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from safetensors.numpy import save_file

from crdtmerge.bodies import SpaceId
from crdtmerge.digest import BlobId
from nodes.home import Home, create_home, open_home
from nodes.operations.contents import bringing_in, read_base
from nodes.operations.live import Live
from nodes.operations.verbs import Answer, Operations
from nodes.spaces import Spaces

T = TypeVar("T")

SHAPES: Mapping[str, tuple[int, ...]] = {
    "layer.weight": (17, 5),
    "layer.bias": (5,),
    "head.weight": (3, 5),
}


def write_model(
    folder: Path, seed: int, *, near: Path | None = None, **changed: object
) -> Path:
    """Write a model folder; `near` another one, and with some tensors `changed`."""
    generator = np.random.default_rng(seed)
    tensors = {
        name: generator.standard_normal(shape).astype(np.float32)
        for name, shape in SHAPES.items()
    }
    if near is not None:
        from safetensors.numpy import load_file

        base = load_file(near / "model.safetensors")
        tensors = {
            name: (base[name] + values / 16).astype(np.float32)
            for name, values in tensors.items()
        }
    for name, values in changed.items():
        if values is None:
            del tensors[name.replace("_", ".")]
        else:
            tensors[name.replace("_", ".")] = np.asarray(values)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text('{"model_type": "small"}\n')
    return folder


class Run:
    """Runs asynchronous work where no node runs."""

    def __call__(self, work: Coroutine[Any, Any, T], /) -> T:
        """Run `work` to its end."""
        return asyncio.run(work)


@dataclass
class Fleet:
    """Several homes in one folder, each with its own entropy (a counter)."""

    folder: Path
    counter: Iterator[int]
    clock: float = 1e9

    @classmethod
    def at(cls, folder: Path) -> "Fleet":
        """Return a fleet without a home."""
        return cls(folder, itertools.count(1))

    def entropy(self, count: int) -> bytes:
        """Return bytes that never repeat."""
        return next(self.counter).to_bytes(8, "big").rjust(count, b"\x01")[-count:]

    def init(self, name: str) -> Path:
        """Make a home."""
        path = self.folder / name
        create_home(
            path,
            author_seed=self.entropy(32),
            node_seed=self.entropy(32),
            generation=self.entropy(16),
        ).close()
        return path

    @contextmanager
    def open(
        self, path: Path, *, write: bool = True, live: Live | None = None
    ) -> Iterator[tuple[Home, Spaces, Operations]]:
        """Lend the verbs of a home."""
        with open_home(path, write=write) as home:
            spaces = Spaces(home.records, home.blobs)
            verbs = Operations(
                home,
                spaces,
                entropy=self.entropy,
                run=Run(),
                live=live,
                clock=lambda: self.clock,
            )
            yield home, spaces, verbs

    def call(self, home: Path, verb: str, /, **arguments: object) -> Answer:
        """Run one verb as a command would: open, call, close."""
        given = {k: str(v) if isinstance(v, Path) else v for k, v in arguments.items()}
        with self.open(home) as (_, _, verbs):
            return verbs.call(verb, given, lambda _: None)

    def author(self, home: Path) -> str:
        """Return the author key of a home."""
        return str(self.call(home, "whoami")["author"])

    def node(self, home: Path) -> str:
        """Return the node key of a home."""
        return str(self.call(home, "whoami")["node"])

    def admit(self, owner: Path, member: Path, base: Path, rank: str) -> None:
        """Grant `member` a rank in the one space of `owner`; it comes with a base."""
        key = self.author(member)
        self.call(owner, "space_grant", author=key, rank=rank)
        self.share(owner, member)
        with self.open(member) as (home, spaces, verbs):
            context = verbs._context
            with bringing_in(context, lambda _: None, reference=True) as bringing:
                model, _ = read_base(base, bringing)
                manifest = bringing.keep(model)
            for space in spaces.all():
                home.local.set_base(space, base, manifest)
            verbs.name_node(home.node.public)
        self.share(owner, member)

    def share(self, *homes: Path) -> None:
        """Give each home the records of all, as if they had met; no bytes."""
        for source in homes:
            for target in homes:
                if source != target:
                    self._copy(source, target)

    def _copy(self, source: Path, target: Path) -> None:
        with self.open(source) as (_, spaces, _):
            found = {s: list(spaces.opset(s).signed.values()) for s in spaces.all()}
        with self.open(target) as (_, spaces, _):
            for space, records in found.items():
                spaces.commit(space, records)


def wanted(spaces: Spaces, space: SpaceId) -> dict[BlobId, int]:
    """Return what to fetch next, of all contributions that are not beyond a quota."""
    parts = [part.blobs for part in spaces.parts(space) if not part.beyond]
    return {blob: size for blobs in parts for blob, size in blobs.items()}


def records_of(path: Path) -> dict[str, tuple[int, str]]:
    """Return for each space how many records there are, and their root."""
    with open_home(path, write=False) as home:
        spaces = Spaces(home.records, home.blobs)
        return {
            space.hex(): (len(opset), opset.root.hex())
            for space in spaces.all()
            for opset in [spaces.opset(SpaceId(space))]
        }


def snapshot(path: Path) -> tuple[object, ...]:
    """Return what must not change when a command is refused: records, blobs, files."""
    files = sorted(
        (str(file.relative_to(path)), file.read_bytes())
        for folder in ("blobs", "partial", "temporary")
        for file in (path / folder).rglob("*")
        if file.is_file()
    )
    with open_home(path, write=False) as home:
        blobs = [blob.hex() for blob in home.blobs.ids()]
        bases = [home.local.base(space) for space in home.records.spaces()]
        invites = [home.local.invites(space) for space in home.records.spaces()]
        addresses = home.local.addresses()
    return records_of(path), files, blobs, bases, invites, addresses
