"""Measurements of the way from an image's layers to a disk."""
