"""Gossip among more peers than any machine can run: a model, calibrated and checked.

Owns the model (`graph`, `spread`), what its messages cost (`calibration`), what members
cost (`members`), its check against real node cores (`check`) and the report. Does not own
the protocol: where a node changes, `check` shows how far the model is off.
"""
