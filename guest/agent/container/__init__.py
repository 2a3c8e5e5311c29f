"""The container: its namespaces, its root, and the process that starts commands in it."""
