"""The command `evidence compute`.

Owns its options. Does not own what it does (`nodes.evidence`).
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from . import progress
from .options import JsonOption
from .output import show
from .settings import settings


def compute(
    context: typer.Context,
    model: Annotated[
        Path,
        typer.Argument(metavar="MODEL", help="A model folder, as you contribute it."),
    ],
    data: Annotated[
        Path | None,
        typer.Argument(
            metavar="[DATA]",
            help="Samples: .jsonl with text and label, or .npz or .safetensors with x and"
            " y. It stays on this machine.",
            show_default=False,
        ),
    ] = None,
    *,
    kind: Annotated[
        str,
        typer.Option(
            metavar="KIND,...",
            help="Of adam, energy, fisher, fisher_base, gram, inputs, magnitude, outputs,"
            " snip and snip_base.",
        ),
    ],
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Where the files go; a new folder.")
    ],
    module: Annotated[
        str | None,
        typer.Option(
            metavar="MODULE:FUNCTION",
            help="What makes a torch module of the folder MODEL; else transformers does.",
            show_default=False,
        ),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(
            metavar="classification|language|regression",
            help="The loss, for gradients.",
            show_default=False,
        ),
    ] = None,
    loss: Annotated[
        str | None,
        typer.Option(
            metavar="MODULE:FUNCTION",
            help="A loss of your own: of the model and a batch, their mean loss.",
            show_default=False,
        ),
    ] = None,
    labels: Annotated[
        str,
        typer.Option(
            metavar="given|sampled",
            help="Take gradients for the labels of the data (the empirical Fisher), or"
            " for some drawn from the model (the Fisher proper).",
        ),
    ] = "given",
    base: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="The base, for fisher_base, snip_base and magnitude.",
            show_default=False,
        ),
    ] = None,
    optimizer: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A checkpoint of the optimizer, for adam.",
            show_default=False,
        ),
    ] = None,
    factored: Annotated[
        bool, typer.Option("--factored", help="Sums of rows and columns of adam only.")
    ] = False,
    samples: Annotated[
        int | None,
        typer.Option(min=1, help="Take the first so many only.", show_default=False),
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Samples at once.")] = 8,
    sketch: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="R",
            help="Tell the R strongest directions of Gram matrices only.",
            show_default=False,
        ),
    ] = None,
    noise: Annotated[
        float,
        typer.Option(
            min=0,
            metavar="SIGMA",
            help="Normal noise on sketches, in units of their own size. It blurs, and is"
            " no differential privacy.",
        ),
    ] = 0.0,
    seed: Annotated[int, typer.Option(help="Of noise and drawn labels.")] = 0,
    device: Annotated[str, typer.Option(help="Where torch works: cpu, cuda.")] = "cpu",
    as_json: JsonOption = False,
) -> None:
    """Compute what a merge may read of your data: importances, Gram matrices, means.

    It is for `crdtmerge contribute MODEL --evidence KIND=FILE`. It tells something of the
    data: look at docs/evidence.md before you share it. Needs torch.
    """
    chosen = settings(context, as_json=as_json)
    _one_of("--labels", labels, ("given", "sampled"))
    if task is not None:
        _one_of("--task", task, ("classification", "language", "regression"))
    asked: dict[str, Any] = {
        "model": model,
        "data": data,
        "kinds": tuple(dict.fromkeys(k.strip() for k in kind.split(",") if k.strip())),
        "out": out.absolute(),
        "module": module,
        "task": task,
        "loss": loss,
        "labels": labels,
        "base": base,
        "optimizer": optimizer,
        "factored": factored,
        "samples": samples,
        "batch": batch,
        "sketch": sketch,
        "noise": noise,
        "seed": seed,
        "device": device,
    }
    show(_run(asked), computed, as_json=chosen.as_json)


def _one_of(option: str, told: str, known: tuple[str, ...]) -> None:
    if told not in known:
        raise typer.BadParameter(
            f"{told!r} is not one of {', '.join(known)}", param_hint=option
        )


def _run(asked: Mapping[str, Any]) -> dict[str, object]:
    from crdtmerge.errors import MachineError

    try:
        from ..evidence.asking import Asked, answer
    except ModuleNotFoundError as e:
        if e.name != "torch":
            raise
        raise MachineError(
            "this needs torch, which is not installed",
            hint="pip install 'crdtmerge[evidence]'",
        ) from e
    with progress.shown() as tell:
        return answer(Asked(**asked), tell)


def computed(facts: Mapping[str, Any]) -> Iterator[str]:
    """Say what was written, and how it is attached."""
    for kind, count in facts["tensors"].items():
        yield f"{kind}: {count} of {facts['of']} tensors, {facts['files'][kind]}"
    for name, number in facts["scalars"].items():
        yield f"{name}: {number:g}"
    for kind in facts["nothing_of"]:
        yield f"{kind}: nothing in this model"
    told = " ".join(
        f"--evidence {kind}={path}" for kind, path in facts["files"].items()
    )
    yield f"attach it with `crdtmerge contribute MODEL {told}`"
