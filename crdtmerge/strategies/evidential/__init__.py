"""Strategies that read evidence: what contributions attach beside their tensors.

Owns nothing itself: a module has a method or a close family (`table` lists them), and
`given` what they share.
"""
