"""`python -m simulations.real`: what `python -m simulations real` runs."""

import sys

from .command import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
