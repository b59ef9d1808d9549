"""The worker, with names looked up at a DNS server of the test's. Run as a script: `resolver_child.py <its UDP port>`."""

from __future__ import annotations

import functools
import sys

import aiohttp

from worker.__main__ import main

if __name__ == "__main__":
    ours = functools.partial(aiohttp.AsyncResolver, nameservers=["127.0.0.1"], udp_port=int(sys.argv[1]))
    aiohttp.AsyncResolver = ours  # type: ignore[misc, assignment] # the one thing that is not as in earnest
    sys.exit(main(["run"]))
