"""What becomes of stored blobs: which are needed, which go, which are damaged.

Owns collection, the check of everything, repair and the slow check in the background. Does
not own how blobs are stored (`nodes.store`), nor the commands (`nodes.operations`).
"""
