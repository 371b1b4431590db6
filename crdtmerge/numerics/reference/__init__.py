"""The reference backend: the contract in readable NumPy, one element at a time in spirit.

Every faster backend must give these bits; it is used only after it was found to. Owns the
meaning of each operation. Does not own the constants (`numerics.contract`).
"""
