"""Looking at contributions: how far, which way, whose copy, and what was done to them.

Owns measuring contributions beside their base and beside each other, and what of it
stands out. Does not own any arithmetic on weights (`numerics`), what is merged
(`resolve`), nor who may contribute. It decides nothing: a set of contributions is the
same whatever is found.
"""
