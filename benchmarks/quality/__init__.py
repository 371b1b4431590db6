"""How good merged models are: real fine-tunes, every strategy, and poison.

`python -m benchmarks quality` runs it (`command`). Does not own speed or equal bytes,
which the other benchmarks measure.
"""
