"""Evidence computed from a model and data, on the machine of its author.

Owns hooks, gradients and files. Does not own which kinds there are nor what a merge makes
of them (`crdtmerge.evidence`).

This is work in floats, with torch, and outside of the numeric contract: two machines may
differ in the last bits of what they compute. A merge takes evidence as given, as it takes
weights, and from there on every bit is told. Imported late, for torch takes its time.
"""

from .computing import BASE_KINDS, COMPUTED, Computed, compute
from .losses import TASKS, Batch, Loss, Task

__all__ = [
    "BASE_KINDS",
    "COMPUTED",
    "TASKS",
    "Batch",
    "Computed",
    "Loss",
    "Task",
    "compute",
]
