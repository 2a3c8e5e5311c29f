"""Micro-VM sandboxes as supervised actors, on Trio."""
