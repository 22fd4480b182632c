"""Model and dataset cards: README.md files with a YAML header for the Hub.

On disk, a card refers to its own repository as `path/to/this/folder`; [`hub_card`] fills in the repository's name.
"""

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml
from datasets import DatasetInfo, Features
from datasets.info import DatasetInfosDict
from datasets.splits import SplitDict, SplitInfo
from huggingface_hub import CardData, DatasetCard, DatasetCardData, EvalResult, ModelCard, ModelCardData, RepoCard

from ..errors import InputError
from ..evaluation.segmentation_metrics import mean_and_std
from ..output_dir import atomic_path
from ..resources import MODELS

THIS_FOLDER = "path/to/this/folder"
BUILT_IN = {"demo": "the rendered wheat canopies of SynthSet", "starter": "the model that comes with SynthSet"}
ORIGIN = "synthset_origin"  # header entry on the Hub that identifies the pushed folder, see `hub.push_folder`
SCORES = {"dice": "Dice", "iou": "IoU", "boundary_f1": "boundary F1"}
# https://huggingface.co/docs/hub/repositories-licenses; others are written as `license: other` with a name
HUB_LICENSES = set(
    "apache-2.0 mit openrail bigscience-openrail-m creativeml-openrail-m bigscience-bloom-rail-1.0 bigcode-openrail-m "
    "afl-3.0 artistic-2.0 bsl-1.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear c-uda cc cc0-1.0 cc-by-2.0 "
    "cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nd-4.0 "
    "cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cdla-sharing-1.0 "
    "cdla-permissive-1.0 cdla-permissive-2.0 wtfpl ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 agpl-3.0 gfdl gpl "
    "gpl-2.0 gpl-3.0 lgpl lgpl-2.1 lgpl-3.0 isc lppl-1.3c ms-pl mpl-2.0 odc-by odbl openrail++ osl-3.0 postgresql "
    "ofl-1.1 ncsa unlicense zlib pddl lgpl-lr".split()
)


# ---- the three kinds of card ----


def write_pipeline_card(
    template: Path,
    folder: Path,
    arguments: dict,
    parameters: int,
    metrics: list[dict],
    steps: int,
    pairs_per_step: int,
    history: str = "",
) -> None:
    """Writes `folder/README.md`, the card of a pipeline.

    Args:
        template: `model_cards/paired.md` or `sr.md`.
        folder: folder of the pipeline, with `previews/step-*.png` if there are any.
        arguments: resolved flags of the training run, without machine-specific ones.
        parameters: number of parameters.
        metrics: entries of `metrics.jsonl`.
        steps: optimizer steps so far.
        pairs_per_step: pairs per optimizer step, over all processes.
        history: sentences about resumption and other events of the run.
    """
    previews = sorted((folder / "previews").glob("step-*.png"))
    source = arguments["dataset"]
    validated = [entry for entry in metrics if "validation_loss" in entry]
    task = "image-to-image" if "scale_factor" in arguments else "unconditional-image-generation"
    name = folder.resolve().name
    init_from = arguments.get("init_from")
    base = _hub_ids([] if init_from is None else [init_from])
    data = ModelCardData(
        library_name="synthset",
        pipeline_tag=task,
        tags=["synthset", "diffusers", "image-segmentation", "synthetic-data", "agriculture"],
        datasets=_hub_ids([source]),
        base_model=base[0] if base else None,
        base_model_relation="finetune" if base else None,
        model_name=name if validated else None,
        eval_results=[
            _result(task, source, label, metric, validated[-1][metric])
            for metric, label in {
                "validation_loss": "validation loss",
                "divergence": "Jensen-Shannon divergence of the colors",
            }.items()
            if validated and metric in validated[-1]
        ]
        or None,
    )
    shown = {k: public_name(v) for k, v in arguments.items() if v is not None}
    variables = {
        "name": name,
        "parameters": f"{parameters:,}",
        "validated": validated,
        "has_divergence": any("divergence" in entry for entry in validated),
        "preview": f"previews/{previews[-1].name}" if previews else None,
        "steps": f"{steps:,}",
        "pairs_seen": f"{steps * pairs_per_step:,}",
        "pairs_per_step": pairs_per_step,
        "history": history,
        "source": describe(source),
        "base": None if init_from is None else describe(init_from, kind=""),
        "configuration": yaml.safe_dump(shown, sort_keys=False).strip(),
    }
    licenses = {license_of_pairs([source])} | ({license_of_models([init_from])} if init_from else set())
    data_license = arguments.get("data_license") or (licenses.pop() if len(licenses) == 1 else None)
    _write(ModelCard, folder, template, data, data_license, {**arguments, **variables})


def write_segmenter_card(folder: Path, template: Path, results: dict, runs: list[dict], arguments: dict) -> None:
    """Writes `folder/README.md`, the card of a segmenter.

    Args:
        folder: folder of the segmenter.
        template: `model_cards/segmentation.md`.
        results: scores with `seed`, and the scores after every stage under `stages`.
        runs: results of all seeds, including this one.
        arguments: resolved flags of the training run.
    """
    sources, test = [*arguments["dataset"], *arguments["finetune"]], arguments["test_dataset"]
    name, task = f"{Path(arguments['output_dir']).resolve().name}-seed-{results['seed']}", "image-segmentation"
    seeds = [run["seed"] for run in runs]
    spread = mean_and_std([{metric: run[metric] for metric in SCORES} for run in runs]) if len(runs) > 1 else {}
    scores = [_result(task, test, label, metric, results[metric]) for metric, label in SCORES.items()]
    for metric, label in SCORES.items() if spread else ():
        more = {"seeds": seeds, "standard_deviation": spread[f"{metric}_std"]}
        text = f"{label}, mean of {len(runs)} training runs"
        scores.append(_result(task, test, text, metric, spread[metric], metric_args=more))
    data = ModelCardData(
        model_name=name,
        library_name="segmentation-models-pytorch",
        pipeline_tag=task,
        tags=["synthset", "segmentation-models-pytorch", "semantic-segmentation", "agriculture"],
        datasets=_hub_ids(sources),
        eval_results=scores,
    )
    stages = [{**stage, "stage": " ".join(map(public_name, stage["stage"].split(" ")))} for stage in results["stages"]]
    variables = {
        "name": name,
        "results": {**results, "stages": stages},
        "spread": spread,
        "scores": SCORES,
        "seeds": seeds,
        "sources": [describe(source) for source in dict.fromkeys(sources)],
        "tested_on": describe(test),
    }
    data_license = arguments.get("data_license") or license_of_pairs(sources)
    _write(ModelCard, folder, template, data, data_license, {**arguments, **variables})


def write_dataset_card(
    folder: str | os.PathLike,
    template: str | os.PathLike,
    features: Features,
    splits: dict[str, int],
    tags: Iterable[str] = (),
    details: dict | None = None,
    data_license: str | None = None,
    **variables: Any,
) -> None:
    """Writes `folder/README.md`, the card of a dataset of pairs.

    The header lists no data files; [`hub_card`] adds them. `load_dataset` infers them from names like
    `data/train-00000-of-00004.parquet`, and for a local folder whose card lists them it returns stale rows from its
    cache after the folder changes (datasets 5.2).

    Args:
        folder: folder of the dataset, with `data/SPLIT-*.parquet` if there are any.
        template: `model_cards/dataset.md`.
        features: columns.
        splits: number of rows by split.
        tags: added to the tag `synthset`; `synthetic`, `copy-paste` and `pseudo-labels` select the text on limits.
        details: settings that the dataset was made with.
        data_license: license of the source data, in the format of `--data_license`.
        **variables: further variables of the template: `title`, `description`, `preview` (an image file in the folder),
            `columns` (descriptions by name).
    """
    folder, tags, rows = Path(folder), list(tags), sum(splits.values())
    bounds = {1_000: "n<1K", 10_000: "1K<n<10K", 100_000: "10K<n<100K", 1_000_000: "100K<n<1M"}
    data = DatasetCardData(
        pretty_name=variables.get("title"),
        task_categories=["image-segmentation"],
        size_categories=[next((name for bound, name in bounds.items() if rows < bound), "1M<n<10M")],
        tags=["synthset", *tags],
    )
    info = DatasetInfo(features=features)
    shards = {split: sorted((folder / "data").glob(f"{split}-*.parquet")) for split in splits}
    if all(shards.values()):
        info.splits = SplitDict(
            {
                split: SplitInfo(split, num_bytes=sum(map(_parquet_bytes, shards[split])), num_examples=count)
                for split, count in splits.items()
            }
        )
        info.dataset_size = sum(split.num_bytes for split in info.splits.values())
        info.download_size = sum(shard.stat().st_size for of_split in shards.values() for shard in of_split)
    DatasetInfosDict({"default": info}).to_dataset_card_data(data)
    variables |= {
        "features": features,
        "splits": splits,
        "tags": tags,
        "details": {name: public_name(value) for name, value in (details or {}).items()},
    }
    _write(DatasetCard, folder, template, data, data_license, variables)


def _parquet_bytes(file: Path) -> int:
    """Uncompressed size in bytes of the rows of a parquet file."""
    metadata = pq.read_metadata(file)
    return sum(metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups))


def _write(
    kind: type[RepoCard],
    folder: Path,
    template: str | os.PathLike,
    data: CardData,
    data_license: str | None,
    variables: dict,
) -> None:
    """Renders `template` with the ending that all cards share, and writes the card."""
    for name, value in license_header(data_license).items():
        data[name] = value
    template = Path(template)
    text = template.read_text(encoding="utf-8") + template.with_name("ending.md").read_text(encoding="utf-8")
    variables = {"this": THIS_FOLDER, "license_text": license_sentence(data_license), **variables}
    card = kind.from_template(data, template_str=text, **variables)
    with atomic_path(Path(folder) / "README.md") as temporary:
        temporary.write_text(str(card), encoding="utf-8")


def _result(task: str, source: str, label: str, metric: str, value: object, **more: Any) -> EvalResult:
    """Builds an entry of `model-index` in the header."""
    return EvalResult(
        task_type=task,
        dataset_type=next(iter(_hub_ids([source]) or []), re.sub(r"[^\w.-]+", "-", public_name(source))),
        dataset_name=public_name(source),
        metric_type=metric,
        metric_name=label,
        metric_value=value,
        **more,
    )


# ---- names of sources ----


def public_name(value: Any) -> Any:
    """Removes the parent folders from `value` if it is an existing path; returns other values unchanged."""
    if isinstance(value, str) and os.sep in value and Path(value).expanduser().exists():
        return Path(value).expanduser().resolve().name
    return value


def _hub_ids(sources: Iterable[str]) -> list[str] | None:
    """Returns the ids on the Hub among the datasets or models `sources`; None if there are none."""
    chosen = [name for name in sources if not _is_built_in(name) and not Path(name).expanduser().exists()]
    return list(dict.fromkeys(chosen)) or None


def _is_built_in(source: str | os.PathLike) -> bool:
    """True for what comes with SynthSet; a folder with the name of a model is that folder."""
    return source in BUILT_IN and not (source in MODELS and Path(source).is_dir())


def describe(source: str, kind: str = "datasets/") -> str:
    """Formats a source for a card; one on the Hub becomes a link. `kind` is empty for models."""
    if _is_built_in(source):
        return f"`{source}`, {BUILT_IN[source]}"
    if _hub_ids([source]):
        return f"[{source}](https://huggingface.co/{kind}{source})"
    return f"`{public_name(source)}`"


# ---- licenses ----


def license_header(data_license: str | None) -> dict[str, str]:
    """Header entries for a license: an identifier of the Hub (`cc-by-4.0`), a name, or a name and a URL."""
    if data_license is None:
        return {}
    *words, last = data_license.split()
    link = last if re.match(r"https?://", last) else None
    name = re.sub(r"[^a-z0-9.+]+", "-", " ".join(words if link else [*words, last]).lower()).strip("-")
    if name in HUB_LICENSES:
        return {"license": name}
    return {"license": "other", "license_name": name or "custom", **({"license_link": link} if link else {})}


def license_sentence(data_license: str | None) -> str:
    """License section of a card."""
    header = license_header(data_license)
    if not header:
        return "The license of the source data was not named. Ask the publisher before use."
    name = f"`{header.get('license_name', header['license'])}`"
    name = f"[{name}]({header['license_link']})" if "license_link" in header else name
    return f"The license of the source data, {name}, holds for this as well."


def card_license(source: str | os.PathLike, kind: type[RepoCard] = ModelCard) -> str | None:
    """Reads the license from the card of a folder or of a repository on the Hub, in the format of `--data_license`.
    Returns None if there is no card or it names no license. What comes with SynthSet has its license."""
    if _is_built_in(source):
        return "apache-2.0"
    folder = Path(source).expanduser()
    if folder.exists() and not (folder / "README.md").is_file():
        return None
    try:
        data = kind.load(folder / "README.md" if folder.exists() else str(source), ignore_metadata_errors=True).data
    except Exception:  # no such repository, no card in it, no network
        return None
    if data.get("license") != "other":
        return data.get("license")
    return " ".join(filter(None, [data.get("license_name"), data.get("license_link")])) or None


def license_of_models(models: Iterable[str]) -> str | None:
    """Reads the license from the cards of all `models`; None if one names none, or they differ."""
    known = {card_license(model) for model in models}
    return known.pop() if len(known) == 1 else None


def license_of_pairs(sources: Iterable[str]) -> str | None:
    """[`license_of_models`] for datasets as `load_pairs` takes them."""
    known = {card_license(source, DatasetCard) for source in sources}
    return known.pop() if len(known) == 1 else None


# ---- changes to a card on disk ----


def set_section(text: str, title: str, body: str) -> str:
    """Replaces the section `title` of the card `text` with `body`, or inserts it before the license section."""
    section = f"## {title}\n\n{body}\n\n"
    heading = re.escape(title).replace("License", "Licen[cs]e")  # earlier cards have it with a c
    start = end = len(text)
    for pattern in (rf"^## {heading}\n.*?(?=^## |\Z)", r"(?=^## Licen[cs]e$)"):
        if found := re.search(pattern, text, re.MULTILINE | re.DOTALL):
            start, end = found.span()
            break
    return text[:start] + section + text[end:]


def add_section(folder: str | os.PathLike, title: str, body: str) -> None:
    """Adds a section to the card in `folder`, or replaces the section with this title.

    Raises:
        InputError: as [`load_card`].
    """
    card = load_card(folder)
    card.text = set_section(card.text, title, body)
    with atomic_path(Path(folder) / "README.md") as temporary:
        temporary.write_text(str(card), encoding="utf-8")


def load_card(folder: str | os.PathLike) -> RepoCard:
    """Loads the card in `folder`.

    Raises:
        InputError: there is no card, or its header is not valid YAML.
    """
    path = Path(folder) / "README.md"
    if not path.is_file():
        raise InputError(f"{folder} has no card README.md; give a folder that a finished synthset command wrote")
    try:
        return RepoCard.load(path)
    except (ValueError, yaml.YAMLError) as error:
        raise InputError(f"{path}: its header is not YAML ({str(error).splitlines()[0]}); fix the header") from error


def hub_card(
    folder: str | os.PathLike,
    repo_id: str,
    data_license: str | None = None,
    origin: str | None = None,
    kept: Iterable[str] = (),
    there: dict | None = None,
) -> str:
    """Adapts the card in `folder` to the repository `repo_id`: sets its name in title, header and code snippets, and
    adds `configs` for a dataset in parquet files.

    Args:
        folder: folder with the card.
        repo_id: `NAMESPACE/NAME`.
        data_license: license to fill in if the card names none.
        origin: identifier of the pushed folder.
        kept: files that stay in the repository; splits among them that the folder lacks stay in `configs`.
        there: header of the card in the repository, with the sizes of those splits.

    Raises:
        InputError: as [`load_card`]; or a split that stays has other columns.
    """
    folder = Path(folder)
    card = load_card(folder)
    name = repo_id.split("/")[-1]
    text = re.sub(r"^# .*$", f"# {name}", card.text, count=1, flags=re.MULTILINE).replace(THIS_FOLDER, repo_id)
    data = card.data
    if "model-index" in data:
        data["model-index"][0]["name"] = name
    if "pretty_name" in data:
        data["pretty_name"] = name
    if data_license and card_license(folder) is None:
        text = set_section(text, "License", license_sentence(data_license))
        for key, value in license_header(data_license).items():
            data[key] = value
    if origin:
        data[ORIGIN] = origin
    shards = sorted(path.name for path in (folder / "data").glob("*.parquet"))
    if "dataset_info" in data and shards:
        splits = dict.fromkeys(shard.partition("-")[0] for shard in shards)
        known = re.compile(r"data/(\w+)-.*\.parquet")
        others = dict.fromkeys(found[1] for found in map(known.fullmatch, kept) if found and found[1] not in splits)
        files = [{"split": split, "path": f"data/{split}-*"} for split in (*splits, *others)]
        data["configs"] = [{"config_name": "default", "data_files": files}]
        if others:
            data["dataset_info"] = _joined_info(repo_id, data["dataset_info"], there or {}, others)
    card.text = text
    return str(card)


def _joined_info(repo_id: str, info: dict, header: dict, others: Iterable[str]) -> dict:
    """Merges `dataset_info` of the pushed splits, `info`, with that of the `others` in the repository. Sizes are left
    out if `header`, of the card in the repository, lacks those of `others`."""
    there = header.get("dataset_info")
    there = there if isinstance(there, dict) else {}  # a list if it has several configurations
    if there.get("features", info["features"]) != info["features"]:
        columns = [", ".join(feature["name"] for feature in part["features"]) for part in (there, info)]
        raise InputError(
            f"{repo_id} has the split {', '.join(others)} of columns {columns[0]}, but these pairs have {columns[1]}; "
            "splits of one dataset have the same: name another repository"
        )
    sizes = {split["name"]: split for split in there.get("splits", [])}
    if set(others) <= set(sizes) and "splits" in info:
        splits = [*info["splits"], *(sizes[split] for split in others)]
        return {**info, "splits": splits, "dataset_size": sum(split["num_bytes"] for split in splits)}
    return {key: value for key, value in info.items() if key == "features"}
