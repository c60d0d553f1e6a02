"""Refusals by the Hub, in messages that say what to do and never contain a token."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from podium.errors import ConfigError, PodiumError, UserError, chain, one_line

NETWORK_LIBRARIES = ("httpx", "httpx2", "httpcore", "httpcore2", "requests", "urllib3")


def check_repo_id(repo_id: str) -> None:
    """Check that a repository's name is valid.

    Args:
        repo_id: the name, `OWNER/NAME`.

    Raises:
        ConfigError: it is not.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(repo_id)
        if repo_id.count("/") != 1:
            raise HFValidationError("it has no owner")
    except HFValidationError as error:
        raise ConfigError(
            f"{repo_id!r} is not a valid repository name: expected OWNER/NAME of letters, digits, "
            f"'-', '_' and '.' ({one_line(error)})."
        ) from None


def refuse_offline() -> None:
    """Respect the setting not to use the network.

    Raises:
        UserError: `HF_HUB_OFFLINE` is set.
    """
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        raise UserError(
            "HF_HUB_OFFLINE is set, so nothing is uploaded. Unset it, or use --dry-run to see what "
            "would be uploaded."
        )


@contextmanager
def translated_errors(what: str, token: str) -> Iterator[None]:
    """Translate errors of the hub's library to Podium's.

    Args:
        what: the repository, for the message.
        token: must not appear in any message; empty string: no token.
    """
    try:
        yield
    except PodiumError:
        raise
    except Exception as error:
        # an upload's thread wraps its error in a generic one
        for one in chain(error):
            ours = _translated(one, what, token) if isinstance(one, Exception) else None
            if ours is not None:
                raise ours from None  # the original may quote the request's headers
        raise


REFUSALS = {
    401: "The Hub does not accept the token for {what} ({said}). Create one with write access at "
    "https://huggingface.co/settings/tokens, then log in with it or give --token-file.",
    403: "The token has no write access to {what} ({said}). Its owner must be you or an "
    "organisation of yours, and the token's role must be write.",
    404: "{what} does not exist or is not visible to you ({said}). Check owner and name, and log "
    "in if it is private.",
    409: "{what} was changed by someone else at the same time ({said}). Run the same command "
    "again.",
    429: "The Hub accepts no more requests for now ({said}). Wait a few minutes, then run the "
    "same command again.",
    500: "The Hub failed ({said}). Its status is shown at https://status.huggingface.co; run the "
    "same command again later.",
}
"""Message by status; 412 counts as 409, and everything above 500 as 500."""


def _translated(error: Exception, what: str, token: str) -> PodiumError | None:
    from huggingface_hub import errors

    said = one_line(error)
    said = said.replace(token, "***") if token else said
    if isinstance(error, errors.RemoteEntryNotFoundError):
        return UserError(f"{what} holds no model that Podium pushed ({said}).")
    if isinstance(error, errors.RevisionNotFoundError):
        return UserError(f"{what}: there is no such branch, tag or commit ({said}).")
    if isinstance(error, errors.OfflineModeIsEnabled | errors.LocalEntryNotFoundError):
        return PodiumError(
            f"{what} is not on this machine, and the Hub cannot be reached ({said})."
        )
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(status, int):
        # without a token the Hub also answers 401 for what does not exist
        meant = 404 if status == 401 and not token else {412: 409}.get(status, min(status, 500))
        kind = PodiumError if meant in (409, 429, 500) else UserError
        text = REFUSALS.get(meant, "The Hub refuses {what} ({said}).")
        return kind(text.format(what=what, said=said))
    library = type(error).__module__.partition(".")[0]
    if library in NETWORK_LIBRARIES or isinstance(error, ConnectionError | TimeoutError):
        return PodiumError(
            f"The Hub cannot be reached ({type(error).__name__}: {said}). Nothing was changed "
            "there; run the same command again."
        )
    if isinstance(error, ValueError) and "README" in said:
        return UserError(f"The Hub does not accept the card: {said}")
    if isinstance(error, ValueError) and library in ("json", "huggingface_hub", "builtins"):
        return PodiumError(f"The Hub's answer cannot be understood ({said}). Try again later.")
    return None
