"""Pulling an image: what others use of this package. The names that it offers are settled, the rest is under way.

    await locate(reference, config=...)                      -> the full name, searched for where it is short
    await resolve_image(reference, config=..., architecture=...)   -> Descriptor of the platform's manifest
    await pull_image(reference, blobs, config=..., architecture=..., on_progress=...) -> the same, and everything is there

`candidates(reference, config)` of config.py gives, without any network, the full names that a short one may stand for:
look for these in the store first. `load_registry_config(home)` of config_file.py reads the user's file.
"""
