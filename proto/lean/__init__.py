"""The messages of boxlite/v1/*.proto for the guest, where every import is paid for by each start of a box.

`messages` is generated, `wire` encodes and decodes. What goes over the wire is the same as with the code in
`proto.boxlite.v1`, which the host uses.
"""
