"""The verb `node_metrics`: what the running node counts.

Owns that it takes a running node. Does not own any number (`nodes.metrics`).
"""

from .converging import live_of
from .live import Answer, Arguments, Context, Tell


def node_metrics(context: Context, _asked: Arguments, _tell: Tell) -> Answer:
    """Return the metrics of the node that runs here.

    Raises:
        NodeNeededError: none does: its counters live as long as it runs.
    """
    return live_of(context).metrics()
