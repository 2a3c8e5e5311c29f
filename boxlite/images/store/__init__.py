"""The images of a home: an OCI image layout whose names, blobs and leases any number of processes share."""
