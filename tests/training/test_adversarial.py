"""The discriminator's and the generator's steps keep out of each other's way; what they compute, by hand."""

import logging
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from accelerate import Accelerator, DistributedType
from accelerate.state import AcceleratorState
from diffusers import DDPMScheduler
from testing_utils.models import randomized
from testing_utils.runs import same

from synthset import InputError, PairedDiscriminator2DModel, PairedUNet2DModel
from synthset.training import objectives
from synthset.training.adversarial import Adversary, SaturationWatch, build_adversary

SMALL = {"sample_size": 8, "block_out_channels": (8, 16), "layers_per_block": 1, "norm_num_groups": 4}


def build_accelerator(scaled=False, **options):
    accelerator = Accelerator(cpu=True, mixed_precision="no", **options)
    if scaled:  # as `Accelerator` sets itself up for fp16 on a GPU, but the scale doubles at every step
        accelerator.native_amp, accelerator.state._mixed_precision = True, "fp16"
        accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=1)
    return accelerator


def build_adversary_of(accelerator, discriminator, **options):
    """An adversary that learns by plain gradient descent at rate 1, the gradient itself."""
    optimizer = torch.optim.SGD(discriminator.parameters(), lr=1.0)
    lr_scheduler = torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)
    return Adversary(accelerator, *accelerator.prepare(discriminator, optimizer, lr_scheduler), **options)


def build_discriminator(**config):
    torch.manual_seed(1)
    return randomized(PairedDiscriminator2DModel(**SMALL, **config))


def draw_batch(count=3):
    generator = torch.Generator().manual_seed(0)
    sample, noise, *posterior = torch.randn(4, count, 4, 8, 8, generator=generator)
    timesteps = torch.tensor([0, 40, 990])[:count]
    return {"sample": sample, "noise": noise, "timestep": timesteps, "posterior_noise": torch.stack(posterior, dim=1)}


def copied(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("spectral_norm, r1_gamma", [(False, 0.0), (True, 0.1)])
def test_neither_step_touches_the_other_network(spectral_norm, r1_gamma):
    torch.manual_seed(0)
    generator = randomized(PairedUNet2DModel(**SMALL, variant="two_encoder", attention_head_dim=8))
    accelerator, discriminator = build_accelerator(), build_discriminator(spectral_norm=spectral_norm)
    adversary = build_adversary_of(accelerator, discriminator, r1_gamma=r1_gamma)
    batch, scheduler = draw_batch(), DDPMScheduler()
    real, fake = objectives.posterior_pairs(objectives.predict(generator, scheduler, batch), scheduler, batch)

    generator_before, before = copied(generator), copied(discriminator)
    adversary.step(real, fake, batch["timestep"])
    assert all(parameter.grad is None for parameter in generator.parameters())
    assert same(generator_before, generator.state_dict())
    # all of it moved, the vectors that spectral normalization iterates on included, except one of a single number
    still = {name for name, tensor in discriminator.state_dict().items() if torch.equal(before[name], tensor)}
    assert still <= {"linear_out.parametrizations.weight.0._u"}

    before = copied(discriminator)
    loss = adversary.generator_loss(fake, batch["timestep"])
    told = torch.sigmoid(discriminator.eval()(fake, batch["timestep"]).logits)
    torch.testing.assert_close(loss, F.binary_cross_entropy(told, torch.ones(3)))
    discriminator.train()
    loss.backward()
    assert same(before, discriminator.state_dict())
    assert all(parameter.grad is None for parameter in discriminator.parameters())
    for name, parameter in generator.named_parameters():
        assert parameter.grad.isfinite().all() and parameter.grad.abs().max() > 0, name
    assert discriminator.training and all(parameter.requires_grad for parameter in discriminator.parameters())


@pytest.mark.parametrize("r1_gamma", [0.0, 0.3])
def test_a_step_is_one_pass_and_follows_the_gradient_of_its_loss(r1_gamma):
    """The loss, with its penalty, and its gradient computed pair by pair."""
    discriminator = build_discriminator()
    real, fake = torch.randn(2, 3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    timesteps = torch.tensor([0, 40, 990])
    losses, penalties, right = [], [], {"real": 0, "fake": 0}
    for i in range(3):
        seen = real[i : i + 1].clone().requires_grad_()
        told_real, told_fake = (discriminator(x, timesteps[i]).logits for x in (seen, fake[i : i + 1]))
        right["real"] += (told_real > 0).item() / 3
        right["fake"] += (told_fake < 0).item() / 3
        losses.append(F.binary_cross_entropy(torch.sigmoid(told_real), torch.ones(1)))
        losses[-1] = losses[-1] + F.binary_cross_entropy(torch.sigmoid(told_fake), torch.zeros(1))
        (slope,) = torch.autograd.grad(told_real, seen, create_graph=True)
        penalties.append(slope.square().sum() / 2)
    loss, penalty = sum(losses) / 3, sum(penalties) / 3
    gradients = torch.autograd.grad(loss + r1_gamma * penalty, list(discriminator.parameters()))
    norm = torch.cat([gradient.flatten() for gradient in gradients]).norm()
    expected = [p.detach() - gradient for p, gradient in zip(discriminator.parameters(), gradients, strict=True)]

    passes = []
    discriminator.register_forward_hook(lambda module, args, output: passes.append([len(x) for x in args]))
    measured = build_adversary_of(build_accelerator(), discriminator, r1_gamma=r1_gamma).step(real, fake, timesteps)
    assert passes == [[6, 6]]
    torch.testing.assert_close(list(discriminator.parameters()), expected, rtol=1e-3, atol=1e-5)
    assert {name: value.item() for name, value in measured.items()} == pytest.approx(
        {
            "discriminator_loss": loss.item(),
            "accuracy_real": right["real"],
            "accuracy_fake": right["fake"],
            "discriminator_gradient_norm": norm.item(),
        },
        rel=1e-4,
    )


def test_the_gradient_is_clipped():
    discriminator = build_discriminator()
    before = copied(discriminator)
    real, fake = torch.randn(2, 3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    measured = build_adversary_of(build_accelerator(), discriminator, max_grad_norm=1e-2).step(
        real, fake, torch.arange(3)
    )
    moved = torch.cat([(before[name] - tensor).flatten() for name, tensor in discriminator.state_dict().items()])
    assert measured["discriminator_gradient_norm"] > 0.02
    assert moved.norm().item() == pytest.approx(1e-2, rel=1e-2)


class Linear(torch.nn.Module):
    """D(x) = w x."""

    def __init__(self):
        super().__init__()
        self.w = torch.nn.Parameter(torch.tensor([0.5, -0.25, 1.0, 0.125]))

    def forward(self, sample, timestep):
        return SimpleNamespace(logits=sample.mean(dim=(2, 3)) @ self.w)


@pytest.mark.parametrize("scaled", [False, True], ids=["float32", "fp16's loss scaling"])
def test_accumulated_gradients_of_both_are_the_whole_batchs(scaled):
    """The discriminator learns nothing here, or a generator would meet another one in its last pass."""
    accelerator = build_accelerator(scaled, gradient_accumulation_steps=2)
    discriminator, generator = Linear(), torch.nn.Parameter(torch.tensor([1.0, 2.0, 3.0, 4.0]).view(4, 1, 1))
    optimizer = torch.optim.SGD(discriminator.parameters(), lr=0.0)
    prepared = accelerator.prepare(optimizer, torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0))
    adversary = Adversary(accelerator, discriminator, *prepared)
    generator_optimizer = accelerator.prepare(torch.optim.SGD([generator], lr=1.0))
    real, noise = torch.randn(2, 4, 4, 8, 8, generator=torch.Generator().manual_seed(0))

    whole = discriminator(noise * generator, None).logits
    (expected,) = torch.autograd.grad(objectives.generator_loss(whole).mean(), generator, retain_graph=True)
    told = objectives.discriminator_loss(discriminator(real, None).logits, whole).mean()
    (expected_discriminator,) = torch.autograd.grad(told, discriminator.w)
    before = generator.detach().clone()
    for part in (slice(0, 2), slice(2, 4)):
        with accelerator.accumulate(torch.nn.Identity()):
            fake = noise[part] * generator
            measured = adversary.step(real[part], fake, torch.zeros(2))
            accelerator.backward(adversary.generator_loss(fake, torch.zeros(2)))
            if accelerator.sync_gradients:
                accelerator.clip_grad_norm_([generator], float("inf"))
            generator_optimizer.step()
            generator_optimizer.zero_grad()
    torch.testing.assert_close(before - generator.detach(), expected)
    torch.testing.assert_close(measured["discriminator_gradient_norm"], expected_discriminator.norm())


def test_overflowing_fp16_gradients_skip_the_step_and_lower_the_scale_which_checkpoints_hold(tmp_path):
    accelerator, discriminator = build_accelerator(scaled=True), build_discriminator()
    adversary, before = build_adversary_of(accelerator, discriminator), copied(discriminator)
    batch = torch.randn(2, 3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    hook = discriminator.linear_out.weight.register_hook(lambda gradient: gradient * float("inf"))
    adversary.step(*batch, torch.arange(3))
    assert same(before, discriminator.state_dict())
    scale = adversary.scaler.get_scale()
    assert scale == 2.0**15  # half of torch's first one
    accelerator.save_state(tmp_path / "checkpoint")
    hook.remove()
    adversary.step(*batch, torch.arange(3))
    assert not torch.equal(before["linear_out.weight"], discriminator.linear_out.weight)
    adversary.scaler.update(1.0)
    accelerator.load_state(tmp_path / "checkpoint")
    assert adversary.scaler.get_scale() == scale and accelerator.scaler.get_scale() == 1024


def test_it_learns_to_tell_smooth_pairs_from_noisy_ones():
    accelerator, discriminator = build_accelerator(), PairedDiscriminator2DModel(**SMALL)
    optimizer = torch.optim.Adam(discriminator.parameters(), lr=3e-3)
    lr_scheduler = torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)
    adversary = Adversary(accelerator, *accelerator.prepare(discriminator, optimizer, lr_scheduler))
    generator, measured = torch.Generator().manual_seed(0), []
    for _ in range(60):
        smooth = torch.randn(2, 16, 4, 1, 1, generator=generator).expand(-1, -1, -1, 8, 8)
        noisy = smooth[1] + 0.5 * torch.randn(16, 4, 8, 8, generator=generator)
        measured.append(adversary.step(smooth[0], noisy, torch.zeros(16)))
    for name in ("accuracy_real", "accuracy_fake"):
        first, last = (torch.stack([entry[name] for entry in part]).mean() for part in (measured[:10], measured[-10:]))
        assert last > 0.95 and first < 0.9, name


@pytest.mark.parametrize("how", ["channels_last", "compiled"])
def test_a_faster_discriminator_takes_the_same_steps(how):
    def two_steps(accelerator, memory_format=torch.contiguous_format):
        torch.manual_seed(0)
        generator = randomized(PairedUNet2DModel(**SMALL, variant="concat", attention_head_dim=8))
        discriminator = build_discriminator().to(memory_format=memory_format)
        model, adversary = generator.to(memory_format=memory_format), build_adversary_of(accelerator, discriminator)
        batch, scheduler = draw_batch(), DDPMScheduler()
        batch["sample"] = batch["sample"].to(memory_format=memory_format)
        for _ in range(2):
            prediction = objectives.predict(model, scheduler, batch)
            real, fake = objectives.posterior_pairs(prediction, scheduler, batch)
            assert real.is_contiguous(memory_format=memory_format) and fake.is_contiguous(memory_format=memory_format)
            adversary.step(real, fake, batch["timestep"])
            accelerator.backward(adversary.generator_loss(fake, batch["timestep"]))
        return copied(discriminator), {name: parameter.grad for name, parameter in generator.named_parameters()}

    expected = two_steps(build_accelerator())
    if how == "compiled":
        AcceleratorState._reset_state(reset_partial_state=True)
        found = two_steps(build_accelerator(dynamo_backend="aot_eager"))
    else:
        found = two_steps(build_accelerator(), torch.channels_last)
    for part, other in zip(found, expected, strict=True):
        assert same(part, other, rtol=1e-3, atol=1e-5)


def test_a_discriminator_that_diverged_stops_the_run():
    discriminator = build_discriminator()
    adversary = build_adversary_of(build_accelerator(), discriminator)
    torch.nn.init.constant_(discriminator.linear_out.bias, float("nan"))
    before = {name: p.clone() for name, p in discriminator.named_parameters()}
    pairs = torch.zeros(2, 3, 4, 8, 8)
    words = r"norm nan; .* lower --discriminator_learning_rate \(now 1\), .*--max_grad_norm"
    with pytest.raises(InputError, match=words):
        adversary.step(*pairs, torch.arange(3))
    for name, parameter in discriminator.named_parameters():
        torch.testing.assert_close(parameter, before[name], rtol=0, atol=0, equal_nan=True)


ARGS = {"gan_weight": 0.25, "r1_gamma": 0.5}


def test_sharded_models_are_refused():
    with pytest.raises(InputError, match="--gan_weight is 0.25, but FSDP shards one network only; give 0 or use DDP"):
        build_adversary(SimpleNamespace(**ARGS), SimpleNamespace(distributed_type=DistributedType.FSDP))


def test_a_penalty_on_gradients_of_a_compiled_model_is_refused():
    with pytest.raises(InputError, match="--r1_gamma is 0.5, but .*; give 0 or .*--dynamo_backend"):
        build_adversary(SimpleNamespace(**ARGS), build_accelerator(dynamo_backend="aot_eager"))


def warnings_of(caplog, accuracies, patience=20):
    """What a watch says of pairs of accuracies that are logged every 10 steps."""
    caplog.clear()
    watch = SaturationWatch(patience)
    with caplog.at_level(logging.WARNING, logger="synthset"):
        for i, (real, fake) in enumerate(accuracies, start=1):
            watch.update(10 * i, real, fake)
    return [message.split("; ")[0] for message in caplog.messages]


def test_saturation_is_warned_of_again_and_again(caplog):
    always = "for 20 steps the discriminator has been almost always right"
    assert warnings_of(caplog, [(1.0, 0.999)] * 6) == [f"step 30: {always}", f"step 50: {always}"]
    assert "--r1_gamma" in caplog.messages[0]
    chance = "for 20 steps the discriminator has been no better than chance"
    assert warnings_of(caplog, [(0.8, 0.8), (0.9, 0.1), (0.5, 0.5), (0.2, 0.3)]) == [f"step 40: {chance}"]
    assert "--discriminator_learning_rate" in caplog.messages[0]


@pytest.mark.parametrize(
    "accuracies",
    [
        [(1.0, 0.97)] * 6,
        [(0.55, 0.56)] * 6,
        [(1.0, 1.0), (1.0, 1.0), (0.9, 0.9)] * 3,
        [(1.0, 1.0), (1.0, 1.0), (0.5, 0.5), (0.5, 0.5)] * 2,
    ],
    ids=["good", "weak", "with good days", "from one extreme to the other"],
)
def test_no_warning(caplog, accuracies):
    assert warnings_of(caplog, accuracies) == []
