"""Links between simulated machines, and what crosses them.

`network` carries messages, over a `link` each, where no `walls` are; `downloads` fetches
blobs, and `serving` is their other end. Owns no machine.
"""
