"""Access to the hub, with a quick answer if there is no network."""

from __future__ import annotations

import contextlib
import socket
import urllib.parse
import urllib.request
from collections.abc import Iterator


@contextlib.contextmanager
def hub_answers_fast() -> Iterator[None]:
    """Use only the hub's cache if the hub is out of reach.

    Otherwise its library would try each file six times: most of a minute without a network.
    """
    from huggingface_hub import constants

    host = urllib.parse.urlsplit(constants.ENDPOINT)
    before = constants.HF_HUB_OFFLINE
    try:
        socket.create_connection((host.hostname or "", host.port or 443), timeout=5).close()
    except OSError:
        # a proxy may reach the hub when we cannot; without one, this is final
        if not urllib.request.getproxies():
            constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
