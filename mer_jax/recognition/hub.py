"""Runs that are handed on by the Hugging Face hub."""

from pathlib import Path

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError

from mer_jax.runtime.errors import DataError


def push(folder: Path, repository: str) -> str:
    """Uploads a folder to a model repository, which is made where there is none; its address.

    Raises:
        DataError: the hub refuses, or is not to be reached.
    """
    api = HfApi()
    try:
        api.create_repo(repository, exist_ok=True)
        return str(api.upload_folder(folder_path=folder, repo_id=repository, ignore_patterns=[".lock"]))
    except (OSError, HFValidationError) as error:
        raise DataError(f"{repository}: not uploaded ({reason(error)}); {folder} is whole, push it again") from error


def pull(repository: str) -> Path:
    """The folder of a run on the hub, downloaded unless it is in the cache.

    Raises:
        DataError: the hub does not give it.
    """
    try:
        return Path(snapshot_download(repository))
    except (OSError, HFValidationError) as error:
        raise DataError(f"{repository}: no such folder, and the hub did not give it ({reason(error)})") from error


def reason(error: Exception) -> str:
    """The kind of error, and what the hub said."""
    said = error.server_message if isinstance(error, HfHubHTTPError) else ""
    return f"{type(error).__name__}: {said or str(error).splitlines()[0]}"
