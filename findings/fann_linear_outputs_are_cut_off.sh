#!/usr/bin/env bash
# FANN 2.2.0 (Debian's libfann2): fann_run cuts off the sum s z of a neuron at 150 / s, for FANN_LINEAR too, without a
# word: with the default steepness of 0.5 no linear output is above 300 or below -300. And what fann_create_standard
# makes has SIGMOID_STEPWISE, straight lines between six points, not the sigmoid: 0.8477 where that is 0.8808. Fails if
# this changes. Needs a list of packages: apt-get update.
# Seen: 100.0 300.0 300.0 0.8477 0.8808
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
apt-get -o APT::Sandbox::User=root download --quiet libfann2 > /dev/null
dpkg -x libfann2_2.2.0*.deb .
seen=$(python3 - <<'PYTHON'
import ctypes, glob

fann, real, LINEAR, SIGMOID = ctypes.CDLL(glob.glob("usr/lib/*/libdoublefann.so.2")[0]), ctypes.c_double, 0, 3
fann.fann_create_standard_array.restype, fann.fann_run.restype = ctypes.c_void_p, ctypes.POINTER(real)

def output(x, activation=None, steepness=0.5):
    """Of one neuron with weight 1 and bias 0."""
    net = ctypes.c_void_p(fann.fann_create_standard_array(2, (ctypes.c_uint * 2)(1, 1)))
    fann.fann_set_weight(net, 0, 2, real(1))
    fann.fann_set_weight(net, 1, 2, real(0))
    fann.fann_set_activation_steepness_output(net, real(steepness))
    if activation is not None:
        fann.fann_set_activation_function_output(net, activation)
    return round(fann.fann_run(net, (real * 1)(x))[0], 4)

print(output(200, LINEAR), output(601, LINEAR), output(1e6, LINEAR), output(2), output(2, SIGMOID))
PYTHON
)
echo "$seen"
[ "$seen" = "100.0 300.0 300.0 0.8477 0.8808" ]
