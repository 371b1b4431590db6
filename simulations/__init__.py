"""The real node cores, run together in virtual time from one integer seed.

Owns the simulated clock, network and cluster, the scenarios and what is checked after them.
Does not own any behaviour of a node: that is `nodes` and `crdtmerge`, which never import
this package.
"""
