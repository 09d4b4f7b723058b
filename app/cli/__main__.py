"""`python -m app.cli` is `outlast`."""

from app.cli import main

main()
