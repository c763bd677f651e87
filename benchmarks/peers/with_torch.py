"""PyTorch: tensors in memory, rows taken with index_select, the fused optimisers; or the whole step compiled."""

from __future__ import annotations

import torch
from workloads import BETA1, BETA2, EPSILON, Piece, Workload, mnist


def network(workload: Workload) -> torch.nn.Sequential:
    activation = {"relu": torch.nn.ReLU, "tanh": torch.nn.Tanh}[workload.hidden]
    modules = []
    for W, b in workload.parameters:
        linear = torch.nn.utils.skip_init(torch.nn.Linear, *W.shape)
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(W.T))
            linear.bias.copy_(torch.from_numpy(b))
        modules += [linear, activation()]
    return torch.nn.Sequential(*modules[:-1])


def quadratic(a: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    return (a - t).square().sum() / (2 * len(a))


class Training:
    def __init__(self, workload: Workload, threads: int | None = None, compiled: bool = False):
        if threads is not None:
            torch.set_num_threads(threads)
        self.workload, self.model = workload, network(workload)
        x, y = map(torch.from_numpy, workload.data)
        self.x, self.y = (x.float() / 255, y.long()) if workload.labels else (x, y)
        self.cost = torch.nn.CrossEntropyLoss() if workload.labels else quadratic
        parameters = list(self.model.parameters())
        # On a CPU fused=True was the fastest of fused, foreach and neither.
        if workload.optimizer == "Adam":
            self.optimizer = torch.optim.Adam(parameters, workload.eta, (BETA1, BETA2), EPSILON, fused=True)
        else:
            self.optimizer = torch.optim.SGD(parameters, workload.eta, workload.momentum,
                                             nesterov=workload.momentum > 0, fused=True)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, workload.factor) if workload.linear else None
        self.step = compiled_step(self) if compiled else self._step

    def _step(self, batch: torch.Tensor) -> torch.Tensor:
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.cost(self.model(self.x.index_select(0, batch)), self.y.index_select(0, batch))
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def __call__(self, piece: Piece) -> float:
        total = torch.zeros(())
        order = torch.from_numpy(self.workload.order(piece))
        for batch in order.unbind():
            total += self.step(batch)
            if self.schedule:
                self.schedule.step()
        return float(total) / len(order)

    @torch.inference_mode()
    def accuracy(self) -> float:
        x, labels = map(torch.from_numpy, mnist("t10k", 10_000))
        return float((self.model(x.float() / 255).argmax(1) == labels).float().mean())


def compiled_step(training: Training):
    """The whole step as one graph: compiled as it stands, it would break in three at backward()."""
    workload, model, cost, x, y = training.workload, training.model, training.cost, training.x, training.y
    theta = {name: parameter.detach() for name, parameter in model.named_parameters()}
    m, v = ({name: torch.zeros_like(part) for name, part in theta.items()} for _ in range(2))
    done = torch.zeros(())  # a number would be compiled in

    def loss_of(theta, x, y):
        return cost(torch.func.functional_call(model, theta, (x,)), y)

    @torch.compile(fullgraph=True)
    def step(batch: torch.Tensor) -> torch.Tensor:
        gradients, loss = torch.func.grad_and_value(loss_of)(theta, x.index_select(0, batch), y.index_select(0, batch))
        done.add_(1)
        for name, g in gradients.items():
            if workload.optimizer == "Adam":
                m[name].lerp_(g, 1 - BETA1)
                v[name].mul_(BETA2).addcmul_(g, g, value=1 - BETA2)
                size = (v[name] / (1 - BETA2**done)).sqrt() + EPSILON
                theta[name].sub_(workload.eta / (1 - BETA1**done) * m[name] / size)
            else:
                v[name].mul_(workload.momentum).add_(g)
                theta[name].sub_(workload.eta * (g + workload.momentum * v[name]))
        return loss

    return step


def forward(workload: Workload, threads: int | None = None, compiled: bool = False):
    if threads is not None:
        torch.set_num_threads(threads)
    model = network(workload)
    if compiled:
        model = torch.compile(model)
    samples = torch.from_numpy(workload.data[0]).split(1)

    @torch.inference_mode()
    def calls(piece: Piece) -> float:
        for sample in samples[: piece.rows]:
            output = model(sample)
        return float(output.abs().mean())

    return calls
