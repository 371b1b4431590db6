"""The stories again, for real: processes, disks and networks of this machine.

Owns starting real nodes, doing to them what the simulation does to simulated ones, and
checking the same promises. Does not own any behaviour of a node. Nothing that is simulated
imports this package: it has a clock, sockets and processes, and they have none.
"""
