"""What a run may be asked for.

Owns the bounds of seeds, clusters and lengths. Does not own those of faults (`faults`).
"""

from typing import Final

from crdtmerge.errors import BadInputError

NODES_MAX: Final = 128
"""Every node holds all records: twice the nodes are four times the work."""
NODES_DEFAULT: Final = 8
ROUNDS_MAX: Final = 1000
ROUNDS_DEFAULT: Final = 20
SHRINKING_DEFAULT: Final = 300
"""Runs that may be spent on leaving things out of a failure."""
SEED_MAX: Final = 2**63 - 1


def check_run(
    seed: int, nodes: int, nodes_min: int, nodes_max: int = NODES_MAX
) -> None:
    """Refuse a run that is out of bounds.

    Raises:
        BadInputError: names what is, and its range.
    """
    check_range("seed", seed, 0, SEED_MAX)
    check_range("nodes", nodes, nodes_min, nodes_max)


def check_range(what: str, value: int, least: int, most: int) -> None:
    """Refuse a number out of its range.

    Raises:
        BadInputError: names it.
    """
    if not least <= value <= most:
        raise BadInputError(f"{what} is {value}, not {least} to {most}")
