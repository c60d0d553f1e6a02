"""Upload of a run to the Hugging Face Hub: weights, description, card; never code or a token.

An upload is one commit; see `podium.deploy.publish.pack`. The token comes from a file, from
`HF_TOKEN` or from the hub's own login, and is never shown.
"""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from podium.__about__ import __version__
from podium.config.text import decode_text
from podium.deploy.find.hub_errors import refuse_offline, translated_errors
from podium.deploy.publish.pack import Package, Tell, pack
from podium.errors import ConfigError, UserError
from podium.runs.folder import RunFolder

TOKEN = re.compile(r"[!-~]{8,512}")


def push(
    run: RunFolder | str | Path,
    repo_id: str,
    *,
    private: bool = False,
    revision: str | None = None,
    token: str | None = None,
    license: str | None = None,
    dataset: str | None = None,
    lang: str = "en",
    with_predictions: bool = False,
    with_exports: bool = False,
    tell: Tell = lambda text: None,
) -> str:
    """Upload a run to the Hugging Face Hub: weights, description, recipe and model card.

    Args:
        run: folder of a run, or of a contender or study: the run with the best validation score;
            its training must be finished.
        repo_id: `OWNER/NAME`; the repository is created if it does not exist.
        private: make the repository private. An existing public one is refused.
        revision: the branch, created if it does not exist; None: `main`.
        token: Hub token with write access; None: that of `HF_TOKEN` or of the hub's login.
        license: licence of the weights, an id of the Hub; None: none is stated.
        dataset: id of the images on the Hub, or a built-in name; None: taken from the study.
        lang: language of the card, `en` or `pt`.
        with_predictions: add the test predictions, which contain the names of the test images.
        with_exports: add the contents of the run's `export/`.
        tell: called with a sentence on each choice, or on what should be checked.

    Returns:
        The address of the commit.

    Raises:
        ConfigError: the repository's name, the licence, the data set or the language is invalid.
        RunFolderError: the run is not finished, or a file of it is missing or damaged.
        UserError: the Hub refuses the token, the access, the name or the card; or
            `HF_HUB_OFFLINE` is set.
        PodiumError: the Hub cannot be reached, is too busy, or failed.

    Examples:
        >>> import podium
        >>> podium.push("runs/my-study", "no-owner", token="hf_made_up")
        Traceback (most recent call last):
        ...
        podium.errors.ConfigError: 'no-owner' is not a valid repository name: expected OWNER/...
    """
    package = pack(
        run,
        repo_id,
        license=license,
        dataset=dataset,
        lang=lang,
        with_predictions=with_predictions,
        with_exports=with_exports,
        tell=tell,
    )
    return upload(
        package, token=token or read_token(None), private=private, revision=revision, tell=tell
    )


def upload(
    package: Package,
    *,
    token: str,
    private: bool = False,
    revision: str | None = None,
    tell: Tell = lambda text: None,
) -> str:
    """Upload a package as one commit; the repository is created if it does not exist.

    Args:
        package: the result of `pack`.
        token: Hub token with write access.
        private: make the repository private. An existing public one is refused.
        revision: the branch, created if it does not exist; None: `main`.
        tell: called with the Hub's warnings.

    Returns:
        The address of the commit.

    Raises:
        UserError: the Hub refuses the token, the access, the name or the card; or
            `HF_HUB_OFFLINE` is set.
        PodiumError: the Hub cannot be reached, is too busy, or failed.
    """
    refuse_offline()
    from huggingface_hub import CommitOperationAdd, HfApi

    api, repo_id = HfApi(token=token), package.repo_id
    operations = [
        CommitOperationAdd(
            one.name, one.content if isinstance(one.content, bytes) else str(one.content)
        )
        for one in package.files
    ]
    with translated_errors(f"{repo_id} on the Hub", token), _remarks(tell):
        api.create_repo(repo_id, private=private or None, exist_ok=True)
        if private and not api.model_info(repo_id).private:
            raise UserError(
                f"--private: {repo_id} already exists and is public, so nothing was "
                "uploaded. Make it private in its settings, or give another name."
            )
        if revision is not None:
            api.create_branch(repo_id, branch=revision, exist_ok=True)
        commit = api.create_commit(
            repo_id,
            operations,
            commit_message=f"Upload {' '.join(package.title.split())} with Podium {__version__}",
            revision=revision,
        )
    return str(commit.commit_url)


@contextmanager
def _remarks(tell: Tell) -> Iterator[None]:
    """Report the hub library's warnings, except that a data file lies beside a model."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore", DeprecationWarning)  # concerns libraries only
        warnings.simplefilter("always", UserWarning)
        yield
    for one in caught:
        text = " ".join(str(one.message).split())
        if "about to commit a data file" not in text:
            tell(text)


def read_token(file: Path | None) -> str:
    """The token from a file, else from `HF_TOKEN`, else from the hub's own login.

    Args:
        file: file with the token; None: not given.

    Raises:
        UserError: there is none, or it is not valid. The message never contains it.
    """
    from huggingface_hub import get_token

    if file is not None:
        try:
            found: str | None = decode_text(file.read_bytes()).strip()
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "it is not text"
            raise ConfigError(f"--token-file {file}: cannot be read ({reason}).") from None
        where = f"--token-file {file}"
    else:
        found, where = get_token(), "The token of HF_TOKEN or of the login"
    if not found:
        raise UserError(
            f"{where}: the file is empty."
            if file is not None
            else "The Hub requires a login to upload, and nobody is logged in. Run `hf auth "
            "login`, set HF_TOKEN, or give --token-file FILE with a token that may write "
            "(https://huggingface.co/settings/tokens)."
        )
    if not TOKEN.fullmatch(found):
        raise UserError(f"{where}: expected one token of 8 or more characters and nothing else.")
    return found


def quiet_unless_terminal() -> None:
    """Show the hub's progress bars only on a terminal."""
    if not sys.stderr.isatty():
        from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]

        disable_progress_bars()
