"""Images from registries: the OCI distribution protocol over httpx."""
