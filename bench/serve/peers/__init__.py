"""Other embedding servers, which fastcpu's is compared with.

    python -m bench.environments fastapi_st
    python -m bench.serve.peers fastapi_st --model MODEL --port 8100 --cpus 0

A benchmark uses them so:

    peer = find_peer("infinity", "optimum-int8")
    with Server(peer, model_dir, port, threads=1, cpus=[0], cache=CACHE, log=log) as server:
        path, headers, body = peer.body(texts)
        ...  # POST it to 127.0.0.1:port
        vectors = peer.vectors(content)
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from bench.serve.peers.fastapi_st import FastapiSt
from bench.serve.peers.infinity import Infinity
from bench.serve.peers.mlserver import MlServer
from bench.serve.peers.protocol import Peer
from bench.serve.peers.pytriton import PyTriton

CACHE = Path("build/bench/serve")
"""Where peers keep the files that they load."""

PEERS: tuple[type[Peer], ...] = (FastapiSt, Infinity, MlServer, PyTriton)


def find_peer(name: str, variant: str = "", options: Mapping[str, str] | None = None) -> Peer:
    """The peer of that name; ValueError for a name, variant or option that there is none of."""
    for peer in PEERS:
        if peer.name == name:
            return peer(variant, options)
    raise ValueError(f"no peer {name!r}; there are {', '.join(peer.name for peer in PEERS)}")
