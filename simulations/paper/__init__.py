"""The experiments of the paper that this work answers, and ours beyond them.

Owns their definitions, the figures that the paper gives, and the report. Does not own what
is measured: that is `crdtmerge` and `nodes`, by the code that people run. The paper is
"Conflict-Free Replicated Data Types for Neural Network Model Merging: A Two-Layer
Architecture Enabling CRDT-Compliant Model Merging Across 26 Strategies".

Nothing is extrapolated: what was not run is not counted, and stands under `not_run`.
"""
