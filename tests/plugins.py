"""Tiny distributions with strategies, written to a folder as an installer would.

Owns their files. Does not own what is expected of them.
"""

from collections.abc import Mapping
from pathlib import Path

HEAD = """
import numpy as np
from crdtmerge.numerics import each_item
from crdtmerge.strategies import Parameter, Plugin, Strategy
from crdtmerge.strategies.tensors import output_of, participants, refuse_zero, theta_of


def largest(rows):
    return np.maximum.reduce(rows, axis=0)


def emit(inputs):
    _, terms = participants(inputs, inputs.weights)
    refuse_zero(terms, inputs.tensor)
    vectors = [theta_of(inputs, term) for term in terms]
    return each_item(vectors, output_of(inputs), largest)


def strategy(emit=emit, name="acme.largest", **more):
    return Strategy(
        name=name,
        version=1,
        summary="Take the largest of each item",
        paper="Acme 2026, https://acme.example/largest",
        emit=emit,
        needs_base=False,
        **more,
    )
"""


def install(
    folder: Path, package: str, entries: Mapping[str, str], source: str
) -> None:
    """Lay out a distribution of one module, as `pip install` leaves it."""
    module = package.replace("-", "_")
    information = folder / f"{module}-1.2.dist-info"
    information.mkdir(parents=True)
    lines = [f"{name} = {module}:{value}" for name, value in entries.items()]
    text = "\n".join(["[crdtmerge.strategies]", *lines, ""])
    (information / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.2\n"
    )
    (information / "entry_points.txt").write_text(text)
    (information / "RECORD").write_text(f"{module}.py,,\n")
    (folder / f"{module}.py").write_text(HEAD + source)
