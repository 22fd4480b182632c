"""`python -m synthset`, the same as `synthset`."""

from .cli import main

main()
