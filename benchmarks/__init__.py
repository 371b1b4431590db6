"""Measurements: how fast it is, and whether bytes are the same elsewhere.

`python -m benchmarks COMMAND` runs what is in `__main__`'s table; the other files are
scripts of their own.
"""
