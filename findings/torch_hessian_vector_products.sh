#!/usr/bin/env bash
# torch 2.13.0: the Hessian-vector product by forward mode over reverse mode, func.jvp(func.grad(f)), which its own
# tutorials advise as the cheapest, raises an error through functional.mse_loss (RuntimeError), huber_loss and
# soft_margin_loss (NotImplementedError); smooth_l1_loss, cross_entropy and the mean of squares written out give the right
# product. Who compares second derivatives with it writes those losses out, or takes reverse over reverse, which works
# for all. Fails if this changes.
# Seen: mse_loss RuntimeError, huber_loss NotImplementedError, soft_margin_loss NotImplementedError, smooth_l1_loss True,
# cross_entropy True, squares True; over reverse: True True True True True True
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet torch==2.13.0 numpy==2.4.6
seen=$("$folder/venv/bin/python" -W ignore - <<'PYTHON'
import torch
from torch.func import grad, jvp, vjp
from torch.nn import functional as F

torch.manual_seed(0)
x, t, v = torch.randn(5, dtype=torch.float64), torch.rand(5, dtype=torch.float64), torch.ones(5, dtype=torch.float64)
names = ["mse_loss", "huber_loss", "soft_margin_loss", "smooth_l1_loss", "cross_entropy"]
costs = {name: getattr(F, name) for name in names} | {"squares": lambda z, t: ((z - t) ** 2).mean()}
forward, reverse = [], []
for name, cost in costs.items():
    def f(z):
        return cost(z, t)

    right = torch.autograd.functional.hessian(f, x) @ v
    try:
        forward.append(f"{name} {torch.allclose(jvp(grad(f), (x,), (v,))[1], right)}")
    except RuntimeError as error:  # of which NotImplementedError is one
        forward.append(f"{name} {type(error).__name__}")
    reverse.append(str(torch.allclose(vjp(grad(f), x)[1](v)[0], right)))
print(", ".join(forward) + "; over reverse: " + " ".join(reverse))
PYTHON
)
echo "$seen"
[ "$seen" = "mse_loss RuntimeError, huber_loss NotImplementedError, soft_margin_loss NotImplementedError, \
smooth_l1_loss True, cross_entropy True, squares True; over reverse: True True True True True True" ]
