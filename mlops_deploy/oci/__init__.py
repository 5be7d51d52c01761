"""Carrier images without a daemon: inventory → plan (pure) → one stream → image. No docker, no network.

`inventory` looks at the model and refuses what cannot travel; `packing` says which file goes into which layer;
`tar` makes the bytes of an entry; `stream` reads each file once and feeds every destination; `metadata` and `image`
make what the layers and the image say about the model; `archive` and `store/` are places the bytes go to; `check`
recomputes everything.
"""
