"""PyTorch eager: loops in Python around modules and the fused Adam."""

from __future__ import annotations

import math

import numpy as np
import torch
import ways
from ways import Door, Way, batches, looped, rows
from with_torch import network, quadratic
from workloads import Workload

LOOP = f"modules in a loop, {ways.PAIR} of them, scaled"


class Step:
    """One update of a module on one mini-batch."""

    def __init__(self, workload: Workload):
        self.model = network(workload)
        self.cost = torch.nn.CrossEntropyLoss() if workload.labels else quadratic
        self.optimizer = torch.optim.Adam(self.model.parameters(), workload.eta, fused=True)

    def __call__(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return self.descend(self.cost(self.model(x), y))

    def descend(self, cost: torch.Tensor) -> torch.Tensor:
        self.optimizer.zero_grad(set_to_none=True)
        cost.backward()
        self.optimizer.step()
        return cost.detach()


def steps(door: Door) -> dict[str, Way]:
    return {"eager step": looped(Step(door.workload), *batches(door.workload, torch.from_numpy))}


def gradient(door: Door) -> dict[str, Way]:
    model = network(door.workload)
    parameters = list(model.parameters())

    def compute(x, y):
        cost = quadratic(model(x), y)
        return cost, torch.autograd.grad(cost, parameters)

    return {"autograd": looped(compute, *batches(door.workload, torch.from_numpy), lambda both: float(
        both[0].detach() + torch.cat([part.ravel() for part in both[1]]).norm()))}


def forward(door: Door) -> dict[str, Way]:
    model, samples = network(door.workload), torch.from_numpy(door.workload.data[0]).split(1)
    way = looped(model, [(row,) for row in samples[:10]], [(row,) for row in samples], lambda a: float(a.abs().mean()))
    return {"inference_mode": Way(*map(torch.inference_mode(), way))}


def cart_pole(door: Door) -> dict[str, Way]:
    step, random = Step(door.workload), np.random.RandomState(0)
    policy = torch.nn.Sequential(step.model, torch.nn.Softmax(-1))

    def push(state, right):
        (x, speed, angle, spin), force = state, 10.0 if right else -10.0
        sine, cosine = math.sin(angle), math.cos(angle)
        shared = (force + 0.05 * spin**2 * sine) / 1.1
        turn = (9.8 * sine - cosine * shared) / (0.5 * (4 / 3 - 0.1 * cosine**2 / 1.1))
        return [x + 0.02 * speed, speed + 0.02 * (shared - 0.05 * turn * cosine / 1.1), angle + 0.02 * spin,
                spin + 0.02 * turn]

    @torch.inference_mode()
    def play():
        states, actions, ends = [], [], []
        state, long = random.uniform(-0.05, 0.05, 4).tolist(), 0
        for i in range(ways.PLAYED):
            states.append(state)
            actions.append(int(random.random_sample() < policy(torch.tensor(state))[1].item()))
            state, long = push(state, actions[-1]), long + 1
            stands = abs(state[0]) < 2.4 and abs(state[2]) < math.pi / 15
            ends.append(not stands or long == ways.LONGEST or i + 1 == ways.PLAYED)
            if ends[-1]:
                state, long = random.uniform(-0.05, 0.05, 4).tolist(), 0
        return states, actions, ends

    def update() -> float:
        states, actions, ends = play()
        ahead, better = 0.0, []
        for over in reversed(ends):
            ahead = 1.0 if over else 1.0 + ways.DISCOUNT * ahead
            better.append(ahead)
        better = torch.tensor(better[::-1])
        better = (better - better.mean()) / (better.std(correction=0) + 1e-8)
        chances = policy(torch.tensor(states)).gather(1, torch.tensor(actions)[:, None])[:, 0]
        step.descend(-(better * chances.log()).mean())
        return ways.PLAYED / sum(ends)

    return {"eager, simulation in Python": Way(lambda: np.mean([update() for _ in range(ways.CHECKED_UPDATES)]),
                                               lambda n: len([update() for _ in range(n)]))}


def neural_ode(door: Door) -> dict[str, Way]:
    wanted = torch.from_numpy(ways.pieces_of_path())
    workload = door.workload
    model = torch.nn.Sequential(torch.nn.Linear(2, 50), torch.nn.SiLU(), torch.nn.Linear(50, 2)).double()
    with torch.no_grad():
        for linear, (W, b) in zip((model[0], model[2]), workload.parameters, strict=True):
            linear.weight.copy_(torch.from_numpy(W.T))
            linear.bias.copy_(torch.from_numpy(b))
    optimizer = torch.optim.Adam(model.parameters(), workload.eta, fused=True)
    done = 0

    def step() -> torch.Tensor:
        nonlocal done
        i, done = done % ways.ODE_STEPS, done + 1
        optimizer.param_groups[0]["lr"] = workload.eta * (1 - i / ways.ODE_STEPS)
        x, path = wanted[i, 0], []
        for _ in range(ways.LENGTH):
            k1 = model(x)
            k2 = model(x + ways.DT / 2 * k1)
            k3 = model(x + ways.DT / 2 * k2)
            x = x + ways.DT / 6 * (k1 + 2 * k2 + 2 * k3 + model(x + ways.DT * k3))
            path.append(x)
        cost = (torch.stack(path) - wanted[i, 1:]).square().sum() / wanted[i].numel()
        optimizer.zero_grad(set_to_none=True)
        cost.backward()
        optimizer.step()
        return cost.detach()

    return {"eager": Way(lambda: float(torch.stack([step() for _ in range(ways.ODE_STEPS)]).mean()),
                         lambda n: len([step() for _ in range(n)]))}


def thousand(door: Door) -> dict[str, Way]:
    members = [Step(one) for one in ways.members(door, ways.PAIR)]
    waves, shape = ways.waves(ways.PAIR).tolist(), (door.workload.batch, 1)

    def train(draws) -> float:
        ends = []
        for step, (frequency, phase), samples in zip(members, waves, draws, strict=True):
            for x in samples:
                cost = step(x, torch.sin(frequency * x + phase))
            ends.append(float(cost))
        return np.mean(ends)

    def run(n: int) -> float:
        for _ in range(n):
            train([(2 * torch.rand(shape) - 1 for _ in range(ways.SINE_STEPS)) for _ in members])
        return n * ways.PAIR / door.networks

    return {LOOP: Way(lambda: train(torch.from_numpy(ways.first_draws(ways.PAIR, door.workload.batch))), run)}


def fit_many(door: Door) -> dict[str, Way]:
    members, (x, y) = [Step(one) for one in ways.members(door, ways.PAIR)], map(torch.from_numpy, rows(door.workload))
    first, *others = ([torch.from_numpy(batch) for batch in order] for order in ways.orders(door.workload))

    def train(order) -> float:
        return np.mean([float(torch.stack([step(x.index_select(0, batch), y.index_select(0, batch))
                                           for batch in order]).mean()) for step in members])

    def run(n: int) -> float:
        for i in range(n):
            train(others[i % len(others)])
        return n * ways.PAIR / (ways.MANY_EPOCHS * door.networks)

    return {LOOP: Way(lambda: train(first), run)}
