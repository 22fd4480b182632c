"""Pushes a finished pipeline, segmenter or dataset to the Hugging Face Hub.

    python scripts/push_to_hub.py --folder outputs/field --repo_id ORGANIZATION/field --data_license cc-by-4.0

Files of an interrupted push are not sent again. Pushing a changed folder adds a commit.
"""

from dataclasses import dataclass

from synthset.cli import run
from synthset.console import configure_logging
from synthset.publishing.hub import RepoArguments, push_folder


@dataclass
class PushArguments(RepoArguments):
    """Pushes a finished folder to the Hugging Face Hub.

    Args:
        folder: what train_paired.py, train_sr.py, generate_dataset.py, make_copy_paste.py, pseudo_label.py or
            prepare_dataset.py ended with, or a seed-N of train_segmentation.py.
        repo_id: `NAMESPACE/NAME`, or a name in your own namespace; the folder's name when not given, if no such
            repository is there or it was pushed from this folder.
    """

    folder: str
    repo_id: str | None = None


def main(args: PushArguments) -> None:
    configure_logging()
    print(f"pushed to {push_folder(args.folder, args.repo_id, args.hub_private_repo, args.data_license)}")


if __name__ == "__main__":
    run(main, PushArguments)
