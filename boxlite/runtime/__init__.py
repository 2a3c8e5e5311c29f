"""The runtime: what an application opens, and what all its boxes share."""
