"""Strategies that stand for methods which train or unlearn, as pure functions.

Owns nothing itself: a module has a method or a close family (`table` lists them). What is
a surrogate, and of what, its docstring says.
"""
