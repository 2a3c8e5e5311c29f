"""The command line: a thin layer over what `boxlite` offers to any program."""
