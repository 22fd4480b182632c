"""Cards for what the scripts make."""

from pathlib import Path

from huggingface_hub import ModelCard, ModelCardData


def write_model_card(template: Path, output_dir: Path, arguments: dict, parameters: int, metrics: list[dict]) -> None:
    """Writes `output_dir/README.md`, the model's card.

    Args:
        template: Jinja file from `model_cards`.
        output_dir: a pipeline's folder.
        arguments: the resolved flags of the training run.
        parameters: number of weights.
        metrics: entries of `metrics.jsonl`.
    """
    losses = [(entry["step"], entry["validation_loss"]) for entry in metrics if "validation_loss" in entry]
    data = ModelCardData(
        library_name="synthset",
        license="other",
        pipeline_tag="image-to-image" if "scale_factor" in arguments else "unconditional-image-generation",
        tags=["synthset", "diffusers", "image-segmentation", "synthetic-data", "agriculture"],
    )
    card = ModelCard.from_template(
        data,
        template_path=str(template),
        model_name=output_dir.resolve().name,
        parameters=f"{parameters:,}",
        validation_losses=losses,
        best_loss=min(losses, key=lambda entry: entry[1], default=None),
        **arguments,
    )
    card.save(output_dir / "README.md")
