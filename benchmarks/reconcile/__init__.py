"""What finding the difference of two sets costs, by our way and by others.

Owns the measurement, and the other ways, which are written here from their publications.
Does not own what it measures: descents and sessions are those of a node.
"""
