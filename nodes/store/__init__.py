"""Where a node keeps records, local facts and blobs.

Owns durability: what a call of this package returned from survives a crash. Does not own
the meaning of what is kept, nor keys and locks of a home (`nodes.home`).
"""
