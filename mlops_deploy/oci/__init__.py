"""Carrier images without a daemon: inventory → plan (pure) → one stream → image. No docker, no network.

Made: `inventory` looks at the model and refuses what cannot travel; `packing` says which file goes into which layer;
`tar` makes the bytes of an entry; `stream` reads each file once and feeds every `destination`; `shell`, `metadata` and
`image` make what surrounds the model; `archive` and `store/` are places the bytes go to, `partial` a file on its way.

Read: `blobs` says where blobs are; `documents`, `card` and `layout` decode what somebody else may have written; `view`
is a carrier as it describes itself; `check` recomputes everything, with `hashed`, `untar` and `tree` layer by layer.
"""
