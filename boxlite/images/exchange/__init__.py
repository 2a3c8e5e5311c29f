"""Images to and from other tools: OCI layouts, archives of `docker save`, and local daemons."""
