"""Fine-tunes as people make them: full, partly frozen, in two dtypes, and LoRA.

Owns the kinds of fine-tune and their training: names are matched with documentation by a
contrastive loss, AdamW with decay, warm-up and linear decline of the rate. Does not own the
base or the text (`bases`).
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict

from benchmarks.encodings.bases import Base, Pair

Weights = Mapping[str, torch.Tensor]

BATCH: Final = 16
WARM_UP: Final = 10
SHARPNESS: Final = 20.0
RANK: Final = 16
PRETRAINING_RATE: Final = 1e-3
"""For a base that is made here."""


@dataclass(frozen=True, slots=True)
class Tuned:
    """A fine-tune and what it was tuned from; no weights of the base for an adapter."""

    base: Weights
    weights: Weights


@dataclass(frozen=True, slots=True)
class Case:
    """One kind of fine-tune."""

    name: str
    rate: float
    make: Callable[["Case", Base, Sequence[Pair], int], Tuned]


def train(
    model: torch.nn.Module,
    base: Base,
    text: Sequence[Pair],
    *,
    rate: float,
    steps: int,
    seed: int,
) -> float:
    """Train what takes a gradient; return the mean loss of the last ten steps."""
    generator = torch.Generator().manual_seed(seed)
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1, (step + 1) / WARM_UP) * (1 - step / steps)
    )
    model.train()
    losses = []
    for _ in range(steps):
        chosen = torch.randint(len(text), (BATCH,), generator=generator).tolist()
        names = embed(model, base, [text[i][0] for i in chosen])
        said = embed(model, base, [text[i][1] for i in chosen])
        loss = torch.nn.functional.cross_entropy(
            names @ said.T * SHARPNESS, torch.arange(BATCH)
        )
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        losses.append(float(loss.detach()))
    return sum(losses[-10:]) / len(losses[-10:])


def embed(model: torch.nn.Module, base: Base, texts: Sequence[str]) -> torch.Tensor:
    """Return unit vectors: the mean of the last layer over the tokens."""
    batch = base.tokens(texts)
    states = model(**batch).last_hidden_state.float()
    mask = batch["attention_mask"][..., None].float()
    mean = (states * mask).sum(1) / mask.sum(1)
    return torch.nn.functional.normalize(mean, dim=1)


def weights_of(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {
        name: value.detach().clone().contiguous()
        for name, value in model.state_dict().items()
        if value.is_floating_point()
    }


def _full(case: Case, base: Base, text: Sequence[Pair], steps: int) -> Tuned:
    model = copy.deepcopy(base.model)
    train(model, base, text, rate=case.rate, steps=steps, seed=1)
    return Tuned(weights_of(base.model), weights_of(model))


def _frozen(case: Case, base: Base, text: Sequence[Pair], steps: int) -> Tuned:
    """Tune the upper half of the layers alone."""
    model = copy.deepcopy(base.model)
    layers = len(model.encoder.layer)  # type: ignore[union-attr, arg-type]
    upper = tuple(f"encoder.layer.{n}." for n in range(layers // 2, layers))
    for name, parameter in model.named_parameters():
        parameter.requires_grad = name.startswith(upper)
    train(model, base, text, rate=case.rate, steps=steps, seed=2)
    return Tuned(weights_of(base.model), weights_of(model))


def _mixed(case: Case, base: Base, text: Sequence[Pair], steps: int) -> Tuned:
    """Tune in float32 from a base that was published, and publish, in bfloat16."""
    model = _rounded(base.model).float()
    train(model, base, text, rate=case.rate, steps=steps, seed=3)
    return Tuned(weights_of(_rounded(base.model)), weights_of(_rounded(model)))


def _pure(case: Case, base: Base, text: Sequence[Pair], steps: int) -> Tuned:
    """Tune in bfloat16 itself: steps below half a place are lost."""
    model = _rounded(base.model)
    train(model, base, text, rate=case.rate, steps=steps, seed=4)
    return Tuned(weights_of(_rounded(base.model)), weights_of(model))


def _rounded(model: torch.nn.Module) -> torch.nn.Module:
    return copy.deepcopy(model).bfloat16()


def _tune_adapter(
    case: Case, base: Base, text: Sequence[Pair], steps: int
) -> torch.nn.Module:
    config = LoraConfig(
        r=RANK, lora_alpha=2 * RANK, target_modules=["query", "key", "value", "dense"]
    )
    model: torch.nn.Module = get_peft_model(copy.deepcopy(base.model), config)
    train(model, base, text, rate=case.rate, steps=steps, seed=5)
    return model


def _adapter(case: Case, base: Base, text: Sequence[Pair], steps: int) -> Tuned:
    """Tune an adapter, and publish it alone."""
    weights = get_peft_model_state_dict(_tune_adapter(case, base, text, steps))
    return Tuned({}, {name: value.contiguous() for name, value in weights.items()})


def _merged(case: Case, base: Base, text: Sequence[Pair], steps: int) -> Tuned:
    """Tune an adapter, and publish the whole model that it makes."""
    model = _tune_adapter(case, base, text, steps)
    whole = model.merge_and_unload()  # type: ignore[operator]
    return Tuned(weights_of(base.model), weights_of(whole))


CASES: Final = (
    Case("full, float32", 2e-5, _full),
    Case("full, bfloat16", 2e-5, _mixed),
    Case("full, bfloat16 throughout", 2e-5, _pure),
    Case("upper half, float32", 2e-5, _frozen),
    Case("LoRA merged, float32", 2e-4, _merged),
    Case("LoRA adapter, float32", 2e-4, _adapter),
)
