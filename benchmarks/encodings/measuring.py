"""Bytes and seconds of one fine-tune: raw, zstd, equal tensors once, and our encodings.

Owns the measurement; every chunk is decoded and its digest compared. Does not own the
fine-tunes (`training`). Seconds are those of one core that were used for it, so that what
else runs on the machine counts little.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch

from benchmarks.encodings.training import Tuned
from crdtmerge.digest import CHUNK_BYTES, chunk_digest
from crdtmerge.encodings import BASED, Effort, Form, choose, decode, encode, sampled

EMBEDDINGS: Final = "embeddings"


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor of the fine-tune, by chunks, beside that of the base."""

    name: str
    width: int
    chunks: tuple[bytes, ...]
    base: tuple[bytes | None, ...]

    @property
    def size(self) -> int:
        """Bytes of it."""
        return sum(map(len, self.chunks))

    @property
    def is_new(self) -> bool:
        """Whether the base has no such tensor."""
        return self.chunks != self.base


@dataclass(slots=True)
class Sum:
    """Bytes in and out, and seconds each way."""

    raw: int = 0
    encoded: int = 0
    encoding: float = 0.0
    decoding: float = 0.0


Chooser = Callable[[Tensor], tuple[Form | None, Effort]]


def tensors(tuned: Tuned) -> list[Tensor]:
    """Return the tensors of a fine-tune in the order of their names."""
    found = []
    for name, value in sorted(tuned.weights.items()):
        theirs = tuned.base.get(name)
        chunks = tuple(_chunks(value))
        base = (None,) * len(chunks) if theirs is None else tuple(_chunks(theirs))
        found.append(Tensor(name, value.element_size(), chunks, base))
    return found


def _chunks(value: torch.Tensor) -> Iterator[bytes]:
    data = value.contiguous().view(torch.uint8).numpy().tobytes()
    for start in range(0, len(data), CHUNK_BYTES):
        yield data[start : start + CHUNK_BYTES]


def measure(tuned: Tuned, repeats: int) -> dict[str, Any]:
    """Return bytes and speeds, each way of encoding after the other."""
    every = tensors(tuned)
    new = [tensor for tensor in every if tensor.is_new]
    raw, changed = _size(every), _size(new)
    ways: dict[str, Chooser] = {
        form.name: _always(form, Effort.FAST)
        for form in Form
        if form is not Form.PLAIN and (tuned.base or form not in BASED)
    }
    ways |= {"chosen": _chosen(Effort.FAST), "chosen, small": _chosen(Effort.SMALL)}
    zstd = _run(every, _always(Form.PLAIN, Effort.SMALL))
    told = {name: _way(new, way, raw, repeats) for name, way in ways.items()}
    layers = [tensor for tensor in new if EMBEDDINGS not in tensor.name]
    return {
        "tensors": len(every),
        "raw_bytes": raw,
        "zstd_bytes": zstd.encoded,
        "dedup_bytes": changed,
        "ways": told,
        "layers_raw_bytes": _size(layers),
        "layers_bytes": _run(layers, _chosen(Effort.FAST)).encoded,
        "forms": _forms(new),
    }


def _size(some: list[Tensor]) -> int:
    return sum(tensor.size for tensor in some)


def _always(form: Form, effort: Effort) -> Chooser:
    return lambda _: (form, effort)


def _chosen(effort: Effort) -> Chooser:
    """Choose a form for each tensor by a few of its chunks, as the wire and disk do."""

    def way(tensor: Tensor) -> tuple[Form | None, Effort]:
        pick = sampled(len(tensor.chunks))
        samples = [(tensor.chunks[i], tensor.base[i]) for i in pick]
        return choose(samples, width=tensor.width, effort=effort), effort

    return way


def _way(new: list[Tensor], way: Chooser, raw: int, repeats: int) -> dict[str, float]:
    """Return what one way gives; the speeds are medians."""
    runs = [_run(new, way) for _ in range(repeats)]
    encoding = sorted(run.encoding for run in runs)[repeats // 2]
    decoding = sorted(run.decoding for run in runs)[repeats // 2]
    return {
        "bytes": runs[0].encoded,
        "saved": 1 - runs[0].encoded / raw,
        "encode_gb_per_s": runs[0].raw / max(encoding, 1e-9) / 1e9,
        "decode_gb_per_s": runs[0].raw / max(decoding, 1e-9) / 1e9,
    }


def _run(some: list[Tensor], way: Chooser) -> Sum:
    total = Sum()
    for tensor in some:
        start = time.thread_time()
        form, effort = way(tensor)
        total.encoding += time.thread_time() - start  # choosing is a part of it
        for raw, against in zip(tensor.chunks, tensor.base, strict=True):
            _chunk(total, raw, against, width=tensor.width, form=form, effort=effort)
    return total


def _chunk(
    total: Sum,
    raw: bytes,
    against: bytes | None,
    *,
    width: int,
    form: Form | None,
    effort: Effort,
) -> None:
    start = time.thread_time()
    data = None
    if form is not None:
        data = encode(raw, width=width, against=against, form=form, effort=effort)
    between = time.thread_time()
    again = raw if data is None else decode(data, length=len(raw), against=against)
    end = time.thread_time()
    assert chunk_digest(again) == chunk_digest(raw), "not the bytes that were encoded"
    total.raw += len(raw)
    total.encoded += len(raw if data is None else data)
    total.encoding += between - start
    total.decoding += end - between


def _forms(new: list[Tensor]) -> Mapping[str, int]:
    """Return how many bytes of tensors each form was chosen for."""
    way, found = _chosen(Effort.FAST), dict[str, int]()
    for tensor in new:
        form, _ = way(tensor)
        name = form.name if form else "raw"
        found[name] = found.get(name, 0) + tensor.size
    return found
