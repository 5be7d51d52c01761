"""Registries, spoken to by the OCI distribution specification 1.1: one pass up, one pass down, nothing kept on disk.

`registries` is the way in; `repository` is one repository of a registry; `channel` asks one host, `upload` sends one
blob, `download` reads one. `access` is who we are there and whom we believe: `credentials`, `tokens`, `trust`, and
`addresses` for where a registry may send us.
"""
