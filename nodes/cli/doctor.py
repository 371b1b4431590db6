"""The command `doctor`, and the option that names a backend.

Owns what they print. Does not own the examination (`operations.doctoring`), nor which
backends there are (`numerics`).
"""

import time
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, TypeAlias

import typer

from crdtmerge.errors import NodeNeededError

from . import progress, render_peers
from .control import ask_node
from .options import HomeOption, JsonOption
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
    home: HomeOption = None,
    backend: BackendOption = None,
    network: Annotated[
        bool,
        typer.Option("--network", help="Only whether peers reach this node."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Examine what computes merges on this machine, and whether peers reach its node.

    If a node runs, up to three connected peers try the addresses that it announces.

    Every kernel of the fast backend is tested against the reference. The first time takes
    a while, since all of them are compiled; later commands start warm.
    """
    from ..operations.doctoring import doctor as examine

    chosen = settings(context, home, as_json=as_json)
    use(backend)
    facts: dict[str, Any] = {}
    with progress.shown() as tell:
        if not network:
            facts = examine(tell, time.perf_counter)  # noqa: TID251  it measures
        facts["reach"] = ask_node(chosen.home, "doctor_reach", {}, tell)
    if network and facts["reach"] is None:
        raise NodeNeededError(
            "whether peers reach this node only a running one can ask"
        )
    show(facts, _all_rendered, as_json=chosen.as_json)


def _all_rendered(facts: Mapping[str, Any]) -> Iterator[str]:
    if "kernels" in facts:
        yield from _rendered(facts)
        yield ""
    if facts["reach"] is None:
        yield "no node runs here, so whether peers reach it was not tried"
    else:
        yield from render_peers.reach(facts["reach"])


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
