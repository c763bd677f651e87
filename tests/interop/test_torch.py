"""Networks as modules of PyTorch and back, with PyTorch itself."""

import copy
import doctest
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest

import fastbp
from fastbp import Network
from fastbp.cli import main
from fastbp.core.activations import CODES

torch = pytest.importorskip("torch")

from safetensors.torch import load_file  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402, N812

from fastbp import torch as ours  # noqa: E402
from fastbp.autograd import _Outputs  # noqa: E402

DTYPES = ["float32", "float64"]


def network(sizes, hidden="relu", output="softmax", dtype="float32", **settings):
    """With biases that are not 0."""
    net = Network(sizes, "tanh" if hidden == "softmax" else hidden, output, dtype, **settings)
    draw = np.random.default_rng(3)
    for b in net.b:
        b[:] = draw.normal(size=b.shape)
    return net


def samples(n, n_in, dtype="float32", seed=0):
    return np.random.default_rng(seed).normal(size=(n, n_in)).astype(dtype) * 3


def near(a, b, dtype, size=20.0):
    """Equal but for roundings of numbers of this size, or of their own."""
    a, b = (each.detach().numpy() if isinstance(each, torch.Tensor) else each for each in (a, b))
    assert a.dtype == b.dtype == np.dtype(dtype) and a.shape == b.shape
    np.testing.assert_allclose(a, b, rtol=8 * np.finfo(dtype).eps, atol=8 * np.finfo(dtype).eps * size)


# Out.


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", CODES)
@pytest.mark.parametrize("sizes", [(5, 7, 3), (9, 33, 1, 17, 2), (4, 6)])
def test_every_activation(activation, dtype, sizes):
    """Each as hidden layers and as the output; and back to the same bits."""
    net = network(sizes, activation, activation, dtype)
    model, X = ours.to_torch(net), samples(61, sizes[0], dtype)
    near(model(torch.from_numpy(X)), net.forward(X), dtype)
    back = ours.from_torch(model)
    assert repr(back) == repr(net) and (back.theta == net.theta).all()


def test_softplus_keeps_the_digits_of_float64():
    """PyTorch's own threshold leaves out 2e-9 of 20; ours nothing."""
    net = Network([1, 1], output="softplus", dtype="float64", weights="zeros")
    net.W[0][:] = 1
    z = torch.linspace(-30, 60, 901, dtype=torch.float64)[:, None]
    true = net.forward(z.numpy())
    np.testing.assert_allclose(ours.to_torch(net)(z).detach().numpy(), true, rtol=1e-15)
    assert np.abs(nn.Softplus()(z).numpy() / true - 1).max() > 1e-11


def test_the_modules_are_the_plain_ones():
    """No module for identity, none for input_scale; PyTorch draws no numbers for it, and copies nothing later."""
    net = network([784, 20, 7, 10], ["identity", "gelu_tanh"], "identity", input_scale=1 / 255)
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    model = ours.to_torch(net)
    assert (torch.rand(3) == expected).all()
    assert [repr(one) for one in model] == [
        "Linear(in_features=784, out_features=20, bias=True)", "Linear(in_features=20, out_features=7, bias=True)",
        "GELU(approximate='tanh')", "Linear(in_features=7, out_features=10, bias=True)"]
    images = np.random.default_rng(0).integers(0, 256, (30, 784)).astype(np.uint8)
    before = model(torch.from_numpy(images).float())
    near(before, net.forward(images), "float32", size=100)
    net.theta[:] = 0
    assert (model(torch.from_numpy(images).float()) == before).all()


def test_an_activation_that_pytorch_lacks(monkeypatch):
    monkeypatch.delitem(ours.MODULES, "silu")
    with pytest.raises(ValueError, match="PyTorch has no silu; it has sigmoid, "):
        ours.to_torch(Network([3, 2], output="silu"))


# In.


class Written(nn.Module):
    """As most are: activations as functions, images made flat, dropout, a log-softmax."""

    def __init__(self, act=F.relu, before=lambda x: x.view(x.size(0), -1), last=None):
        super().__init__()
        self.out, self.fc1 = nn.Linear(6, 3), nn.Linear(4, 6, bias=False)  # in another order than they are called
        self.drop, self.last, self.act, self.before = nn.Dropout(), last or nn.LogSoftmax(1), act, before

    def forward(self, x):
        x = self.drop(self.act(self.fc1(self.before(x))))
        return self.last(self.out(x))


def test_a_module_with_a_forward_of_its_own():
    model = Written()
    net = ours.from_torch(model)
    assert repr(net) == "Network([4, 6, 3], hidden=['relu'], output='softmax', dtype='float32')"
    X = samples(20, 4)
    near(model.eval()(torch.from_numpy(X)).exp(), net.forward(X), "float32")
    assert (net.b[0] == 0).all() and (net.b[1] == model.out.bias.detach().numpy()).all()


def test_the_module_stays_as_it_was():
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 6), nn.ReLU(inplace=True), nn.Dropout(), nn.Linear(6, 2))
    model[1].weight.requires_grad_(False)
    before, X = copy.deepcopy(model), torch.from_numpy(samples(5, 4))
    net = ours.from_torch(model)
    net.theta[:] = 0
    assert model.training and model[3].training and "forward" not in vars(model[1])
    assert not model[2]._forward_hooks and not model[1].weight.requires_grad
    assert (model.eval()(X) == before.eval()(X)).all()


ACTIVATIONS = {
    "silu": lambda z: z * torch.sigmoid(z), "leaky_relu": F.leaky_relu, "gelu": F.gelu, "elu": nn.CELU(),
    "gelu_tanh": lambda z: F.gelu(z, approximate="tanh"), "mish": lambda z: z * torch.tanh(F.softplus(z)),
    "softplus": nn.Softplus(), "sigmoid": lambda z: 1 / (1 + torch.exp(-z)), "tanh": torch.tanh,
    "identity": nn.Identity(), "selu": nn.Sequential(nn.Identity(), nn.Sequential(nn.SELU(inplace=True), nn.Dropout()))}


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_activations_in_any_spelling(name, dtype):
    net = ours.from_torch(Written(ACTIVATIONS[name], last=nn.Softmax(dim=1)).to(dtype))
    assert net.activations == (name, "softmax")
    assert net.dtype == ("float64" if dtype == torch.float64 else "float32")


def test_layers_that_are_used_twice_and_logits_with_a_softmax():
    twice = nn.Linear(3, 3)
    model = nn.Sequential(nn.Sequential(twice, nn.Tanh()), nn.Identity(), twice)
    net = ours.from_torch(nn.Sequential(model, nn.Softmax(dim=-1)))
    assert net.activations == ("tanh", "softmax") and (net.W[0] == net.W[1]).all()
    assert ours.from_torch(twice).activations == ("identity",)


class Joined(nn.Module):
    def __init__(self, join):
        super().__init__()
        self.a, self.b, self.join = nn.Linear(3, 3), nn.Linear(3, 3), join

    def forward(self, x):
        return self.join(self.a, self.b, x)


NO_CHAINS = {
    "an activation": (r"'1' \(ReLU6\), '2' \(Dropout\), between '0' and '3': no activation that fits",
                      nn.Sequential(nn.Linear(2, 3), nn.ReLU6(), nn.Dropout(), nn.Linear(3, 2))),
    "a slope": (r"'1' \(LeakyReLU\), between '0' and the output", nn.Sequential(nn.Linear(3, 2), nn.LeakyReLU(0.02))),
    "a nested layer": (r"^'1.0' \(BatchNorm1d\) has no counterpart in a Network, which takes nn.Linear and",
                       nn.Sequential(nn.Linear(2, 3), nn.Sequential(nn.BatchNorm1d(3), nn.ReLU()), nn.Linear(3, 2))),
    "a norm without parameters": (r"'1' \(BatchNorm1d\), between", nn.Sequential(
        nn.Linear(3, 2), nn.BatchNorm1d(2, affine=False), nn.Linear(2, 2))),
    "a convolution": (r"^'0' \(Conv1d\)", nn.Sequential(nn.Conv1d(1, 2, 3), nn.Flatten(), nn.Linear(3, 2))),
    "an activation with parameters": (r"^'1' \(PReLU\)", nn.Sequential(nn.Linear(3, 2), nn.PReLU())),
    "weights that are computed": ("^ParametrizedLinear", nn.utils.parametrizations.weight_norm(nn.Linear(3, 2))),
    "no layer": ("a ReLU without an nn.Linear", nn.ReLU()),
    "another module": ("^LSTM has no counterpart", nn.LSTM(3, 4)),
    "an activation first": (r"'0' \(ReLU\) changes the samples before the first nn.Linear, '1'",
                            nn.Sequential(nn.ReLU(), nn.Linear(3, 2))),
    "a hidden softmax": (r"'1' \(Softmax\), between", nn.Sequential(nn.Linear(3, 2), nn.Softmax(-1), nn.Linear(2, 2))),
    "softmax over samples": (r"'1' \(Softmax\), between", nn.Sequential(nn.Linear(3, 2), nn.Softmax(0))),
    "a residual": ("forward, between 'a' and 'b'", Joined(lambda a, b, x: b(torch.relu(a(x)) + x))),
    "branches": ("forward, between 'a' and 'b'", Joined(lambda a, b, x: torch.cat([a(x), b(x)], 1))),
    "an output before the last": ("forward, between 'b' and the output",
                                  Joined(lambda a, b, x: [z := a(x), b(torch.relu(z))][0])),
    "layers that are not called": ("computes its output without an nn.Linear", Joined(lambda a, b, x: x)),
    "two outputs": ("returns a tuple", Joined(lambda a, b, x: (a(x), x))),
    "scaled inputs": ("forward changes the samples before", Joined(lambda a, b, x: b(a(x / 255)))),
    "other columns": ("forward, between 'a' and 'b'", Joined(lambda a, b, x: b(a(x).flip(1)))),
    "widths": ("'1' takes 5 numbers a sample, and gets 4", nn.Sequential(nn.Linear(3, 4), nn.Linear(5, 4))),
}


@pytest.mark.parametrize("case", NO_CHAINS)
def test_other_modules_are_refused(case):
    message, module = NO_CHAINS[case]
    with pytest.raises(ValueError, match=message):
        ours.from_torch(module)


def test_what_is_no_module_and_what_is_not_finite():
    with pytest.raises(TypeError, match=r"module must be a torch.nn.Module, got 3"):
        ours.from_torch(3)
    broken = nn.Linear(3, 3)
    broken.weight.data[0, 0] = torch.inf
    with pytest.raises(ValueError, match=r"theta\[0\] of the network is inf"):
        ours.from_torch(broken)


# State dicts.


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("hidden", ["relu", "identity"])
def test_files_for_pytorch(tmp_path, dtype, hidden):
    """Of eleven layers, whose names are not in the order of text."""
    net = network([3, *[5] * 10, 2], hidden, "identity", dtype)
    ours.save_state_dict(net, tmp_path / "a.safetensors")
    state, model = load_file(tmp_path / "a.safetensors"), ours.to_torch(net)
    assert list(state) == sorted(model.state_dict()) and state["0.weight"].shape == (5, 3)
    for parameter in model.parameters():
        parameter.data.zero_()
    model.load_state_dict(state)
    X = samples(20, 3, dtype)
    near(model(torch.from_numpy(X)), net.forward(X), dtype)
    for source in (tmp_path / "a.safetensors", str(tmp_path / "a.safetensors"), state, model.state_dict(),
                   {name: tensor.numpy() for name, tensor in state.items()}):
        other = Network([3, *[5] * 10, 2], hidden, "identity", dtype, weights="zeros")
        ours.load_state_dict(other, source)
        assert (other.theta == net.theta).all()


def test_state_dicts_of_other_names_and_types():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc10, self.fc2 = nn.Linear(5, 5, bias=False), nn.Linear(5, 5)

    state = Model().state_dict()
    net = Network([5, 5, 5], dtype="float64")
    ours.load_state_dict(net, state)
    assert (net.W[0] == state["fc2.weight"].numpy().T).all() and (net.W[1] == state["fc10.weight"].numpy().T).all()
    assert (net.b[0] == state["fc2.bias"].numpy()).all() and (net.b[1] == 0).all()
    single = nn.Linear(5, 2).bfloat16()
    alone = Network([5, 2])
    ours.load_state_dict(alone, single.state_dict())
    assert (alone.W[0] == single.weight.detach().float().numpy().T).all()


def test_state_dicts_that_do_not_fit(tmp_path):
    net = network([3, 5, 2])
    good = {name: tensor.numpy() for name, tensor in ours.to_torch(net).state_dict().items()}
    own = tmp_path / "own.safetensors"
    net.save(own)
    (tmp_path / "text").write_text("text")
    before = net.theta.copy()
    net.theta[:] = before = before + 1
    huge = np.full((2, 5), 1e39)
    for state, kind, message in [
            (good | {"1.running_mean": np.zeros(5)}, ValueError, "it has '1.running_mean', which no layer here has"),
            (good | {"2.weight": np.zeros((5, 2))}, ValueError, r"2.weight is \(5, 2\), expected \(2, 5\)"),
            (good | {"2.bias": np.zeros(3)}, ValueError, r"2.bias is \(3,\), expected \(2,\)"),
            (good | {"2.weight": huge}, ValueError, "2.weight holds NaN or infinity"),
            (good | {"2.weight": np.full((2, 5), "a")}, TypeError, "2.weight must hold numbers"),
            (good | {"4.weight": np.zeros((2, 2))}, ValueError, "it has 3 weights, the network 2 layers"),
            ({"in.weight": good["0.weight"], "out.weight": good["2.weight"]}, ValueError,
             "the names 'in.', 'out.' do not say the order of layers; number them"),
            ({}, ValueError, "it has 0 weights"), (3, TypeError, "state must be a dict of tensors or a path, got 3"),
            (own, ValueError, "the file has the format 'fastbp-network-2', and is no state dict of PyTorch"),
            (tmp_path / "text", ValueError, "text is not a whole safetensors file"),
            (tmp_path / "none", FileNotFoundError, "there is no file")]:
        with pytest.raises(kind, match=message):
            ours.load_state_dict(net, state)
        assert (net.theta == before).all()
    net.input_scale = 0.5
    with pytest.raises(ValueError, match="multiplies inputs by input_scale=0.5, which a state dict does not know"):
        ours.load_state_dict(net, good)
    net.theta[0] = np.nan
    with pytest.raises(ValueError, match=r"theta\[0\] of the network is nan"):
        ours.save_state_dict(net, tmp_path / "text")
    assert (tmp_path / "text").read_text() == "text"


def test_the_command(tmp_path):
    net = network([3, 4, 2])
    net.save(tmp_path / "net.safetensors")
    for name in "ab":
        assert main(["export", str(tmp_path / "net.safetensors"), "--format", "torch", "-o", str(tmp_path / name)]) == 0
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    model = ours.to_torch(Network([3, 4, 2], weights="zeros"))
    model.load_state_dict(load_file(tmp_path / "a"))
    X = samples(7, 3)
    near(model(torch.from_numpy(X)), net.forward(X), "float32")


# As a function of torch.autograd.


@pytest.mark.parametrize("activation", CODES)
@pytest.mark.parametrize("n", [1, 5])
def test_gradients(activation, n):
    """Beside central differences, with respect to inputs, theta and both."""
    net = network([3, 5, 4, 2], activation, activation, "float64", input_scale=0.5)
    theta = ours.function(net).theta
    for to_x, to_theta in ((True, True), (True, False), (False, True)):
        x = torch.from_numpy(samples(n, 3, "float64")).requires_grad_(to_x)
        theta.requires_grad_(to_theta)
        assert torch.autograd.gradcheck(lambda x, theta: _Outputs.apply(x, theta, net), (x, theta))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 300, 2000])
def test_gradients_are_those_of_the_sequential(dtype, n):
    """Of a cost that PyTorch computes, also where several threads share the work."""
    net = network([20, 60, 30, 4], ["gelu", "elu"], "identity", dtype)
    f, model = ours.function(net), ours.to_torch(net)
    x = torch.from_numpy(samples(n, 20, dtype) / 3)
    found = []
    for one in (f, model):
        own = x.clone().requires_grad_()
        one(own).logsumexp(1).square().mean().backward()
        found.append(own.grad)
    near(found[0] * n, found[1] * n, dtype)
    dW, db = net.views(f.theta.grad.numpy())
    for l, number in enumerate([0, 2, 4]):
        near(dW[l].T, model[number].weight.grad, dtype)
        near(db[l], model[number].bias.grad, dtype)


OPTIMIZERS = {"sgd": lambda p: torch.optim.SGD(p, 0.05, momentum=0.9, nesterov=True, weight_decay=0.01),
              "adam": lambda p: torch.optim.AdamW(p, 0.01), "lbfgs": lambda p: torch.optim.LBFGS(p, 0.1)}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_training_by_an_optimizer_of_pytorch(optimizer):
    """Ends with the weights of the Sequential, and the network has them."""
    net = network([4, 9, 3], "tanh", "identity", "float64")
    f, model = ours.function(net), ours.to_torch(net)
    x = torch.from_numpy(samples(50, 4, "float64"))
    y = (x[:, 0] > 0).long() + (x[:, 1] > 1)
    start = net.theta.copy()
    for one in (f, model):
        steps = OPTIMIZERS[optimizer](one.parameters())

        def again(one=one, steps=steps):
            steps.zero_grad()
            loss = F.cross_entropy(one(x), y)
            loss.backward()
            return loss

        for _ in range(30):
            steps.step(again)
    assert np.abs(net.theta - start).max() > 0.1
    np.testing.assert_allclose(net.theta, ours.from_torch(model).theta, rtol=1e-9, atol=1e-9)


def test_shapes_and_types_of_inputs():
    net = network([3, 5, 2], input_scale=0.5)
    f = ours.function(net)
    x = torch.from_numpy(samples(12, 3))
    expected = net.forward(x.numpy())
    assert (f(x).detach().numpy() == expected).all()
    assert f(x.reshape(2, 6, 3)).shape == (2, 6, 2) and f(x[0]).shape == (2,)
    assert (f(x.reshape(2, 6, 3)).reshape(12, 2).detach().numpy() == expected).all()
    wide = x.double().requires_grad_()
    f(wide.T.contiguous().T).sum().backward()
    assert wide.grad.dtype == torch.float64 and f(wide).dtype == torch.float32
    whole = torch.arange(6, dtype=torch.uint8).reshape(2, 3)
    assert (f(whole).detach().numpy() == net.forward(whole.numpy())).all()
    for wrong, message in ((torch.ones(2, 4), "X has 4 features, the network takes 3"),
                           (torch.ones(0, 3), "X is empty"),
                           (torch.full((1, 3), torch.nan), "is nan; every number must be finite"),
                           (torch.tensor(1.0), "X must have 2 dimensions")):
        with pytest.raises(ValueError, match=message):
            f(wrong)
    with pytest.raises(ValueError, match="the gradient of the outputs"):
        (f(x) * torch.inf).sum().backward()


def test_in_a_larger_model():
    """Behind and before layers of PyTorch; frozen, it passes gradients on."""
    net = network([3, 5, 2], output="identity")
    f = ours.function(net)
    f.theta.requires_grad_(False)
    model = nn.Sequential(nn.Linear(4, 3), f, nn.Linear(2, 1))
    model(torch.ones(5, 4)).sum().backward()
    assert f.theta.grad is None and model[0].weight.grad.abs().max() > 0
    assert [name for name, _ in model.named_parameters()] == ["0.weight", "0.bias", "1.theta", "2.weight", "2.bias"]
    assert "Network([3, 5, 2]" in repr(model)
    with torch.no_grad():
        assert not f(torch.ones(5, 3)).requires_grad


def test_copies_have_a_network_of_their_own(tmp_path):
    f = ours.function(network([3, 2]))
    f.theta.requires_grad_(False)
    f.eval()
    torch.save(f, tmp_path / "f")
    for other in (copy.deepcopy(f), copy.deepcopy(nn.Sequential(f))[0], pickle.loads(pickle.dumps(f)),
                  torch.load(tmp_path / "f", weights_only=False)):
        assert not other.theta.requires_grad and not other.training
        assert (other.theta == f.theta).all()
        with torch.no_grad():
            other.theta.zero_()
        assert (other.network.theta == 0).all() and (f.network.theta != 0).any()
    again = ours.function(f.network)
    again.load_state_dict({"theta": torch.ones(8)})
    assert (f.network.theta == 1).all()


def test_a_theta_elsewhere_is_refused():
    x = torch.ones(1, 3)
    f = ours.function(network([3, 2])).double()
    with pytest.raises(RuntimeError, match="theta no longer shares its memory with the network"):
        f(x)
    f = ours.function(network([3, 2]))
    with pytest.raises(RuntimeError, match="theta no longer shares its memory with the network"):
        torch.func.functional_call(f, {"theta": torch.zeros(8)}, x)


def test_a_backward_pass_after_a_step_is_refused():
    f = ours.function(network([3, 2]))
    outputs = f(torch.ones(1, 3)).log().sum()
    with torch.no_grad():
        f.theta += 1
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        outputs.backward()


def test_second_derivatives_are_refused():
    f = ours.function(network([3, 2]))
    x = torch.ones(1, 3, requires_grad=True)
    gradient, = torch.autograd.grad(f(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiate twice a function that was marked with @once_differentiable"):
        gradient.sum().backward()
    with pytest.raises(RuntimeError, match="setup_context"):
        torch.func.grad(lambda x: f(x).square().sum())(x)


# Without PyTorch, and examples.


def test_without_pytorch(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "torch", None)
    net = network([3, 2])
    for name, given in (("to_torch", net), ("from_torch", 1), ("function", net)):
        with pytest.raises(ImportError, match=rf'^{name} needs PyTorch: pip install "fastbp\[torch\]"$'):
            getattr(ours, name)(given)
    ours.save_state_dict(net, tmp_path / "a.safetensors")
    ours.load_state_dict(Network([3, 2]), tmp_path / "a.safetensors")
    assert fastbp.torch is ours


@pytest.mark.parametrize("function", [ours.to_torch, ours.from_torch, ours.function])
def test_the_examples_of_docstrings(function):
    """Which are left out where PyTorch is missing."""
    text = function.__doc__.replace("# doctest: +SKIP", "")
    names = {name: getattr(ours, name) for name in ours.__all__} | {"Network": Network}
    examples = doctest.DocTestParser().get_doctest(text, names, function.__name__, None, None)
    assert examples.examples and doctest.DocTestRunner().run(examples).failed == 0


@pytest.mark.parametrize("what", ["network", 3])
def test_what_is_no_network(what):
    for function in (ours.to_torch, ours.function, lambda net: ours.save_state_dict(net, Path("none")),
                     lambda net: ours.load_state_dict(net, {})):
        with pytest.raises(TypeError, match="network must be a Network"):
            function(what)
