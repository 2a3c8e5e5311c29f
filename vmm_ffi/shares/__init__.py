"""Directories of the host that guests see: how they are confined before anybody serves them, and who does."""
