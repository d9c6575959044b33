"""`python -m operations.cli`: the same as `tidemark`."""

from operations.cli import main

main()
