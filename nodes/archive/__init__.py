"""A space as one file: a plain tar of its records and blobs.

Owns the form of that file and its writing and reading. Does not own what goes into it, nor
what is believed of it (`operations.exporting`, `operations.importing`).
"""
