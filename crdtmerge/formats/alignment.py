"""Tables whose rows are tokens: which tensors they are, and their rows in another order.

Owns telling them from all other tensors, and writing them anew with the rows of a
vocabulary, in memory of a few blocks. Does not own which row goes where (`vocabulary`).

A table that is only cut behind its last token stays where it is. Every other one is
written to a scratch file, once, and is from then on a tensor of a file like any other:
named, checked, mapped and read in the same ways.
"""

import math
import mmap
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Final, Self

import numpy as np

from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.errors import BadInputError
from crdtmerge.formats.folder import ModelFolder, changed
from crdtmerge.formats.header import UNSEEN, FileState, StoredTensor
from crdtmerge.formats.progress import Progress, Report
from crdtmerge.formats.vocabulary import MEAN, RowMap
from crdtmerge.formats.writer import machine_error, reserve, write_all
from crdtmerge.manifest import FLOAT_DTYPES, ITEM_BYTES
from crdtmerge.numerics import (
    Items,
    Output,
    Weighed,
    check_base,
    downcast,
    inspect,
    mean,
    theta_grid,
    upcast,
    weighted_sum,
)

BLOCK_BYTES: Final = 4 << 20
"""What of a table is in memory at once."""
COLUMNS_BYTES: Final = 64 << 20
"""What is in memory while means are computed."""
ALIGNMENT: Final = 64

INPUTS: Final = frozenset(
    (
        "embd",
        "embed_in",
        "embed_tokens",
        "shared",
        "tok_embeddings",
        "tokens_embed",
        "word_embeddings",
        "wte",
    )
)
"""Modules that look tokens up, by the last part of their names."""
OUTPUTS: Final = frozenset(("embed_out", "lm_head", "vocab_projector"))
"""Modules that give each token a logit."""
PLAIN: Final = frozenset(
    ("decoder", "embeddings", "linear", "output", "output_layer", "predictions", "")
)
"""Names that say nothing alone: these are tables if they have as many rows as tokens."""

HINT: Final = "such a model cannot be aligned; merge models of one vocabulary"


def tables_of(folder: ModelFolder) -> tuple[StoredTensor, ...]:
    """Return the tensors of a model whose rows are tokens, by name.

    All have as many rows.

    Raises:
        BadInputError: it cannot be told which they are.
    """
    outside = [t for t in folder.tensors if t.shape and not _is_in_a_layer(t.name)]
    named = [t for t in outside if _module(t.name) in INPUTS and t.size]
    named = [t for t in named if len(t.shape) > 1]
    if not named:
        message = f"{folder.path} has no tensor that is known as its tokens' embedding"
        raise BadInputError(message, hint=HINT)
    rows = named[0].shape[0]
    found = []
    for tensor in outside:
        module, size = _module(tensor.name), tensor.shape[0]
        known = module in INPUTS or module in OUTPUTS
        if size == rows and (known or module in PLAIN):
            found.append(tensor)
        elif size == rows or known:
            message = (
                f"{folder.path}: is {tensor.name!r} {list(tensor.shape)} a row for each"
                f" token, as {named[0].name!r} {list(named[0].shape)} is?"
            )
            raise BadInputError(f"{message} It cannot be told", hint=HINT)
    return tuple(found)


def _is_in_a_layer(name: str) -> bool:
    return any(part.isdigit() for part in name.split("."))


def _module(name: str) -> str:
    parts = name.split(".")
    return parts[-2] if len(parts) > 1 else ""


@dataclass(frozen=True, slots=True)
class Table:
    """One table of all members that have it: the tensor of each by its place."""

    name: str
    members: Mapping[int, StoredTensor]

    def tensor(self, place: int, wanted_by: int) -> StoredTensor:
        """Return the tensor of a member, whose rows can be those of who wants them.

        They may have another float dtype: then they are rounded, once.

        Raises:
            BadInputError: it has none, or rows of another form.
        """
        own, found = self.members[wanted_by], self.members.get(place)
        if found is None:
            message = f"a model lacks {self.name!r}, from which rows are to be taken"
            raise BadInputError(message, hint="merge models that all have it")
        floats = {found.dtype, own.dtype} <= FLOAT_DTYPES
        if found.shape[1:] != own.shape[1:] or not (floats or found.dtype == own.dtype):
            message = (
                f"rows of {self.name!r} are {found.dtype} {list(found.shape[1:])} in one"
                f" model, {own.dtype} {list(own.shape[1:])} in another"
            )
            raise BadInputError(message, hint="merge models whose rows have one form")
        return found


def width_of(table: StoredTensor) -> int:
    """Return how many bytes a row has."""
    return table.size // table.shape[0]


class Scratch:
    """A file for aligned tables; it is whoever made its folder that removes it."""

    def __init__(self, path: Path = Path()) -> None:
        """Begin without any table; the file is made by `write`, if there are any."""
        self._path = path
        self._end = 0
        self._waiting: list[tuple[int, _Rows]] = []

    def align(self, table: Table, place: int, rows: RowMap) -> StoredTensor:
        """Return a member's table in the rows of a map: its own start, or one to write.

        Raises:
            BadInputError: rows are to come from a table of another form.
        """
        own, count = table.members[place], len(rows.rows)
        shape, size = (count, *own.shape[1:]), count * width_of(own)
        if count <= own.shape[0] and rows.is_start_of(place):
            return replace(own, shape=shape, size=size)
        begin, self._end = self._end, -(-(self._end + size) // ALIGNMENT) * ALIGNMENT
        self._waiting.append((begin, _Rows(table, place, rows)))
        return StoredTensor(own.name, own.dtype, shape, self._path, begin, size)

    @property
    def size(self) -> int:
        """Bytes that `write` will write."""
        return self._end

    def write(self, report: Report | None = None) -> None:
        """Write the tables that were asked for.

        Raises:
            BadInputError: a file changed.
            ContractError: rows that are averaged break the numeric contract.
            MachineError: the disk refused.
        """
        if not self._waiting:
            return
        try:
            file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                reserve(file, self._end)
                for begin, rows in self._waiting:
                    rows.write(file, begin)
                    if report:
                        done = begin + rows.size
                        report(Progress("aligning", done, self._end))
            finally:
                os.close(file)
        except OSError as e:
            raise machine_error("write", self._path, e) from e
        self._waiting.clear()


class _Rows:
    """The rows of one aligned table, while they are written."""

    def __init__(self, table: Table, place: int, rows: RowMap) -> None:
        self._table = table
        self._map = rows
        self._own = table.members[place]
        self._width = width_of(self._own)
        wanted = {int(m) for m in np.unique(rows.models) if m >= 0}
        wanted |= {m for row in rows.averages.values() for m, _ in row}
        self._from = {m: table.tensor(m, place) for m in sorted(wanted)}
        made = bool(rows.averages) or MEAN in rows.models
        if made and self._own.dtype not in FLOAT_DTYPES:
            message = (
                f"{table.name!r} is {self._own.dtype}: no row of it can be averaged"
            )
            raise BadInputError(
                message, hint="merge models in which all tokens have rows"
            )

    @property
    def size(self) -> int:
        """Bytes of the table."""
        return len(self._map.rows) * self._width

    def write(self, file: int, begin: int) -> None:
        """Write the table at an offset of an open file."""
        with _Files() as files:
            for start, data in self._blocks(files):
                write_all(file, data, begin + start * self._width)
            for row, donors in sorted(self._map.averages.items()):
                data = self._average(files, donors)
                write_all(file, data, begin + row * self._width)
        empty = np.flatnonzero(self._map.models == MEAN)
        if len(empty):
            data = self._mean(file, begin)
            for row in empty.tolist():
                write_all(file, data, begin + row * self._width)

    def _blocks(self, files: "_Files") -> Iterator[tuple[int, bytes]]:
        """Yield runs of rows that lie together in one place, with their first row.

        What is made of several rows is zero here, and written later.
        """
        models, rows = self._map.models, self._map.rows
        step = np.where(models[1:] >= 0, 1, 0)
        cuts = (models[1:] != models[:-1]) | (rows[1:] - rows[:-1] != step)
        starts = [0, *(np.flatnonzero(cuts) + 1).tolist(), len(rows)]
        most = max(1, BLOCK_BYTES // self._width) if self._width else len(rows)
        for first, end in pairwise(starts):
            for start in range(first, end, most):
                count = min(most, end - start)
                model, row = int(models[start]), int(rows[start])
                if model < 0:
                    yield start, bytes(count * self._width)
                    continue
                theirs, dtype = self._from[model], self._own.dtype
                data = files.rows(theirs, row, count)
                if theirs.dtype != dtype:
                    values = upcast(data, theirs.dtype)
                    data = downcast(values, dtype, self._table.name)
                yield start, data

    def _average(self, files: "_Files", donors: Sequence[tuple[int, int]]) -> bytes:
        """Return the average of rows: exact, rounded once."""
        dtype, name = self._own.dtype, f"a row of {self._table.name!r}"
        found = [
            Items(files.rows(self._from[m], row, 1), self._from[m].dtype)
            for m, row in donors
        ]
        facts = [inspect(item.data, item.dtype) for item in found]
        for fact in facts:
            check_base(fact, name)
        exponent = max(fact.exponent for fact in facts)
        terms = [Weighed(item, DECIMAL_UNIT) for item in found]
        items = range(self._width // ITEM_BYTES[dtype])
        divisor = len(found) * DECIMAL_UNIT
        grid = theta_grid(exponent, dtype)
        return bytes(weighted_sum(terms, divisor, grid, Output(dtype, items, name)))

    def _mean(self, file: int, begin: int) -> bytes:
        """Return the mean of all rows that models have, item by item, rounded once."""
        dtype, count = self._own.dtype, len(self._map.rows)
        kept = np.flatnonzero(self._map.models != MEAN)
        if not len(kept):
            return bytes(self._width)
        item = ITEM_BYTES[dtype]
        shape, means = (count, self._width // item, item), []
        # Not closed here: an array on it may live on in an error.
        mapped = mmap.mmap(file, begin + count * self._width, access=mmap.ACCESS_READ)
        cells = np.frombuffer(mapped, np.uint8, math.prod(shape), begin).reshape(shape)
        step = max(1, COLUMNS_BYTES // (len(kept) * item))
        for start in range(0, shape[1], step):
            block = cells[kept, start : start + step]
            columns = (block[:, i].tobytes() for i in range(block.shape[1]))
            means += [mean(upcast(column, dtype)) for column in columns]
        return bytes(downcast(np.array(means), dtype, self._table.name))


class _Files:
    """Rows of the user's files, by plain calls: one that is cut meanwhile is an error."""

    def __init__(self) -> None:
        self._open: dict[Path, int] = {}

    def rows(self, tensor: StoredTensor, row: int, count: int) -> bytes:
        """Return the bytes of `count` rows of a tensor, from `row` on."""
        width = width_of(tensor)
        try:
            if tensor.path not in self._open:
                file = os.open(tensor.path, os.O_RDONLY)
                self._open[tensor.path] = file
                if tensor.state not in {UNSEEN, FileState.of(os.fstat(file))}:
                    raise changed(tensor)
            file = self._open[tensor.path]
            data = os.pread(file, count * width, tensor.offset + row * width)
        except OSError as e:
            raise changed(tensor) from e
        if len(data) < count * width:
            raise changed(tensor)
        return data

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._open.values():
            os.close(file)
