"""From a few dozen photos with masks to generated pairs and what they are worth, in minutes, on one page.

    python scripts/quickstart.py --dataset PHOTOS --test_dataset TEST_PHOTOS --output_dir QUICKSTART

A model that comes with the package draws pairs, learns the photos, and draws pairs again; segmenters learn from the
photos, from the pairs and from both, and are tested on the test photos. QUICKSTART gets `index.html`. Without photos, a
field is rendered that the model has never seen. Every step is a command, which is printed; an interrupted run is
continued by the same command.
"""

import json
import shlex
from collections.abc import Mapping
from pathlib import Path

import torch
from PIL import Image

from synthset.arguments import QuickstartArguments
from synthset.cli import COMMANDS, call, run
from synthset.data import load_pairs
from synthset.output_dir import atomic_path
from synthset.pipelines.loading import read_flags
from synthset.resources import find_configuration
from synthset.segmentation import check_test, load_source
from synthset.visualization.quickstart_page import plot_losses, render_quickstart_page, score_table

SCRIPTS = Path(__file__).parent
NAMES = {command.script: name for name, command in COMMANDS.items()}
RESOLUTION = 64
FIELD, FIELD_CROP = 40, 128  # photos that are rendered when none are given, and as many to test on; their crop size
SAMPLER = {"scheduler": "dpmsolver++", "num_inference_steps": 20, "batch_size": 50, "samples_per_shard": 50}
BEFORE = 32  # pairs that the model draws before it has seen a photo
TRAINED_ON = {"photos": "{photos} photos", "pairs": "{pairs} generated pairs", "both": "photos and generated pairs"}


def main(args: QuickstartArguments) -> None:
    folder = Path(args.output_dir)
    data, pairs, model = folder / "data", folder / "pairs", folder / "model"
    launch = None if torch.cuda.is_available() else "multi_cpu"
    commands: list[str] = []

    def step(
        title: str, script: str, flags: Mapping[str, object], launch: str | None = None, done: bool = False
    ) -> None:
        words = [(f"--{name}", *(value if isinstance(value, list) else [value])) for name, value in flags.items()]
        command = [str(word) for flag in words if flag[1] is not None for word in flag]
        launcher = [] if launch is None else ["--launch", launch]
        commands.append(shlex.join(["synthset", NAMES[script], *command, *launcher]))
        if done:
            return
        print(f"\n{title} ...\n  {commands[-1]}", flush=True)
        call(SCRIPTS / f"{script}.py", *command, launch=None if launch is None else find_configuration(launch))

    # 1. photos
    photos, test, crop_size = args.dataset, args.test_dataset, args.crop_size
    if photos is None or test is None:
        photos, test, crop_size = str(folder / "photos"), str(folder / "test_photos"), crop_size or FIELD_CROP
        for seed, output_dir in enumerate((photos, test)):
            field = {"scenes": "sorghum", "num_samples": FIELD, "seed": seed, "samples_per_shard": 20}
            step("Photographing a rendered field", "render_dataset", {"output_dir": output_dir, **field})
    prepare = {"dataset": photos, "output_dir": data}  # which does not write into a folder twice
    step("Checking the photos and holding out some", "prepare_dataset", prepare, done=data.exists())
    known = [load_source("--dataset", str(data), [split], None, None) for split in ("train", "validation")]
    check_test(load_source("--test_dataset", test, ["test", "validation", "train"], None, None), known)

    # 2. pairs, before and after
    before = {"model": args.model, "output_dir": folder / "before", "num_samples": BEFORE}
    step("Drawing pairs before any photo is seen", "generate_dataset", {**before, **SAMPLER}, launch)
    scale = {"resolution": RESOLUTION, "crop_size": crop_size}
    length = {"max_train_steps": args.max_train_steps, "validation_steps": -(-args.max_train_steps // 2)}
    recipe = {"config": "fast", "init_from": args.model, "num_divergence_images": 0, **scale, **length}
    step("Learning from the photos", "train_paired", {"dataset": data, "output_dir": model, **recipe}, launch)
    after = {"model": model, "output_dir": pairs, "num_samples": args.num_samples}
    step("Drawing pairs", "generate_dataset", {**after, **SAMPLER}, launch)

    # 3. segmenters
    training = {"config": "practitioner", "max_train_steps": args.segmenter_steps, "seeds": args.seeds, **scale}
    sources: dict[str, dict[str, object]] = {
        "photos": {"dataset": data},
        "pairs": {"dataset": pairs},
        "both": {"dataset": [data, pairs], "mix": 0.75},
    }
    for name, source in sources.items():
        tests = {"test_dataset": test, "validation_dataset": data, "output_dir": folder / f"segmenter-on-{name}"}
        step(f"Training a segmenter on {name}", "train_segmentation", {**source, **tests, **training})

    # 4. the page
    results = {name: read_json(folder / f"segmenter-on-{name}" / "results.json") for name in TRAINED_ON}
    learned, drawn = load_pairs(str(data)), load_pairs(str(pairs))
    trained_on = {name: words.format(photos=len(learned), pairs=len(drawn)) for name, words in TRAINED_ON.items()}
    scores = score_table(results, trained_on)
    page = render_quickstart_page(
        photos=learned,
        before=load_pairs(str(folder / "before")),
        pairs=drawn,
        losses=plot_losses([json.loads(line) for line in (model / "metrics.jsonl").read_text().splitlines()]),
        predictions=Image.open(folder / "segmenter-on-both" / f"seed-{args.seeds[0]}" / "predictions.png"),
        scores=scores,
        tested_on=results["both"]["n_images"],
        model=args.model,
        crop_size=read_flags(model)["crop_size"],
        commands=commands,
    )
    with atomic_path(folder / "index.html") as temporary:
        temporary.write_text(page, encoding="utf-8")
    print(f"\nOn {results['both']['n_images']} test photos that no model has seen (0 to 1, more is better):\n")
    for row in scores:
        print(f"  {row[0]:<40}" + "".join(f"{cell:<18}" for cell in row[1:]))
    print(f"\nLook at {folder / 'index.html'}. The pairs are a dataset: datasets.load_dataset({str(pairs)!r})")


def read_json(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    run(main, QuickstartArguments)
