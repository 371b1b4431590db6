"""The command `doctor`, and the option that names a backend.

Owns what they print. Does not own the examination (`operations.doctoring`), nor which
backends there are (`numerics`).
"""

import time
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, TypeAlias

import typer

from . import progress
from .options import JsonOption
from .output import show, table
from .settings import settings

BackendOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--backend",
        metavar="reference|cpu|cuda",
        help="What computes; cpu if left out. It changes no bit of the model.",
        show_default=False,
    ),
]


def use(backend: str | None) -> None:
    """Let the backend that an option names serve this process.

    Raises:
        BackendError: there is none of this name, or it does not work here.
    """
    if backend is not None:
        from crdtmerge import numerics

        numerics.choose(backend)


def doctor(
    context: typer.Context,
    *,
    backend: BackendOption = None,
    as_json: JsonOption = False,
) -> None:
    """Examine what computes merges on this machine, and how fast.

    Every kernel of the fast backend is tested against the reference. The first time takes
    a while, since all of them are compiled; later commands start warm.
    """
    from ..operations.doctoring import doctor as examine

    chosen = settings(context, as_json=as_json)
    use(backend)
    with progress.shown() as tell:
        facts = examine(tell, time.perf_counter)  # noqa: TID251  it measures
    show(facts, _rendered, as_json=chosen.as_json)


def _rendered(facts: Mapping[str, Any]) -> Iterator[str]:
    packages = ", ".join(
        f"{name} {found or 'not installed'}"
        for name, found in facts["packages"].items()
    )
    yield f"crdtmerge {facts['crdtmerge']}, numeric contract {facts['contract']}"
    yield f"Python {facts['python']} on {facts['machine']}; {packages}"
    for backend in facts["backends"]:
        state = "works" if backend["works"] else backend["reason"]
        mark = " (chosen)" if backend["name"] == facts["chosen"] else ""
        yield f"backend {backend['name']}{mark}: {state}"
    kept = facts["machine_code"] or "not kept: each process compiles anew"
    yield f"machine code: {kept}"
    yield f"memory copy: {facts['memory_copy_gb_s']} GB/s"
    yield ""
    head = ("KERNEL", "SERVED BY", "GB/S", "REFERENCE", "WHY NOT")
    yield from table(
        head,
        [
            (
                row["kernel"],
                row["served_by"],
                row["gb_s"] if row["gb_s"] is not None else "-",
                row["reference_gb_s"] if row["gb_s"] is not None else "-",
                row["reason"],
            )
            for row in facts["kernels"]
        ],
    )
