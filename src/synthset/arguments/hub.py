"""Flags about the Hugging Face Hub."""

from dataclasses import asdict, dataclass, fields
from typing import Literal

from .base import Arguments


@dataclass(kw_only=True)
class RepoArguments(Arguments):
    """Flags about a repository on the Hub.

    Args:
        hub_private_repo: make the repository private, if it is new.
        data_license: license of the data that the result was made from, for its card: an identifier of the Hub such as
            cc-by-4.0, or a name, or a name and an address. Required for a push, except of what comes from the demo.
    """

    group = "Hugging Face Hub"

    hub_private_repo: bool = False
    data_license: str | None = None


@dataclass(kw_only=True)
class HubArguments(RepoArguments):
    """Flags of commands that can push what they make.

    Args:
        push_to_hub: upload the result to the Hugging Face Hub when it is finished.
    """

    group = "Hugging Face Hub"

    push_to_hub: bool = False

    def settings(self) -> dict:
        """The flags that say how something is made, without those that say what becomes of it."""
        return {name: value for name, value in asdict(self).items() if name not in HUB_FLAGS}


@dataclass(kw_only=True)
class ModelHubArguments(HubArguments):
    """Flags of commands that can push a model.

    Args:
        hub_model_id: repository to push to, NAMESPACE/NAME, or a name in your own namespace; the name of the output
            folder if not given.
    """

    group = "Hugging Face Hub"

    hub_model_id: str | None = None


@dataclass(kw_only=True)
class TrainingHubArguments(ModelHubArguments):
    """Flags of training runs that can push their model.

    Args:
        hub_strategy: when to push: at the `end`, or also at every `checkpoint`, in the background.
    """

    group = "Hugging Face Hub"

    hub_strategy: Literal["end", "checkpoint"] = "end"


@dataclass(kw_only=True)
class DatasetHubArguments(HubArguments):
    """Flags of commands that can push a dataset.

    Args:
        hub_dataset_id: repository to push to, NAMESPACE/NAME, or a name in your own namespace; the name of the output
            folder if not given.
    """

    group = "Hugging Face Hub"

    hub_dataset_id: str | None = None


@dataclass(kw_only=True)
class PushArguments(RepoArguments):
    """Pushes a finished model or dataset to the Hugging Face Hub.

    Args:
        folder: output folder of prepare, paste, train, train-sr, generate or label, or a seed-N folder of segment.
        repo_id: NAMESPACE/NAME, or a name in your own namespace; the folder's name if not given, unless a repository of
            that name was pushed from another folder.
    """

    group = "Push"

    folder: str
    repo_id: str | None = None


HUB_FLAGS = {field.name for cls in (TrainingHubArguments, DatasetHubArguments) for field in fields(cls)}
