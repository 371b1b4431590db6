"""Second moments out of an optimizer's checkpoint, such as `optimizer.pt` of a Trainer.

Owns which moment belongs to which tensor. Does not own how they weigh (`crdtmerge`).

A checkpoint of torch numbers its parameters. Names are taken from it where it has them;
else the order is the model's, or that of transformers' Trainer, which puts what decays
first. An order is believed only where every shape agrees.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from torch.nn import Parameter

from crdtmerge.errors import BadInputError, NotFoundError

MOMENT: Final = "exp_avg_sq"


def read_moments(
    path: Path, parameters: Mapping[str, Parameter]
) -> dict[str, torch.Tensor]:
    """Return the second moments of Adam by the names of tensors.

    Raises:
        NotFoundError: there is no such file.
        BadInputError: it is no checkpoint of Adam, or not of this model.
    """
    state = _state(path)
    groups: list[Any] = state["param_groups"]
    numbers = [number for group in groups for number in group["params"]]
    for names in _orders(groups, parameters):
        found = _matched(state["state"], numbers, names, parameters)
        if found:
            return found
    raise BadInputError(
        f"{path.name}: its moments do not fit the tensors of the model",
        hint="take the checkpoint of the run that made MODEL, and all its parameters",
    )


def _state(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise NotFoundError(f"{path}: there is no such file")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as e:
        raise BadInputError(f"{path.name}: torch cannot read it safely") from e
    if isinstance(state, dict) and isinstance(state.get("optimizer"), dict):
        state = state["optimizer"]
    if not isinstance(state, dict) or not {"state", "param_groups"} <= state.keys():
        raise BadInputError(f"{path.name}: it is no optimizer's state_dict")
    return state


def _orders(
    groups: Sequence[Mapping[str, Any]], parameters: Mapping[str, Parameter]
) -> Iterator[list[str]]:
    """Yield the names that parameters may have, in the order of their numbers."""
    if all("param_names" in group for group in groups):
        yield [name for group in groups for name in group["param_names"]]
    yield list(parameters)
    plain = [n for n in parameters if n.endswith("bias") or "norm" in n.lower()]
    yield [n for n in parameters if n not in plain] + plain


def _matched(
    state: Mapping[Any, Any],
    numbers: Sequence[Any],
    names: Sequence[str],
    parameters: Mapping[str, Parameter],
) -> dict[str, torch.Tensor]:
    """Return moments by name; nothing where a count or a shape differs."""
    if len(numbers) != len(names):
        return {}
    found = {}
    for number, name in zip(numbers, names, strict=True):
        moment = state.get(number, {}).get(MOMENT)
        if moment is None or name not in parameters:
            continue
        if moment.shape != parameters[name].shape:
            return {}
        found[name] = moment.float()
    return found


def factored(
    moments: Mapping[str, torch.Tensor],
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Return sums along rows and along columns, as Adafactor keeps them.

    Formula (Shazeer and Stern 2018, https://arxiv.org/abs/1804.04235): their product over
    the sum stands for the whole. Of tensors of one dimension there is nothing to save.
    """
    rows, columns = {}, {}
    for name, moment in moments.items():
        if moment.dim() > 1:
            matrix = moment.double().flatten(1)
            rows[name] = matrix.sum(dim=1).float()
            columns[name] = matrix.sum(dim=0).float()
    return rows, columns
