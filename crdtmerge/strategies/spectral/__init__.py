"""Strategies on matrices: singular values, polar factors, linear systems.

Owns nothing itself: a module has a method or a close family (`table` lists them), and
`matrices` what they share.
"""
