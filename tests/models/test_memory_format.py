"""Networks whose weights are stored channels last."""

import copy

import torch
from safetensors.torch import load_file

from synthset import PairedUNet2DModel
from synthset.models.memory_format import use_channels_last


def test_files_hold_the_usual_order_and_the_network_computes_the_same(tmp_path):
    torch.manual_seed(0)
    network = PairedUNet2DModel(sample_size=16, block_out_channels=(8, 16), attention_head_dim=8).eval()
    last = use_channels_last(copy.deepcopy(network))
    kernels = [p for p in last.parameters() if p.ndim == 4 and min(p.shape) > 1]
    assert kernels and all(p.is_contiguous(memory_format=torch.channels_last) for p in kernels)
    last.save_pretrained(tmp_path)
    saved = load_file(tmp_path / "diffusion_pytorch_model.safetensors")
    assert all(torch.equal(saved[name], value) for name, value in network.state_dict().items())
    sample = torch.randn(2, 4, 16, 16)
    expected = network(sample, 500).sample
    torch.testing.assert_close(last(sample, 500).sample, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(PairedUNet2DModel.from_pretrained(tmp_path)(sample, 500).sample, expected)
