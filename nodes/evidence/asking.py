"""`crdtmerge evidence compute`: from what a user asks for to files of evidence.

Owns the order of the work and what is told of it. Does not own options (`cli.evidence`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from torch.nn import Module

from crdtmerge.errors import BadInputError

from .computing import BASE_KINDS, COMPUTED, Computed, Tensors, compute, named
from .loading import Loaded, attribute, labels_of, load_data, load_model
from .losses import TASKS, Batch, Loss, Task
from .moments import factored, read_moments
from .sketches import noisy, sketch
from .writing import refuse_existing, write

ADAM: Final = "adam"
KINDS: Final = (ADAM, *sorted((*COMPUTED, *BASE_KINDS)))
GRADIENTS: Final = frozenset({"fisher", "fisher_base", "snip", "snip_base"})

Tell = Callable[[Mapping[str, object]], None]


@dataclass(frozen=True, slots=True)
class Asked:
    """What a user asks for; None and empty for what was left out."""

    model: Path
    data: Path | None
    kinds: tuple[str, ...]
    out: Path
    module: str | None = None
    task: str | None = None
    loss: str | None = None
    labels: str = "given"
    base: Path | None = None
    optimizer: Path | None = None
    factored: bool = False
    samples: int | None = None
    batch: int = 8
    sketch: int | None = None
    noise: float = 0.0
    seed: int = 0
    device: str = "cpu"


def answer(asked: Asked, tell: Tell) -> dict[str, object]:
    """Compute evidence and write it; return what was written.

    Raises:
        BadInputError: what is asked for does not go together, or an input is broken.
        NotFoundError: an input is not there.
        ConflictError: `out` is.
        MachineError: something is not installed, or `out` cannot be written.
    """
    _check(asked)
    refuse_existing(asked.out)
    loaded = load_model(asked.model, asked.module, asked.device)
    parameters = named(loaded.module, loaded.names)
    found = _computed(asked, loaded, tell)
    tensors: dict[str, Tensors] = dict(found.tensors)
    if ADAM in asked.kinds and asked.optimizer is not None:
        tensors |= _moments(asked, read_moments(asked.optimizer, parameters))
    if asked.sketch is not None and "gram" in tensors:
        tensors["gram_sketch"] = _sketched(asked, tensors.pop("gram"), asked.sketch)
    empty = [kind for kind, of_kind in tensors.items() if not of_kind]
    for kind in empty:
        del tensors[kind]
    if not tensors and not found.scalars:
        raise BadInputError(
            f"there is nothing of kind {', '.join(empty)} in this model",
            hint="look at which layers it has: linear ones, convolutions, norms",
        )
    files = write(asked.out, tensors, found.scalars)
    return {
        "out": str(asked.out),
        "files": {kind: str(path) for kind, path in files.items()},
        "tensors": {kind: len(of_kind) for kind, of_kind in tensors.items()},
        "of": len(parameters),
        "nothing_of": empty,
        "scalars": found.scalars,
    }


def _check(asked: Asked) -> None:
    """Refuse what does not go together, before anything is loaded."""
    unknown = [kind for kind in asked.kinds if kind not in KINDS]
    if unknown or not asked.kinds:
        told = f"no kind {unknown[0]!r}" if unknown else "no kind is asked for"
        raise BadInputError(told, hint=f"known are {', '.join(KINDS)}")
    rules = (
        (
            ADAM in asked.kinds and asked.optimizer is None,
            "adam is read from a checkpoint of the optimizer",
            "name it with --optimizer",
        ),
        (
            bool(_from_data(asked)) and asked.data is None,
            f"{', '.join(_from_data(asked))}: this is computed from data",
            "give a file of samples",
        ),
        (
            bool(asked.noise) and asked.sketch is None,
            "noise is put on sketches of Gram matrices",
            "give --sketch too",
        ),
        (
            asked.task is not None and asked.loss is not None,
            "a task has its own loss",
            "give --task or --loss, not both",
        ),
        (
            bool(GRADIENTS & {*asked.kinds}) and not (asked.task or asked.loss),
            "gradients need a loss",
            f"give --task, one of {', '.join(TASKS)}, or --loss module:function",
        ),
        (
            bool(BASE_KINDS.keys() & {*asked.kinds}) and asked.base is None,
            "something is asked for of the base",
            "name it with --base",
        ),
    )
    for broken, message, hint in rules:
        if broken:
            raise BadInputError(message, hint=hint)


def _from_data(asked: Asked) -> tuple[str, ...]:
    return tuple(kind for kind in asked.kinds if kind != ADAM)


def _computed(asked: Asked, loaded: Loaded, tell: Tell) -> Computed:
    kinds = _from_data(asked)
    if not kinds or asked.data is None:
        return Computed()
    base = None
    if asked.base is not None and BASE_KINDS.keys() & {*kinds}:
        base = load_model(asked.base, asked.module, asked.device)
    task = TASKS[asked.task] if asked.task else None
    if asked.loss:
        task = Task(_own_loss(asked.loss))
    drawn = None
    if asked.labels == "sampled":
        drawn = torch.Generator().manual_seed(asked.seed)
    data = load_data(asked.data, asked.model, labels_of(loaded.module), asked.samples)

    def progress(done: int) -> None:
        tell({"work": "samples", "done": done, "total": data.count})

    return compute(
        loaded.module,
        data.batches(asked.batch, asked.device),
        task,
        kinds,
        base=None if base is None else base.module,
        names=loaded.names,
        sampled=drawn,
        tell=progress,
    )


def _own_loss(told: str) -> Loss:
    """Return a loss of the user's, whose errors are told as errors of that."""
    own = attribute(told)

    def loss(model: Module, batch: Batch) -> torch.Tensor:
        try:
            found = own(model, batch)
        except Exception as e:
            raise BadInputError(f"{told}: {type(e).__name__}: {e}") from e
        if not isinstance(found, torch.Tensor) or found.numel() != 1:
            raise BadInputError(f"{told}: it returns no tensor of one item")
        return found.reshape(())

    return loss


def _moments(asked: Asked, moments: Tensors) -> dict[str, Tensors]:
    if not asked.factored:
        return {ADAM: moments}
    rows, columns = factored(moments)
    whole = {name: value for name, value in moments.items() if name not in rows}
    return {ADAM: whole, "adam_rows": rows, "adam_columns": columns}


def _sketched(asked: Asked, grams: Tensors, rows: int) -> Tensors:
    generator = torch.Generator().manual_seed(asked.seed)
    found = {}
    for name, gram in sorted(grams.items()):
        factor = sketch(gram, rows)
        if asked.noise:
            factor = noisy(factor, asked.noise, generator)
        found[name] = factor
    return found
