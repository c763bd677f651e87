"""JAX: each call one jit, each task a scan or a vmap of one; float32, but for the differential equation."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import ways
from jax.flatten_util import ravel_pytree
from ways import Door, Way, batches, l_bfgs, looped, rows
from with_jax import outputs
from workloads import Workload


def cost_of(workload: Workload, parameters, x, y):
    a = outputs(workload, parameters, x)
    if workload.labels:
        return optax.softmax_cross_entropy_with_integer_labels(a, y).mean()
    return jnp.square(a - y).sum() / (2 * len(a))


def step_of(workload: Workload, carry, x, y):
    parameters, moments = carry
    cost, gradients = jax.value_and_grad(partial(cost_of, workload))(parameters, x, y)
    updates, moments = optax.adam(workload.eta).update(gradients, moments)
    return (optax.apply_updates(parameters, updates), moments), cost


def start(workload: Workload, dtype=np.float32):
    parameters = jax.tree.map(partial(jnp.asarray, dtype=dtype), workload.parameters)
    return parameters, optax.adam(workload.eta).init(parameters)


def steps(door: Door) -> dict[str, Way]:
    update, carry = jax.jit(partial(step_of, door.workload), donate_argnums=0), start(door.workload)

    def step(x, y):
        nonlocal carry
        carry, cost = update(carry, x, y)
        return cost.block_until_ready()

    return {"jitted step": looped(step, *batches(door.workload, jnp.asarray))}


def flat(workload: Workload):
    """The start parameters as one vector, and a jitted function of it to cost and gradient."""
    theta, layers_of = ravel_pytree(start(workload)[0])
    return theta, jax.jit(jax.value_and_grad(lambda theta, x, y: cost_of(workload, layers_of(theta), x, y)))


def gradient(door: Door) -> dict[str, Way]:
    theta, compute = flat(door.workload)
    return {"jitted value_and_grad": looped(lambda x, y: jax.block_until_ready(compute(theta, x, y)),
                                            *batches(door.workload, jnp.asarray),
                                            lambda both: float(both[0]) + np.linalg.norm(both[1]))}


def minimize(door: Door) -> dict[str, Way]:
    (theta, compute), (x, y) = flat(door.workload), map(jnp.asarray, rows(door.workload))

    def cost(theta):
        value, gradient = compute(theta.astype(np.float32), x, y)
        return float(value), np.asarray(gradient, np.float64)

    return {"jitted value_and_grad": l_bfgs(cost, np.asarray(theta, np.float64))}


def chunks(work, carry, n_of_chunk: float, check) -> Way:
    """Run (carry, number) -> (carry, results) again and again; one chunk, of results of the first, is checked."""
    done = 0

    def chunk():
        nonlocal carry, done
        carry, results = work(carry, done)
        done += 1
        return jax.block_until_ready(results)

    def run(n: int) -> float:
        times = max(1, round(n / n_of_chunk))
        for _ in range(times):
            chunk()
        return times * n_of_chunk

    return Way(lambda: float(check(chunk())), run)


def cart_pole(door: Door) -> dict[str, Way]:
    def log_chances(parameters, x):
        return jax.nn.log_softmax(outputs(door.workload, parameters, x))

    def play(parameters, key):
        keys = jax.random.split(key)
        draws = jnp.log(jax.random.uniform(keys[0], ways.PLAYED))
        starts = jax.random.uniform(keys[1], (ways.PLAYED + 1, 4), minval=-0.05, maxval=0.05)

        def push(carry, now):
            state, before = carry
            draw, new, last = now
            right = draw < log_chances(parameters, state)[1]
            (x, speed, angle, spin), force = state, jnp.where(right, 10.0, -10.0)
            sine, cosine = jnp.sin(angle), jnp.cos(angle)
            shared = (force + 0.05 * spin**2 * sine) / 1.1
            turn = (9.8 * sine - cosine * shared) / (0.5 * (4 / 3 - 0.1 * cosine**2 / 1.1))
            x, angle, speed, spin = (x + 0.02 * speed, angle + 0.02 * spin,
                                     speed + 0.02 * (shared - 0.05 * turn * cosine / 1.1), spin + 0.02 * turn)
            stands = (jnp.abs(x) < 2.4) & (jnp.abs(angle) < jnp.pi / 15)
            over, long = ~stands | (before + 1 == ways.LONGEST) | last, before + 1
            after = jnp.where(over, new, jnp.stack([x, speed, angle, spin])), jnp.where(over, 0, long)
            return after, (state, right.astype(int), over)

        last = jnp.arange(ways.PLAYED) == ways.PLAYED - 1
        return jax.lax.scan(push, (starts[0], 0), (draws, starts[1:], last))[1]

    def advantages(over):
        def add(ahead, over):
            ahead = jnp.where(over, 1.0, 1.0 + ways.DISCOUNT * ahead)
            return ahead, ahead

        better = jax.lax.scan(add, 0.0, over, reverse=True)[1]
        return (better - better.mean()) / (better.std() + 1e-8)

    def update(carry, key):
        parameters, moments = carry
        X, actions, over = play(parameters, key)
        better = advantages(over)

        def cost(parameters):
            return -(better * jnp.take_along_axis(log_chances(parameters, X), actions[:, None], 1)[:, 0]).mean()

        updates, moments = optimizer.update(jax.grad(cost)(parameters), moments)
        return (optax.apply_updates(parameters, updates), moments), ways.PLAYED / over.sum()

    optimizer = optax.adam(door.workload.eta)
    work = jax.jit(lambda carry, seed: jax.lax.scan(update, carry, jax.random.split(
        jax.random.key(seed), ways.CHECKED_UPDATES)), donate_argnums=0)
    return {"scan": chunks(work, start(door.workload), ways.CHECKED_UPDATES, jnp.mean)}


def neural_ode(door: Door) -> dict[str, Way]:
    jax.config.update("jax_enable_x64", True)
    wanted = jnp.asarray(ways.pieces_of_path())
    etas = door.workload.eta * (1 - jnp.arange(ways.ODE_STEPS) / ways.ODE_STEPS)
    optimizer = optax.scale_by_adam()

    def slope(parameters, x):
        (W, b), (W_out, b_out) = parameters
        return jax.nn.silu(x @ W + b) @ W_out + b_out

    def cost(parameters, wanted):
        def runge_kutta(x, _):
            k1 = slope(parameters, x)
            k2 = slope(parameters, x + ways.DT / 2 * k1)
            k3 = slope(parameters, x + ways.DT / 2 * k2)
            x = x + ways.DT / 6 * (k1 + 2 * k2 + 2 * k3 + slope(parameters, x + ways.DT * k3))
            return x, x

        path = jax.lax.scan(runge_kutta, wanted[0], length=ways.LENGTH)[1]
        return jnp.square(path - wanted[1:]).sum() / wanted.size

    def step(carry, now):
        (parameters, moments), (wanted, eta) = carry, now
        value, gradients = jax.value_and_grad(cost)(parameters, wanted)
        updates, moments = optimizer.update(gradients, moments)
        return (jax.tree.map(lambda theta, u: theta - eta * u, parameters, updates), moments), value

    parameters = start(door.workload, np.float64)[0]
    work = jax.jit(lambda carry, _: jax.lax.scan(step, carry, (wanted, etas)), donate_argnums=0)
    return {"scan": chunks(work, (parameters, optimizer.init(parameters)), ways.ODE_STEPS, jnp.mean)}


def stacked(door: Door):
    """The start of all networks, each array with an axis for them."""
    parts = [one.parameters for one in ways.members(door, door.networks)]
    parameters = jax.tree.map(lambda *arrays: jnp.asarray(np.stack(arrays)), *parts)
    return parameters, jax.vmap(optax.adam(door.workload.eta).init)(parameters)


def thousand(door: Door) -> dict[str, Way]:
    shape = (door.networks, door.workload.batch, 1)
    frequency, phase = jnp.asarray(ways.waves(door.networks), jnp.float32).T[:, :, None, None]
    train = jax.vmap(partial(step_of, door.workload))

    @partial(jax.jit, donate_argnums=0)
    def from_draws(carry, x):
        return jax.lax.scan(lambda carry, x: train(carry, x, jnp.sin(frequency * x + phase)), carry, x)

    @partial(jax.jit, donate_argnums=0)
    def drawing(carry, seed):
        def step(carry, key):
            x = jax.random.uniform(key, shape, minval=-1)
            return train(carry, x, jnp.sin(frequency * x + phase))

        return jax.lax.scan(step, carry, jax.random.split(jax.random.key(seed), ways.SINE_STEPS))

    def part(carry, done):
        return drawing(carry, done) if done else from_draws(carry, ways.first_draws(*shape[:2]).swapaxes(0, 1))

    return {"vmap and scan": chunks(part, stacked(door), 1, lambda costs: costs[-1, : ways.PAIR].mean())}


def fit_many(door: Door) -> dict[str, Way]:
    (x, y), (first, *others) = map(jnp.asarray, rows(door.workload)), ways.orders(door.workload)
    step = jax.vmap(partial(step_of, door.workload), in_axes=(0, None, None))
    work = jax.jit(lambda carry, order: jax.lax.scan(lambda carry, i: step(carry, x[i], y[i]), carry, order),
                   donate_argnums=0)

    def part(carry, done):
        return work(carry, first if not done else others[(done - 1) % len(others)])

    return {"vmap and scan": chunks(part, stacked(door), 1 / ways.MANY_EPOCHS,
                                    lambda costs: costs[:, : ways.PAIR].mean())}
