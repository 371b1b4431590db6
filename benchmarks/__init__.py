"""Measurements: how fast it is, whether bytes are the same elsewhere, how good merges are.

`python -m benchmarks COMMAND` runs what is in `__main__`'s table; the other files are
scripts of their own.
"""
