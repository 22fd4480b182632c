"""What is not loaded: pickled weights and code, which could run anything."""

from collections.abc import Iterable

from huggingface_hub import HfApi

from .errors import InputError

UNSAFE = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib", ".npy", ".npz", ".h5", ".py", ".so")


def require_safe(model: str, files: Iterable[str]) -> None:
    """Refuses a model beside which there is anything but safetensors and data.

    Args:
        model: its folder or its id on the Hub, for the message.
        files: paths in it.

    Raises:
        InputError: names the first file that could run something.
    """
    unsafe = next((file for file in files if file.endswith(UNSAFE)), None)
    if unsafe:
        raise InputError(
            f"{model} holds {unsafe}; weights are loaded from safetensors only, and no code: give a model without such "
            "files, or ask its owner to save it with save_pretrained(..., safe_serialization=True)"
        )


def require_safe_repo(repo_id: str, revision: str | None = None, token: str | bool | None = None) -> None:
    """[`require_safe`] for a model on the Hub, before anything of it is fetched.

    A repository that can't be listed (unknown, private, no network) passes: fetching it says what that means.
    """
    try:
        files = HfApi().list_repo_files(repo_id, revision=revision, token=token)
    except Exception:
        return
    require_safe(repo_id, files)
