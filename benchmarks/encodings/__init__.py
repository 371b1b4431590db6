"""How many bytes lossless encodings save on real fine-tunes, and how fast.

`python -m benchmarks encodings` runs it (`command`). The fine-tunes are trained on the spot
(`training`); nothing is measured on made-up numbers.
"""
