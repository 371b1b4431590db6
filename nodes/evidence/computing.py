"""`compute`: evidence of a model from batches of its data.

Owns what is computed in which pass, how tensors are named, and that the model is left as
it was. Does not own sums of layers (`watching`) nor of gradients (`gradients`).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

import torch
from torch.nn import Module, Parameter

from crdtmerge.errors import BadInputError

from .gradients import Slopes, size_of
from .losses import MASK, Batch, Loss, Task, predicted
from .watching import Watch

COMPUTED: Final = ("energy", "fisher", "gram", "inputs", "outputs", "snip")
"""What is computed of the model itself."""

BASE_KINDS: Final[Mapping[str, str]] = {
    "fisher_base": "fisher",
    "magnitude": "magnitude",
    "snip_base": "snip",
}
"""What is computed of the base instead, and as what."""

SLOPES: Final = frozenset({"fisher", "snip"})

Tensors = dict[str, torch.Tensor]
Tell = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Computed:
    """What was found: tensors by kind and name (float32), and numbers by name."""

    tensors: dict[str, Tensors] = field(default_factory=dict)
    scalars: dict[str, float] = field(default_factory=dict)


def _ignore(_done: int) -> None:
    """Tell nobody."""


def compute(
    model: Module,
    batches: Iterable[Batch],
    loss: Loss | Task | None,
    kinds: Iterable[str],
    *,
    base: Module | None = None,
    names: Mapping[str, str] | None = None,
    sampled: torch.Generator | None = None,
    tell: Tell = _ignore,
) -> Computed:
    """Return evidence of `model`, which is left as it was.

    `batches` are gone through once; `names` says what the model's parameters are called
    where evidence goes, those that it lacks are left out; with `sampled`, labels are drawn
    from the model. Where there is a loss, its mean and the count of samples come along.

    Raises:
        BadInputError: a kind is unknown, or its loss or base is missing; or the data.
    """
    wanted = frozenset(kinds)
    unknown = sorted(wanted - {*COMPUTED, *BASE_KINDS})
    if unknown:
        known = ", ".join(sorted((*COMPUTED, *BASE_KINDS)))
        raise BadInputError(f"{unknown[0]!r} is not computed from data", hint=known)
    of_base = {BASE_KINDS[kind] for kind in wanted & BASE_KINDS.keys()}
    if of_base and base is None:
        raise BadInputError(f"{min(wanted & BASE_KINDS.keys())!r} needs the base")
    task = loss if loss is None or isinstance(loss, Task) else Task(loss)
    if task is None and SLOPES & (wanted | of_base):
        raise BadInputError(
            "gradients need a loss", hint="name one with --task or --loss"
        )
    runs = [_Run(model, wanted - BASE_KINDS.keys(), task, names, sampled)]
    if base is not None and of_base:
        runs.append(_Run(base, frozenset(of_base), task, names, sampled))
    done = 0
    for batch in batches:
        for run in runs:
            run.add(batch)
        done += size_of(batch)
        tell(done)
    if not done:
        raise BadInputError("the data has no samples")
    found = runs[0].found()
    for kind in sorted(wanted & BASE_KINDS.keys()):
        found.tensors[kind] = runs[1].found().tensors[BASE_KINDS[kind]]
    return found


class _Run:
    """Sums of one model over all batches."""

    def __init__(
        self,
        model: Module,
        kinds: frozenset[str],
        task: Task | None,
        names: Mapping[str, str] | None,
        sampled: torch.Generator | None,
    ) -> None:
        self._model, self._task, self._sampled = model, task, sampled
        self._kinds = kinds
        parameters = named(model, names)
        called = {id(value): name for name, value in parameters.items()}
        self._watch = Watch(called, kinds - SLOPES)
        self._slopes = Slopes(parameters, kinds & SLOPES)

    def add(self, batch: Batch) -> None:
        """Add a batch."""
        with left_as_it_was(self._model):
            if self._kinds - SLOPES:
                self._watch.mask = batch.get(MASK)
                with torch.no_grad(), self._watch.norms(self._model), self._watch:
                    self._called(batch)
            if self._task is not None:
                if self._sampled is not None:
                    batch = self._task.sampled(self._model, batch, self._sampled)
                self._slopes.add(self._model, batch, self._task.loss)

    def _called(self, batch: Batch) -> None:
        """Run the model; of a loss of one's own, as that one runs it."""
        if self._task is not None and self._task.draw is None:
            self._task.loss(self._model, batch)
        else:
            predicted(self._model, batch)

    def found(self) -> Computed:
        """Return means."""
        tensors: dict[str, Tensors] = {kind: {} for kind in sorted(self._kinds)}
        for name, seen in self._watch.seen.items():
            for kind, total in seen.sums.items():
                count = 1 if kind == "energy" else max(seen.rows, 1)
                mean = total / count
                # Products of matrices may round one half unlike the other.
                mean = (mean + mean.T) / 2 if kind == "gram" else mean
                tensors[kind][name] = mean.float().cpu()
        slopes = self._slopes
        for kind, sums in (("fisher", slopes.squares), ("snip", slopes.pulls)):
            if kind in self._kinds:
                tensors[kind] |= {
                    name: (total / slopes.samples).float().cpu()
                    for name, total in sums.items()
                }
        numbers = {}
        if slopes.samples:
            numbers = {
                "loss": slopes.loss / slopes.samples,
                "samples": float(slopes.samples),
            }
        _check(tensors, numbers)
        return Computed(tensors, numbers)


def _check(tensors: Mapping[str, Tensors], numbers: Mapping[str, float]) -> None:
    for kind, found in tensors.items():
        for name, value in found.items():
            if not bool(torch.isfinite(value).all()):
                raise BadInputError(
                    f"{name}: its {kind} is not finite", hint="look at model and data"
                )
    for kind, number in numbers.items():
        if not bool(torch.isfinite(torch.tensor(number))):
            raise BadInputError(
                f"the {kind} is not finite", hint="look at model and data"
            )


def named(model: Module, names: Mapping[str, str] | None) -> dict[str, Parameter]:
    """Return the floating-point parameters by the names that evidence calls them.

    One that has several names (tied weights) stands once, under the first that serves.
    """
    found: dict[str, Parameter] = {}
    taken: set[int] = set()
    for name, parameter in model.named_parameters(remove_duplicate=False):
        called = name if names is None else names.get(name)
        if called is None or id(parameter) in taken:
            continue
        if parameter.is_floating_point():
            taken.add(id(parameter))
            found[called] = parameter
    return found


@contextmanager
def left_as_it_was(model: Module) -> Iterator[None]:
    """Run a model in eval mode with a gradient of all it has; put both back."""
    modes = [(module, module.training) for module in model.modules()]
    asked = [(value, value.requires_grad) for value in model.parameters()]
    try:
        model.eval()
        for value, _ in asked:
            if value.is_floating_point():
                value.requires_grad_()
        yield
    finally:
        for module, mode in modes:
            module.training = mode
        for value, wanted in asked:
            value.requires_grad = wanted
