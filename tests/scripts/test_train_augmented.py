"""`train_paired.py --augment_prob`, in this process."""

from testing_utils import runs
from testing_utils.runs import same, weights

from synthset import SynthSetPipeline
from synthset.pipelines.loading import load_pipeline

FLAGS = {
    **{"variant": "concat", "batch_size": 3, "checkpointing_steps": 1, "num_validation_images": 1},
    **{"num_divergence_images": 0, "report_to": [], "augment_prob": 0.5, "random_turns": True},
}


def test_a_resumed_run_is_the_uninterrupted_one(data, tmp_path):
    """To the bit; it learns from the augmentation, and its pipeline draws without."""
    script = runs.load_script("train_paired.py")

    def train(name, **changes):
        flags = {**runs.TINY, **FLAGS, **changes, "dataset": str(data), "output_dir": str(tmp_path / name)}
        script.main(script.PairedArguments(**flags))
        return weights(tmp_path / name)

    straight = train("straight", max_train_steps=2)
    train("resumed", max_train_steps=1)
    assert same(straight, train("resumed", max_train_steps=2))
    assert straight["time_embedding.cond_proj.weight"].shape == (8, 9)
    assert straight["time_embedding.cond_proj.weight"].any()
    pipeline, _ = load_pipeline(SynthSetPipeline, str(tmp_path / "straight" / "checkpoint-1"))
    assert pipeline(num_inference_steps=1).images[0].size == (16, 16)
