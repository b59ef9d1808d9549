"""The worker, asking a DNS server of the test's for names, anew for each connection: `resolver_child.py <its UDP port>`."""

from __future__ import annotations

import functools
import sys

import aiohttp

from worker.__main__ import main
from worker.adapters import http

if __name__ == "__main__":
    ours = functools.partial(aiohttp.AsyncResolver, nameservers=["127.0.0.1"], udp_port=int(sys.argv[1]))
    aiohttp.AsyncResolver = ours  # type: ignore[misc, assignment] # this and the next line are all that is not as in earnest
    http.DNS_CACHE_S = 0
    sys.exit(main(["run"]))
