"""What any of the networks must do, as checks of a model on the inputs that its `forward` takes."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from diffusers import ModelMixin


def randomized(model: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Moves every parameter off its initial value, so that what starts at zero takes part as well."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model


def output_of(model: Callable, inputs: tuple) -> torch.Tensor:
    return model(*inputs, return_dict=False)[0]


def gradients_of(model: torch.nn.Module, inputs: tuple) -> dict[str, torch.Tensor]:
    model.zero_grad()
    output = output_of(model, inputs)
    (output * torch.linspace(-1, 1, output.numel()).view_as(output)).sum().backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


def assert_every_parameter_has_a_gradient(model: torch.nn.Module, inputs: tuple) -> None:
    """Not None (DistributedDataParallel would wait for it), finite, and above rounding errors (else it is unused)."""
    for name, gradient in gradients_of(model, inputs).items():
        assert gradient is not None, f"{name} has no gradient"
        assert torch.isfinite(gradient).all(), f"{name} has a gradient that is not finite"
        assert gradient.abs().max() > 1e-5, f"{name} has a gradient of zero"


def assert_checkpointing_keeps_gradients(model: ModelMixin, inputs: tuple) -> None:
    """Same gradients, and modules really run a second time in the backward pass."""
    calls = []
    hooks = [m.register_forward_hook(lambda *_: calls.append(1)) for m in model.modules()]
    expected = gradients_of(model, inputs)
    plain_calls = len(calls)
    model.enable_gradient_checkpointing()
    actual = gradients_of(model, inputs)
    assert len(calls) > 2 * plain_calls
    torch.testing.assert_close(actual, expected)
    for hook in hooks:
        hook.remove()


def assert_compiles(model: ModelMixin, inputs: tuple, backend: str) -> None:
    """In one graph, with the eager model's output and gradients, and once, even if it is saved meanwhile."""
    torch.compiler.reset()
    compiled = torch.compile(model, fullgraph=True, backend=backend)
    expected, expected_gradients = output_of(model, inputs), gradients_of(model, inputs)
    torch.testing.assert_close(output_of(compiled, inputs), expected, rtol=1e-3, atol=1e-4)
    gradients = {name.removeprefix("_orig_mod."): g for name, g in gradients_of(compiled, inputs).items()}
    torch.testing.assert_close(gradients, expected_gradients, rtol=1e-2, atol=1e-3)
    with tempfile.TemporaryDirectory() as folder, torch._dynamo.config.patch(error_on_recompile=True):
        model.save_pretrained(folder)
        gradients_of(compiled, inputs)


def assert_saves_and_loads(model: ModelMixin, inputs: tuple, folder: Path) -> None:
    """Bit for bit, from a configuration and one safetensors file."""
    model.save_pretrained(folder)
    assert [path.suffix for path in sorted(folder.iterdir())] == [".json", ".safetensors"]
    loaded = type(model).from_pretrained(folder)
    with torch.no_grad():
        assert torch.equal(output_of(loaded.eval(), inputs), output_of(model.eval(), inputs))
