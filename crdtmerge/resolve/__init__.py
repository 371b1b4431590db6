"""Layer 2: (visible set, recipe) -> model, a pure function computed as a graph of tasks.

Owns the plan, its execution, the record of having done so, and verification. Does not
own formulas (`strategies`), arithmetic (`numerics`), files (`formats`), nor which
contributions are visible (`orset`).
"""
