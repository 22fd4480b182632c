"""Scale of the objects in pairs."""

import json
from pathlib import Path


def recorded_crop_size(source: str) -> int | None:
    """Reads the crop size that generated or copy-pasted pairs were made with: the side in pixels of the part of a
    photo that every image shows. Returns None if none is recorded, as for photos.

    Args:
        source: as in `load_pairs`.
    """
    for name in ("generation.json", "copy_paste.json"):
        path = Path(source).expanduser() / name
        if path.is_file():
            return json.loads(path.read_text()).get("crop_size")
    return None
