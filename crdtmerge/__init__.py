"""Merge fine-tunes of one base model with no server, byte for byte the same everywhere.

This package is the pure library: no clock, no ambient randomness, no sockets. Layer 1
(`record`, `policy`, `orset`, `trie`) is the replicated set of signed contributions;
layer 2 (`numerics`, `strategies`, `resolve`) turns the visible set into a model.
"""

from typing import Final

__version__: Final = "0.1.0.dev0"
