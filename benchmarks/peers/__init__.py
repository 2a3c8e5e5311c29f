"""The same work by this package, by bare libkrun and by others' packages, for the lab: see docs/lab.md.

Each program here is run by itself, with the packages of its own on the path, and prints figures as JSON lines.
"""
