"""Training data is a function of (seed, position)."""

import pytest
import torch
from torch.utils.data import DataLoader
from torchvision import tv_tensors

from synthset.data import Augmentation, ResizePair, eval_transform, train_transform
from synthset.training.stream import LowResCondition, PositionSampler, TrainingStream, ValidationItems
from synthset.training.timesteps import CurriculumTimesteps, Directions, UniformTimesteps

UNIFORM = UniformTimesteps(1000)


@pytest.fixture
def pairs():
    """Seven pairs whose pixels tell which one it is and where in it one is."""
    ramp = torch.arange(40 * 32, dtype=torch.int64).reshape(1, 32, 40)
    images = [((ramp + 11 * i) % 256).to(torch.uint8).expand(3, -1, -1) for i in range(7)]
    return [(tv_tensors.Image(image), tv_tensors.Mask((image[:1] > 127).to(torch.uint8))) for image in images]


@pytest.fixture
def stream(pairs):
    return TrainingStream(pairs, train_transform(16, 24), UNIFORM, seed=3)


def same(a, b):
    return all(torch.equal(a[key], b[key]) for key in a)


def test_an_item_depends_on_seed_and_position_only(pairs, stream):
    backwards = {p: stream[p] for p in reversed(range(20))}
    torch.manual_seed(99)
    state = torch.get_rng_state()
    assert all(same(stream[p], backwards[p]) for p in range(20))
    assert torch.equal(torch.get_rng_state(), state), "reading items must not move the global generator"
    other = TrainingStream(pairs, stream.transform, UNIFORM, seed=4)
    assert not any(torch.equal(other[p]["noise"], backwards[p]["noise"]) for p in range(20))


def test_items_have_the_promised_shapes_and_ranges(stream):
    items = [stream[p] for p in range(200)]
    assert items[0]["sample"].shape == items[0]["noise"].shape == (4, 16, 16)
    samples, noise = (torch.stack([item[key] for item in items]) for key in ("sample", "noise"))
    assert type(samples) is torch.Tensor and samples.dtype == torch.float32
    assert samples.min() >= -1 and samples.max() <= 1 and set(samples[:, 3].unique().tolist()) == {-1.0, 1.0}
    assert abs(noise.mean()) < 0.01 and abs(noise.std() - 1) < 0.01
    timesteps = torch.stack([item["timestep"] for item in items]).float()
    assert timesteps.min() >= 0 and timesteps.max() <= 999 and abs(timesteps.mean() - 499.5) < 80


def test_every_pass_visits_every_pair_once_in_another_order(stream):
    passes = [[stream.pair_index(p) for p in range(7 * e, 7 * e + 7)] for e in range(4)]
    assert all(sorted(one) == list(range(7)) for one in passes)
    assert len({tuple(one) for one in passes}) > 1


def test_crops_and_flips_differ_between_visits_and_keep_mask_on_image(pairs, stream):
    visits = [stream[p]["sample"] for p in range(70) if stream.pair_index(p) == 0]
    assert len({tuple(v.flatten().tolist()) for v in visits}) > 5
    unscaled = TrainingStream(pairs, train_transform(24, 24), UNIFORM, seed=3)
    for p in range(20):
        image, mask = unscaled[p]["sample"].split([3, 1])
        assert torch.equal(mask > 0, image[:1] > 0)  # a mask pixel is on where the image is above 127


def test_workers_give_the_same_items(stream):
    batches = [list(DataLoader(stream, batch_sampler=PositionSampler(4, 0, 1, 0, 5), num_workers=n)) for n in (0, 1)]
    assert all(same(a, b) for a, b in zip(*batches, strict=True))


def test_processes_share_the_stream_of_one():
    one = list(PositionSampler(6, 0, 1, start=2, stop=5))
    shares = [list(PositionSampler(2, rank, 3, start=2, stop=5)) for rank in range(3)]
    assert (
        [sum((share[i] for share in shares), []) for i in range(3)]
        == one
        == [
            list(range(12, 18)),
            list(range(18, 24)),
            list(range(24, 30)),
        ]
    )


def test_validation_items_are_fixed_and_spread_over_timesteps(pairs):
    items = ValidationItems(pairs, eval_transform(16, 24), UNIFORM, seed=0)
    assert len(items) == 256 and same(items[5], items[5])
    timesteps = sorted(items[i]["timestep"].item() for i in range(256))
    assert timesteps == sorted(i * 1000 // 256 for i in range(256))
    of_first_pair = [items[i]["timestep"].item() for i in range(0, 256, 7)]
    assert abs(sum(of_first_pair) / len(of_first_pair) - 498) < 50


@pytest.mark.parametrize("scale_factor", [2, 4])
def test_the_condition_is_the_target_made_smaller(pairs, stream, scale_factor):
    resolution = 16 // scale_factor
    told = TrainingStream(pairs, stream.transform, UNIFORM, 3, LowResCondition(resolution, 0, torch.ones(1000)))
    for p in range(10):
        item = told[p]
        assert same(stream[p], item) and item.keys() - stream[p].keys() == {"condition"}
        image, mask = ((item["sample"][:3] + 1) * 127.5).round().byte(), (item["sample"][3:] > 0).byte()
        image, mask = ResizePair(resolution)(tv_tensors.Image(image), tv_tensors.Mask(mask))
        torch.testing.assert_close(item["condition"], stream.processor.encode(image, mask).as_subclass(torch.Tensor))


def test_noise_of_the_condition_has_its_level(pairs, stream):
    """Levels 0 to 2 leave 1, 0.5 and 0.25 of the variance."""
    condition = LowResCondition(8, 2, torch.tensor([0.5, 0.25, 0.1]))
    clean = TrainingStream(pairs, stream.transform, UNIFORM, 3, LowResCondition(8, 0, torch.ones(1000)))
    noisy = TrainingStream(pairs, stream.transform, UNIFORM, 3, condition)
    residuals = {0: [], 1: [], 2: []}
    for p in range(150):
        item, level = noisy[p], noisy[p]["noise_level"].item()
        residuals[level].append(item["condition"] - (1, 0.5, 0.25)[level] ** 0.5 * clean[p]["condition"])
    assert min(len(part) for part in residuals.values()) > 30
    for level, variance in enumerate((0, 0.5, 0.75)):
        part = torch.stack(residuals[level])
        assert abs(part.mean()) < 0.02 and part.var().item() == pytest.approx(variance, abs=0.03)


@pytest.mark.parametrize("batch_size, num_processes", [(7, 1), (4, 1), (2, 3), (5, 4)])
def test_an_epoch_is_one_pass_whatever_the_batch_size_and_the_number_of_processes(
    pairs, stream, batch_size, num_processes
):
    """With 7 pairs: t_max = 1 + floor(s / 2) in pass s, at the positions 7 s to 7 s + 6."""
    timesteps = CurriculumTimesteps(1000, sigma=1, alpha=2 * 7, initial=1, priority=500 * 7)
    stream = TrainingStream(pairs, stream.transform, timesteps, seed=3)
    drawn, steps = {}, 84 // (batch_size * num_processes) + 1
    for process in range(num_processes):
        for batch in DataLoader(stream, batch_sampler=PositionSampler(batch_size, process, num_processes, 0, steps)):
            drawn.update(zip(batch["position"].tolist(), batch["timestep"].tolist(), strict=True))
    assert sorted(drawn) == list(range(steps * batch_size * num_processes))
    passes = [[drawn[7 * s + i] for i in range(7)] for s in range(12)]
    assert all(max(timesteps) < 1 + s // 2 for s, timesteps in enumerate(passes))
    # what was admitted last is drawn soon
    assert all(s // 2 in passes[s] + passes[s + 1] for s in range(0, 12, 2))
    assert all(drawn[p] == stream[p]["timestep"] for p in range(84))


def test_the_curriculum_leaves_validation_and_the_rest_of_an_item_alone(pairs, stream):
    curriculum = CurriculumTimesteps(1000, sigma=10, alpha=5 * 7, initial=10, priority=500 * 7)
    told = TrainingStream(pairs, stream.transform, curriculum, seed=3)
    for p in (0, 20):
        assert torch.equal(told[p]["sample"], stream[p]["sample"]) and told[p]["timestep"] < 10
    validation = [ValidationItems(pairs, eval_transform(16, 24), t, seed=0) for t in (curriculum, UNIFORM)]
    assert all(same(validation[0][i], validation[1][i]) for i in range(0, 256, 15))


def test_noise_of_the_posterior_adds_to_an_item(pairs, stream):
    """Standard normal, two draws, neither of them the noise of x_t."""
    adversarial = TrainingStream(pairs, stream.transform, UNIFORM, seed=3, adversarial=True)
    draws = []
    for p in range(30):
        item = adversarial[p]
        assert same(stream[p], item) and item.keys() - stream[p].keys() == {"posterior_noise"}
        assert item["posterior_noise"].shape == (2, *item["noise"].shape)
        draws.append(torch.cat([item["noise"][None], item["posterior_noise"]]).flatten(1))
    draws = torch.cat(draws, dim=1)
    assert draws.mean(1).abs().max() < 0.03
    torch.testing.assert_close(torch.cov(draws), torch.eye(3), rtol=0, atol=0.03)
    assert torch.equal(adversarial[3]["posterior_noise"], adversarial[3]["posterior_noise"])


def test_directions_add_a_timestep_of_the_mask(pairs, stream):
    """To items that are otherwise the same; where the mask is given, the image keeps the timestep, and where the image
    is, the mask has that or a later one."""
    told = TrainingStream(pairs, stream.transform, UNIFORM, seed=3, directions=Directions(0.5, 0.2))
    kinds = []
    for p in range(60):
        item, plain = told[p], stream[p]
        times = [item[name].item() for name in ("timestep", "mask_timestep")]
        assert plain["timestep"].item() in times or (times[0] == 0 and times[1] > plain["timestep"].item())
        assert item.keys() - plain.keys() == {"mask_timestep"}
        assert all(torch.equal(item[name], plain[name]) for name in ("sample", "noise"))
        kinds.append("joint" if times[0] == times[1] else "given" if 0 in times else "independent")
        assert same(told[p], item)
    assert set(kinds) == {"joint", "given", "independent"}
    validation = ValidationItems(pairs, eval_transform(16, 24), UNIFORM, seed=0, directions=Directions(0.5, 0.2))
    assert "mask_timestep" not in validation[0]


def test_augmented_items_depend_on_seed_and_position_only(pairs, stream):
    """And say how they are augmented; the sample of the training colors, and validation, are as before."""
    augmentation = Augmentation(16, 24, 0.5, ["scale", "rotation", "anisotropy", "color"], turns=True)
    told = TrainingStream(pairs, stream.transform, UNIFORM, seed=3, augmentation=augmentation)
    backwards = {p: told[p] for p in reversed(range(20))}
    (batch,) = DataLoader(told, batch_sampler=PositionSampler(20, 0, 1, 0, 1), num_workers=1)
    assert all(same(backwards[p], {name: value[p] for name, value in batch.items()}) for p in range(20))
    assert batch["augmentation"].shape == (20, 9) and batch["augmentation"].any(dim=1).sum() > 15
    assert batch["sample"].abs().max() <= 1 and set(batch["sample"][:, 3].unique().tolist()) == {-1.0, 1.0}
    assert not any(torch.equal(stream[p]["sample"], backwards[p]["sample"]) for p in range(20))
    assert all(torch.equal(stream[p][name], backwards[p][name]) for p in range(20) for name in ("noise", "timestep"))
    assert (told.images == stream.images).all()
    options = {"seed": 3, "augmentation": augmentation}
    validation = ValidationItems(pairs, eval_transform(16, 24), UNIFORM, **options)[5]
    assert "augmentation" not in validation
    assert same(validation, ValidationItems(pairs, eval_transform(16, 24), UNIFORM, seed=3)[5])
