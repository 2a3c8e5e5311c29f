"""Actors on Trio: typed messages, bounded mailboxes, supervision."""
