"""The scale that pairs show their objects at."""

import json
from pathlib import Path


def recorded_crop_size(source: str) -> int | None:
    """The side in pixels of the piece of a photo that every image of `source` shows, by what generate_dataset.py or
    make_copy_paste.py wrote beside them; None where they wrote nothing, as for photos.

    Args:
        source: as in `load_pairs`.
    """
    for name in ("generation.json", "copy_paste.json"):
        path = Path(source).expanduser() / name
        if path.is_file():
            return json.loads(path.read_text()).get("crop_size")
    return None
