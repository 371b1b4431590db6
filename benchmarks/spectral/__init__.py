"""Merges by singular values, beside the same formulas on plain torch."""
