"""The network, where there is one; a quick answer where there is none."""

from __future__ import annotations

import contextlib
import socket
import urllib.parse
import urllib.request
from collections.abc import Iterator


@contextlib.contextmanager
def hub_answers_fast() -> Iterator[None]:
    """Use the hub's cache alone where the hub is out of reach.

    Its library would otherwise try each file six times: most of a minute without a network.
    """
    from huggingface_hub import constants

    host = urllib.parse.urlsplit(constants.ENDPOINT)
    before = constants.HF_HUB_OFFLINE
    try:
        socket.create_connection((host.hostname or "", host.port or 443), timeout=5).close()
    except OSError:
        # a proxy may reach what we cannot; without one, this answer is final
        if not urllib.request.getproxies():
            constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
