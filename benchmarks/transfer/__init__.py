"""Blobs between two processes over real gRPC, against sockets and the disk.

Owns the measurement. Does not own what it measures: servers, receiving and stores are those
of a node.
"""
