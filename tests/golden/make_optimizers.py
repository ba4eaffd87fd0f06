# SPDX-License-Identifier: Apache-2.0
"""Writes optimizers.json: ten steps of every optimizer, and the rates of every schedule.

PyTorch does the steps where its formula is ours: SGD, Adam, AdamW, AMSGrad, Adagrad and RMSprop with an epsilon so small
that it does not matter where it stands. Written out here with NumPy in float64 are Lion, LAMB and LARS, which PyTorch 1.13
does not have, NAdam, where it multiplies the newest momentum in twice (mended in 2.0), Keras's place of epsilon, and
clipping without PyTorch's 1e-6. So are the schedules that torch.optim.lr_scheduler lacks: polynomial with an end, cosine
with a height of each period's own.
Usage: /usr/bin/python3 make_optimizers.py
"""

import json
import math
import pathlib

import numpy
import torch

torch.set_default_dtype(torch.float64)
generator = numpy.random.default_rng(20240)
TINY = 1e-16
STEPS = 10
# Two tensors, so that what works on each by itself shows.
SHAPES = {"dense/kernel": 5, "dense/bias": 3}


def draw(n):
    """Multiples of 1/256, none near zero."""
    values = numpy.round(generator.uniform(-1, 1, n) * 256) / 256
    return values + numpy.where(values < 0, -0.0625, 0.0625)


def with_torch(make):
    """make(parameters) -> optimizer, or a list of one group for each tensor."""
    def run(start, gradients):
        weights = {name: torch.tensor(values, requires_grad=True) for name, values in start.items()}
        optimizer = make(weights)
        path = []
        for gradient in gradients:
            for name, weight in weights.items():
                weight.grad = torch.tensor(gradient[name])
            optimizer.step()
            path.append({name: w.detach().numpy().copy() for name, w in weights.items()})
        return path
    return run


def with_numpy(update, before=lambda g, w: g):
    """update(w, g, state, t) changes one tensor; `before` changes all gradients of a step."""
    def run(start, gradients):
        weights = {name: values.copy() for name, values in start.items()}
        states = {name: {} for name in start}
        path = []
        for t, gradient in enumerate(gradients, 1):
            gradient = before({name: g.copy() for name, g in gradient.items()}, weights)
            for name, weight in weights.items():
                update(weight, gradient[name], states[name], t)
            path.append({name: w.copy() for name, w in weights.items()})
        return path
    return run


def moment(state, key, value, beta):
    state[key] = beta * state.get(key, 0.0) + (1 - beta) * value
    return state[key]


def sgd(lr):
    def update(w, g, state, t):
        w -= lr * g
    return update


def adam(lr, b1, b2, epsilon, amsgrad=False):
    def update(w, g, state, t):
        m, v = moment(state, "m", g, b1), moment(state, "v", g * g, b2)
        if amsgrad:
            v = state["largest"] = numpy.maximum(state.get("largest", 0.0), v)
        w -= lr * math.sqrt(1 - b2**t) / (1 - b1**t) * m / (numpy.sqrt(v) + epsilon)
    return update


def nadam(lr, b1, b2, epsilon):
    u = lambda t: b1 * (1 - 0.5 * 0.96**t)

    def update(w, g, state, t):
        m, v = moment(state, "m", g, b1), moment(state, "v", g * g, b2)
        product = math.prod(u(i) for i in range(1, t + 1))
        w -= lr * (u(t + 1) * m / (1 - product * u(t + 1)) + (1 - u(t)) * g / (1 - product)) / (
            numpy.sqrt(v / (1 - b2**t)) + epsilon)
    return update


def adagrad(lr, start, epsilon):
    def update(w, g, state, t):
        state["a"] = state.get("a", start) + g * g
        w -= lr * g / numpy.sqrt(state["a"] + epsilon)
    return update


def rmsprop(lr, rho, momentum, epsilon, centered):
    def update(w, g, state, t):
        v = moment(state, "v", g * g, rho)
        if centered:
            v = v - moment(state, "mean", g, rho) ** 2
        state["b"] = momentum * state.get("b", 0.0) + lr * g / numpy.sqrt(v + epsilon)
        w -= state["b"]
    return update


def lion(lr, b1, b2, decay=0.0):
    def update(w, g, state, t):
        m = state.get("m", numpy.zeros_like(w))
        w -= lr * decay * w
        w -= lr * numpy.sign(b1 * m + (1 - b1) * g)
        state["m"] = b2 * m + (1 - b2) * g
    return update


def ratio(w, u):
    a, b = numpy.linalg.norm(w), numpy.linalg.norm(u)
    return a / b if a > 0 and b > 0 else 1.0


def lamb(lr, b1, b2, epsilon, decay=0.0):
    def update(w, g, state, t):
        m, v = moment(state, "m", g, b1) / (1 - b1**t), moment(state, "v", g * g, b2) / (1 - b2**t)
        u = m / (numpy.sqrt(v) + epsilon) + decay * w
        w -= lr * ratio(w, u) * u
    return update


def lars(lr, momentum, trust, epsilon, decay=0.0):
    def update(w, g, state, t):
        a, b = numpy.linalg.norm(w), numpy.linalg.norm(g)
        scale = trust * a / (b + decay * a + epsilon) if a > 0 and b > 0 else 1.0
        state["v"] = momentum * state.get("v", 0.0) + lr * scale * (g + decay * w)
        w -= state["v"]
    return update


def clipped(limit):
    def before(gradient, weights):
        return {k: g * min(1.0, limit / numpy.linalg.norm(g)) for k, g in gradient.items()}
    return before


def globally_clipped(limit):
    def before(gradient, weights):
        norm = math.sqrt(sum(float((g * g).sum()) for g in gradient.values()))
        return {k: g * min(1.0, limit / norm) for k, g in gradient.items()}
    return before


def penalised(penalties):
    def before(gradient, weights):
        return {k: g + penalties[k][0] * numpy.sign(weights[k]) + 2 * penalties[k][1] * weights[k]
                for k, g in gradient.items()}
    return before


def accumulated(update, count):
    """The update sees the mean of `count` steps, once every `count` steps."""
    def wrapped(w, g, state, t):
        state.setdefault("sum", numpy.zeros_like(g))
        state["sum"] += g
        if t % count == 0:
            update(w, state.pop("sum") / count, state, t // count)
    return wrapped


def averages(path, momentum):
    average = None
    for weights in path:
        average = weights if average is None else {
            k: momentum * average[k] + (1 - momentum) * w for k, w in weights.items()}
        yield average


O = torch.optim


def optimizers():
    for lr, momentum, nesterov in ((0.05, 0, False), (0.001, 0, False), (1.5, 0, False), (0.05, 0.9, False),
                                   (0.2, 0.99, False), (0.05, 0.9, True), (0.01, 0.5, True)):
        spec = {"learning_rate": lr, "momentum": momentum, "nesterov": nesterov}
        yield {"sgd": spec}, with_torch(
            lambda w, a=(lr, momentum, nesterov): O.SGD(list(w.values()), lr=a[0], momentum=a[1], nesterov=a[2]))
    for lr, b1, b2, amsgrad in ((0.001, 0.9, 0.999, False), (0.01, 0.5, 0.75, False), (0.1, 0.0, 0.9, False),
                                (0.01, 0.9, 0.999, True), (0.1, 0.8, 0.9, True), (0.05, 0.0, 0.5, True)):
        spec = {"learning_rate": lr, "beta_1": b1, "beta_2": b2, "epsilon": TINY, "amsgrad": amsgrad}
        yield {"adam": spec}, with_torch(
            lambda w, a=(lr, b1, b2, amsgrad): O.Adam(list(w.values()), a[0], a[1:3], TINY, amsgrad=a[3]))
    yield {"adam": {"learning_rate": 0.1, "epsilon": 0.25}}, with_numpy(adam(0.1, 0.9, 0.999, 0.25))
    yield {"adam": {"learning_rate": 0.1, "epsilon": 0.25, "amsgrad": True}}, with_numpy(
        adam(0.1, 0.9, 0.999, 0.25, True))
    for lr, decay, amsgrad in ((0.001, 0.01, False), (0.1, 0.1, False), (0.05, 0.5, True)):
        yield {"adamw": {"learning_rate": lr, "epsilon": TINY, "amsgrad": amsgrad},
               "weight_decay": decay}, with_torch(
            lambda w, a=(lr, decay, amsgrad): O.AdamW(list(w.values()), a[0], (0.9, 0.999), TINY, a[1], a[2]))
    yield {"adamw": {"learning_rate": 0.1, "epsilon": TINY}}, with_torch(
        lambda w: O.AdamW(list(w.values()), 0.1, (0.9, 0.999), TINY, 0.004))
    for lr, b1, b2, epsilon in ((0.001, 0.9, 0.999, 1e-7), (0.1, 0.5, 0.9, 1e-3), (0.01, 0.99, 0.75, 0.1)):
        yield {"nadam": {"learning_rate": lr, "beta_1": b1, "beta_2": b2, "epsilon": epsilon}}, with_numpy(
            nadam(lr, b1, b2, epsilon))
    for lr, start in ((0.001, 0.1), (0.1, 0.5), (1.0, 2.0)):
        yield {"adagrad": {"learning_rate": lr, "initial_accumulator_value": start, "epsilon": TINY}}, with_torch(
            lambda w, a=(lr, start): O.Adagrad(list(w.values()), a[0], initial_accumulator_value=a[1], eps=TINY))
    yield {"adagrad": {"learning_rate": 0.1, "initial_accumulator_value": 0, "epsilon": 0.25}}, with_numpy(
        adagrad(0.1, 0.0, 0.25))
    for lr, rho, momentum, centered in ((0.001, 0.9, 0.0, False), (0.01, 0.5, 0.9, False), (0.01, 0.9, 0.0, True),
                                        (0.05, 0.75, 0.5, True)):
        spec = {"learning_rate": lr, "rho": rho, "momentum": momentum, "centered": centered}
        yield {"rmsprop": {**spec, "epsilon": TINY}}, with_torch(
            lambda w, a=(lr, rho, momentum, centered): O.RMSprop(
                list(w.values()), a[0], a[1], TINY, momentum=a[2], centered=a[3]))
        yield {"rmsprop": {**spec, "epsilon": 0.25}}, with_numpy(rmsprop(lr, rho, momentum, 0.25, centered))
    for lr, b1, b2, decay in ((0.001, 0.9, 0.99, 0.0), (0.1, 0.5, 0.75, 0.0), (0.01, 0.95, 0.98, 0.5)):
        yield {"lion": {"learning_rate": lr, "beta_1": b1, "beta_2": b2}, "weight_decay": decay}, with_numpy(
            lion(lr, b1, b2, decay))
    for lr, b1, b2, epsilon, decay in ((0.001, 0.9, 0.999, 1e-7, 0.0), (0.1, 0.5, 0.75, 0.1, 0.0),
                                       (0.05, 0.9, 0.99, 1e-6, 0.1)):
        yield {"lamb": {"learning_rate": lr, "beta_1": b1, "beta_2": b2, "epsilon": epsilon},
               "weight_decay": decay}, with_numpy(lamb(lr, b1, b2, epsilon, decay))
    for lr, momentum, trust, epsilon, decay in ((0.01, 0.9, 0.001, 1e-8, 0.0), (1.0, 0.5, 0.1, 0.0, 0.0),
                                                (0.5, 0.9, 0.02, 0.125, 0.1)):
        yield {"lars": {"learning_rate": lr, "momentum": momentum, "trust_coefficient": trust, "epsilon": epsilon},
               "weight_decay": decay}, with_numpy(lars(lr, momentum, trust, epsilon, decay))


def shared():
    """What every optimizer can have, each with another one."""
    base = {"sgd": {"learning_rate": 0.1}}
    yield "decay_excludes", {"adamw": {"learning_rate": 0.1, "epsilon": TINY}, "weight_decay": 0.5,
                             "weight_decay_exclude": ["*/bias"]}, with_torch(
        lambda w: O.AdamW([{"params": [w["dense/kernel"]], "weight_decay": 0.5},
                           {"params": [w["dense/bias"]], "weight_decay": 0.0}], 0.1, (0.9, 0.999), TINY)), {}
    yield "sgd_decays", {**base, "weight_decay": 0.25}, with_numpy(
        lambda w, g, state, t: sgd(0.1)(w, g + 0.25 * w, state, t)), {}
    yield "clip_value", {**base, "clip_value": 0.5}, with_numpy(
        sgd(0.1), lambda g, w: {k: numpy.clip(v, -0.5, 0.5) for k, v in g.items()}), {}
    yield "clip_norm", {**base, "clip_norm": 1.125}, with_numpy(sgd(0.1), clipped(1.125)), {}
    yield "global_clip_norm", {**base, "global_clip_norm": 1.5}, with_numpy(sgd(0.1), globally_clipped(1.5)), {}
    yield "accumulates", {"adam": {"learning_rate": 0.1, "epsilon": 0.125}, "gradient_accumulation_steps": 3}, \
        with_numpy(accumulated(adam(0.1, 0.9, 0.999, 0.125), 3)), {}
    penalties = {"dense/kernel": [0.25, 0.125], "dense/bias": [0.0, 0.5]}
    yield "penalties", base, with_numpy(sgd(0.1), penalised(penalties)), {"penalties": penalties}
    yield "average", {**base, "use_ema": True, "ema_momentum": 0.75}, with_numpy(sgd(0.1)), {"ema": 0.75}


def numbers(tensors):
    return {name: [float(v) for v in values] for name, values in tensors.items()}


def optimizer_case(name, spec, run, more):
    start = {tensor: draw(n) for tensor, n in SHAPES.items()}
    gradients = [{tensor: draw(n) for tensor, n in SHAPES.items()} for _ in range(STEPS)]
    path = run(start, gradients)
    case = {"name": name, "spec": spec, "start": numbers(start), "gradients": [numbers(g) for g in gradients],
            "path": [numbers(w) for w in path], **more}
    if "ema" in more:
        case["averages"] = [numbers(a) for a in averages(path, more["ema"])]
    return case


def rates(make, steps, lr=0.5):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=lr)
    scheduler = make(optimizer)
    out = []
    for _ in range(steps):
        out.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return out


def schedules():
    S = torch.optim.lr_scheduler
    yield {"constant": {}}, rates(lambda o: S.ConstantLR(o, factor=1.0), 5)
    yield {"exponential_decay": {"decay_steps": 1, "decay_rate": 0.9}}, rates(lambda o: S.ExponentialLR(o, 0.9), 20)
    yield {"exponential_decay": {"decay_steps": 7, "decay_rate": 0.5, "staircase": True}}, rates(
        lambda o: S.StepLR(o, 7, 0.5), 30)
    yield {"step_decay": {"step_size": 4}}, rates(lambda o: S.StepLR(o, 4), 20)
    yield {"step_decay": {"step_size": 3, "gamma": 0.5}}, rates(lambda o: S.StepLR(o, 3, 0.5), 20)
    yield {"multi_step_decay": {"milestones": [2, 3, 9]}}, rates(lambda o: S.MultiStepLR(o, [2, 3, 9]), 14)
    yield {"multi_step_decay": {"milestones": [0, 5], "gamma": 0.5}}, [0.25] * 5 + [0.125] * 5
    yield {"polynomial_decay": {"decay_steps": 8, "end_learning_rate": 0, "power": 2}}, rates(
        lambda o: S.PolynomialLR(o, 8, 2.0), 12)
    yield {"polynomial_decay": {"decay_steps": 10}}, [
        (0.5 - 0.0001) * (1 - min(s, 10) / 10) + 0.0001 for s in range(14)]
    # PyTorch's goes up again behind its end; ours stays there.
    yield {"cosine_decay": {"decay_steps": 9}}, rates(lambda o: S.CosineAnnealingLR(o, 9), 10) + [0.0, 0.0]
    yield {"cosine_decay": {"decay_steps": 5, "alpha": 0.25}}, rates(lambda o: S.CosineAnnealingLR(o, 5, 0.125), 6)
    yield {"cosine_decay_restarts": {"first_decay_steps": 3}}, rates(
        lambda o: S.CosineAnnealingWarmRestarts(o, 3, 2), 60)
    yield {"cosine_decay_restarts": {"first_decay_steps": 7, "t_mul": 1, "alpha": 0.5}}, rates(
        lambda o: S.CosineAnnealingWarmRestarts(o, 7, 1, 0.25), 40)
    height = [0.5 * 0.75**i * 0.5 * (1 + math.cos(math.pi * s / (2 * 3**i))) for i in range(4) for s in range(2 * 3**i)]
    yield {"cosine_decay_restarts": {"first_decay_steps": 2, "t_mul": 3, "m_mul": 0.75}}, height
    for total, more in ((20, {}), (30, {"pct_start": 0.5, "div_factor": 10, "final_div_factor": 100}), (2, {})):
        yield {"one_cycle": {"total_steps": total, **more}}, rates(
            lambda o, a=(total, more): S.OneCycleLR(o, 0.5, a[0], **a[1]), total)
    for schedule, make in (({"cosine_decay": {"decay_steps": 9}}, lambda o: S.CosineAnnealingLR(o, 9)),
                           ({"step_decay": {"step_size": 4}}, lambda o: S.StepLR(o, 4))):
        warm = rates(lambda o: S.LinearLR(o, 1 / 6, 1.0, total_iters=5), 5)
        yield {**schedule, "warmup_steps": 5}, warm + rates(make, 9)


def plateaus():
    """PyTorch waits for more than `patience` epochs, Keras and Lockstep for `patience`."""
    values = [1.0, 0.9, 0.91, 0.95, 0.9, 0.89, 0.88, 0.885, 0.88, 0.89, 0.9, 0.7, 0.71, 0.72, 0.73, 0.74, 0.75, 0.76]
    for patience, cooldown, delta, mode, least in ((2, 0, 0.0, "min", 0.0), (1, 2, 0.0, "min", 0.0),
                                                   (3, 1, 0.02, "min", 0.0), (2, 0, 0.0, "max", 0.0),
                                                   (1, 0, 0.0, "min", 0.1)):
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.5)
        scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
            optimizer, mode, factor=0.5, patience=patience - 1, threshold=delta, threshold_mode="abs",
            cooldown=cooldown, min_lr=least, eps=0)
        after = []
        for value in values:
            scheduler.step(value)
            after.append(optimizer.param_groups[0]["lr"])
        yield {"spec": {"factor": 0.5, "patience": patience, "cooldown": cooldown, "min_learning_rate": least,
                        "monitor": {"min_delta": delta}},
               "higher_is_better": mode == "max", "values": values, "rates": after}


if __name__ == "__main__":
    cases = [optimizer_case(f"{next(iter(spec))}_{i}", spec, run, {}) for i, (spec, run) in enumerate(optimizers())]
    cases += [optimizer_case(*case) for case in shared()]
    golden = {"torch": torch.__version__, "base": 0.5, "optimizers": cases,
              "schedules": [{"spec": spec, "rates": list(values)} for spec, values in schedules()],
              "plateaus": list(plateaus())}
    path = pathlib.Path(__file__).with_name("optimizers.json")
    path.write_text(json.dumps(golden, separators=(",", ":")) + "\n")
    print(path, path.stat().st_size, "bytes")
