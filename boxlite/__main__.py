"""`python -m boxlite` is the command `boxlite`."""

from boxlite.cli.main import main

main()
