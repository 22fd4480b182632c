"""Pushes a finished pipeline, segmenter or dataset to the Hugging Face Hub.

    python scripts/push_to_hub.py --folder outputs/field --repo_id ORGANIZATION/field --data_license cc-by-4.0

Files of an interrupted push are not sent again. Pushing a changed folder adds a commit.
"""

from synthset.arguments import PushArguments
from synthset.cli import run
from synthset.publishing.hub import push_folder


def main(args: PushArguments) -> None:
    print(f"pushed to {push_folder(args.folder, args.repo_id, args.hub_private_repo, args.data_license)}")


if __name__ == "__main__":
    run(main, PushArguments)
