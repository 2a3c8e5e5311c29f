"""Images: from a name to a read-only disk and a configuration."""
