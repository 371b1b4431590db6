"""Stories that a cluster must survive: told ones, each kind of fault alone, and the swarm.

`scenarios` lists them. What must hold in the end is in `simulations.checking`.
"""
