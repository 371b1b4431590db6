"""Message classes and stubs generated from `proto/replica.proto`; never edited by hand.

Owns nothing: `make proto` writes this folder. Only `nodes.convert`, `nodes.server` and
`nodes.client` use it.
"""
