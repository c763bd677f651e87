"""What no commit of fastbp can change: where these drift, the machine does."""

import numpy as np

from .cases import PerCall


class Control(PerCall):
    """Seconds of a product of NumPy's (256 x 256 x 256, float32), and of a loop of 10,000 additions in Python."""

    params = ["numpy_product", "python_loop"]
    param_names = ["work"]

    def setup(self, work):
        a = np.random.default_rng(0).random((256, 256), np.float32)
        out = np.empty_like(a)

        def numpy_product(times):
            for _ in range(times):
                np.matmul(a, a, out=out)

        def python_loop(times):
            for _ in range(times):
                total = 0
                for i in range(10_000):
                    total += i
            assert total == 49_995_000

        self.ready({"numpy_product": numpy_product, "python_loop": python_loop}[work])

    def time_control(self, work):
        self.make(self.times)
