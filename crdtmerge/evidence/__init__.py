"""Evidence: what contributors attach, so that methods that need data stay pure functions.

Owns which kinds there are (`kinds`), what stored evidence must be, and how it is
normalised. Does not own what strategies make of it, nor how it is computed from data.
"""
