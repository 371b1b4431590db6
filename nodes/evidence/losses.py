"""What is learned: losses of a batch, and labels drawn from the model itself.

Owns the tasks that are known by name. Does not own gradients (`gradients`).

A batch maps names to tensors whose first dimension tells the samples. What is under
`labels` is what should come out; all else goes into the model: alone by place, of several
by name, as models of transformers take it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, TypeAlias

import torch
from torch.nn import Module
from torch.nn.functional import cross_entropy, mse_loss

from crdtmerge.errors import BadInputError

Batch: TypeAlias = Mapping[str, torch.Tensor]
Loss: TypeAlias = Callable[[Module, Batch], torch.Tensor]
"""The mean loss of a batch, of no dimension."""

Draw: TypeAlias = Callable[[torch.Tensor, Batch, torch.Generator], torch.Tensor]

LABELS: Final = "labels"
MASK: Final = "attention_mask"
IGNORED: Final = -100
"""The label of what no loss is taken of, as in torch and transformers."""


@dataclass(frozen=True, slots=True)
class Task:
    """A loss, and how labels are drawn from what the model says; None if they cannot be."""

    loss: Loss
    draw: Draw | None = None

    def sampled(
        self, model: Module, batch: Batch, generator: torch.Generator
    ) -> dict[str, torch.Tensor]:
        """Return the batch with labels drawn from the model.

        Raises:
            BadInputError: nobody said how labels of this loss are drawn.
        """
        if self.draw is None:
            raise BadInputError(
                "labels of a loss of one's own cannot be drawn",
                hint="take --labels given, or one of the tasks with --task",
            )
        with torch.no_grad():
            said = predicted(model, batch)
            return {**batch, LABELS: self.draw(said, batch, generator)}


def predicted(model: Module, batch: Batch) -> torch.Tensor:
    """Return what the model says: its logits, or the one tensor that it returns.

    Raises:
        BadInputError: it returns no such thing.
    """
    given = {name: value for name, value in batch.items() if name != LABELS}
    made: Any = model(*given.values()) if len(given) == 1 else model(**given)
    for found in (made, getattr(made, "logits", None)):
        if isinstance(found, torch.Tensor):
            return found
    if isinstance(made, tuple) and made and isinstance(made[0], torch.Tensor):
        return made[0]
    raise BadInputError(
        f"the model returns {type(made).__name__}, which has no logits",
        hint="give a loss of your own with --loss module:function",
    )


def _labels(batch: Batch) -> torch.Tensor:
    if LABELS not in batch:
        raise BadInputError(
            "the data has no labels, and this loss needs them",
            hint="give them as `label` (jsonl) or `y` (npz, safetensors)",
        )
    return batch[LABELS]


def _classification(model: Module, batch: Batch) -> torch.Tensor:
    labels = _labels(batch)
    return cross_entropy(predicted(model, batch).float(), labels)


def _regression(model: Module, batch: Batch) -> torch.Tensor:
    labels = _labels(batch)
    said = predicted(model, batch).float()
    return mse_loss(said.reshape(labels.shape), labels.float())


def _language(model: Module, batch: Batch) -> torch.Tensor:
    """Predict each token from those before it; padding counts for nothing."""
    labels = batch.get(LABELS, batch.get("input_ids"))
    if labels is None:
        labels = _labels(batch)
    if MASK in batch:
        labels = labels.masked_fill(batch[MASK] == 0, IGNORED)
    said = predicted(model, batch).float()
    classes = said.shape[-1]
    targets = labels[:, 1:].reshape(-1)
    total = cross_entropy(
        said[:, :-1].reshape(-1, classes),
        targets,
        ignore_index=IGNORED,
        reduction="sum",
    )
    # A text of one token has none to predict: no loss, and not nought by nought.
    return total / (targets != IGNORED).sum().clamp_min(1)


def _drawn(
    said: torch.Tensor, _batch: Batch, generator: torch.Generator
) -> torch.Tensor:
    odds = said.double().softmax(dim=-1).cpu()
    found = torch.multinomial(odds.reshape(-1, odds.shape[-1]), 1, generator=generator)
    return found.reshape(odds.shape[:-1]).to(said.device)


def _drawn_tokens(
    said: torch.Tensor, batch: Batch, generator: torch.Generator
) -> torch.Tensor:
    found = _drawn(said, batch, generator)
    return torch.cat([found[:, :1], found[:, :-1]], dim=1)


def _drawn_values(
    said: torch.Tensor, _batch: Batch, generator: torch.Generator
) -> torch.Tensor:
    """Draw from the normal of variance 1/2, whose -log likelihood squared errors are."""
    noise = torch.randn(said.shape, generator=generator, dtype=torch.float64)
    found: torch.Tensor = said.double() + noise.to(said.device) * 0.5**0.5
    return found


TASKS: Final[Mapping[str, Task]] = MappingProxyType(
    {
        "classification": Task(_classification, _drawn),
        "language": Task(_language, _drawn_tokens),
        "regression": Task(_regression, _drawn_values),
    }
)
"""By name: cross-entropy of classes, of the next token, and squared errors."""
