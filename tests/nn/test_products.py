import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from kinema.nn import products
from kinema.nn.products import Linear, add_mm, linear, mm

needs_onednn = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available() or not hasattr(torch.ops.mkldnn, "_linear_pointwise"),
    reason="this build of PyTorch has no oneDNN",
)
SHAPES = [(2, 64, 192, 256), (1, 4096, 96, 32), (3, 100, 256, 1000)]


@pytest.fixture(params=[True, False], ids=["onednn", "plain"])
def chosen(request, monkeypatch):
    if request.param and not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        pytest.skip("this build of PyTorch has no oneDNN")
    monkeypatch.setattr(products, "ONEDNN_IS_FASTER", request.param)
    return request.param


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("biased", [True, False])
def test_a_layer_computes_and_learns_as_a_plain_one(chosen, shape, biased):
    batch, rows, inputs, outputs = shape
    torch.manual_seed(0)
    layer, plain = Linear(inputs, outputs, bias=biased), nn.Linear(inputs, outputs, bias=biased)
    plain.load_state_dict(layer.state_dict())
    values = torch.randn(batch, rows, inputs, requires_grad=True)
    weight = torch.randn(batch, rows, outputs)
    found = []
    for part in (layer, plain):
        out = part(values)
        found.append((out, *torch.autograd.grad((out * weight).sum(), (values, *part.parameters()))))
    for own, truth in zip(*found, strict=True):
        assert own.shape == truth.shape
        torch.testing.assert_close(own, truth, rtol=1e-4, atol=2e-5 * truth.abs().max().item())


def test_only_what_trains_gets_a_gradient(chosen):
    layer = Linear(256, 256).requires_grad_(False)
    layer.bias.requires_grad_()
    layer(torch.randn(512, 256)).sum().backward()
    assert layer.weight.grad is None
    assert torch.equal(layer.bias.grad, torch.full((256,), 512.0))


def test_products_of_transposed_matrices(chosen):
    left, right = torch.randn(300, 200), torch.randn(300, 100)
    truth = left.double().T @ right.double()
    assert (mm(left.T, right) - truth).abs().max() < 1e-4
    assert (mm(right.T, left) - truth.T).abs().max() < 1e-4
    total = torch.ones(200, 100)
    add_mm(total, left.T, right)
    assert (total - truth - 1).abs().max() < 1e-4


@needs_onednn
def test_autocast_and_small_products_stay_with_pytorch(monkeypatch):
    monkeypatch.setattr(products, "ONEDNN_IS_FASTER", True)
    monkeypatch.setattr(products, "_multiply", lambda *_: pytest.fail("oneDNN was asked"))
    assert linear(torch.ones(4, 8), torch.ones(2, 8)).unique() == 8
    values, weight = torch.randn(512, 256), torch.randn(256, 256)
    with torch.autocast("cpu", torch.bfloat16):
        assert linear(values, weight).dtype == torch.bfloat16
    assert linear(values.double(), weight.double()).dtype == torch.float64
    assert linear(values.to("meta"), weight.to("meta")).device.type == "meta"


@needs_onednn
def test_operations_are_counted(monkeypatch):
    monkeypatch.setattr(products, "ONEDNN_IS_FASTER", True)
    with FlopCounterMode(display=False) as counter:
        linear(torch.ones(512, 256), torch.ones(128, 256, requires_grad=True)).sum().backward()
    assert counter.get_total_flops() == 2 * 2 * 512 * 256 * 128


@needs_onednn
def test_compiles_without_a_graph_break(monkeypatch):
    monkeypatch.setattr(products, "ONEDNN_IS_FASTER", True)
    layer, values = Linear(256, 128), torch.randn(512, 256, requires_grad=True)
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True, dynamic=False)
    (slope,) = torch.autograd.grad(compiled(values).square().sum(), values)
    (truth,) = torch.autograd.grad(layer(values).square().sum(), values)
    torch.testing.assert_close(slope, truth)


def test_intel_stays_with_mkl(monkeypatch):
    monkeypatch.setattr(products, "processor", lambda: "vendor_id : GenuineIntel")
    assert not products._mkl_leaves_avx512_out()


@pytest.mark.parametrize("sizes", [(3, 40, 50, 64), (1, 300, 20, 16)])
def test_batches_and_matrices_with_gaps(sizes, chosen, monkeypatch):
    monkeypatch.setattr(products, "_SMALLEST", 1)
    count, rows, columns, inner = sizes
    left = torch.randn(rows, count, inner).transpose(0, 1)
    right = torch.randn(columns, count, inner).transpose(0, 1).mT
    wanted = torch.einsum("nmk,nkp->nmp", left, right)
    torch.testing.assert_close(products.bmm(left, right), wanted, rtol=1e-4, atol=1e-4)
    total = torch.ones_like(wanted)
    products.add_bmm(total, left, right)
    torch.testing.assert_close(total, wanted + 1, rtol=1e-4, atol=1e-4)
