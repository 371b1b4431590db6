"""The peer process: storage, network, command line around the pure library.

Owns everything that touches the world: files, sockets, clock, entropy. Does not own what
a record means or how a model is resolved: that is `crdtmerge`.
"""
