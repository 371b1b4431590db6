"""Sync as sans-IO state machines: what peers say, and how they find what differs.

Owns the messages and one `Session` per pair of peers. Does not own connections, timers or
storage: bytes and ids go in, messages come out.
"""
