"""What poison costs: backdoored contributions, every robust strategy, and who is flagged.

`python -m benchmarks poison` runs it (`command`); the figures are in `docs/poison.md`. Does
not own honest training, networks or merging, which are those of `benchmarks.quality`.
"""
