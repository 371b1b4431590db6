"""`python -m nodes.cli`, where the `crdtmerge` script is not installed."""

from . import main

main()
