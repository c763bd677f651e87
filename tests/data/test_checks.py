"""Numbers, truth values, names and keywords that users hand in: what is taken, and what the refusals say."""

import argparse
import dataclasses
import inspect
import math
import pickle
import re

import numpy as np
import pytest

from fastbp import SGD, Adam, AdamW, Lion, Network, Trainer, data, find_eta, losses, options, schedules
from fastbp.checks import fraction, known_as, number, one_of, positive, truth, whole_number
from fastbp.core import activations
from fastbp.initialization import INITIALIZERS
from fastbp.metrics import as_metrics
from fastbp.optimizers import OPTIMIZERS

X, Y = np.random.default_rng(0).normal(size=(40, 3)), np.arange(40) % 2
REAL = [2, 2.0, np.int8(2), np.uint64(2), np.float16(2), np.float32(2), np.float64(2), np.longdouble(2)]
NO_NUMBER = [True, np.True_, "2", None, 2j, np.array(2.0), np.array([2.0]), [2.0]]


@pytest.mark.parametrize("value", REAL, ids=repr)
def test_every_real_number_is_one(value):
    assert (number("x", value), type(number("x", value))) == (2.0, float)
    assert losses.Huber(value) == losses.Huber(2.0) and type(losses.Huber(value).threshold) is float
    assert repr(Adam(value, epsilon=value)) == repr(Adam(2.0, epsilon=2.0))
    assert schedules.Exponential(value) == schedules.Exponential(2.0)
    assert Trainer(Network([3, 2]), clip_norm=value).clip_norm == 2


@pytest.mark.parametrize("value", NO_NUMBER, ids=repr)
def test_what_is_no_number(value):
    for make in (lambda: positive("x", value), lambda: SGD(value), lambda: losses.Huber(value),
                 lambda: losses.CrossEntropy(value), lambda: schedules.Linear(value),
                 lambda: Trainer(Network([3, 2]), max_norm=value) if value is not None else positive("x", None),
                 lambda: Trainer(Network([3, 2])).fit(X, Y, class_weight={0: value}),
                 lambda: whole_number("x", value, 0)):
        with pytest.raises(TypeError, match="must be a (whole )?number, got "):
            make()


@pytest.mark.parametrize("value", [10**400, -(10**400), 10**5000, math.inf, -math.inf, math.nan, np.float32(0),
                                   np.longdouble("1e4000"), np.longdouble("1e-4000")], ids=lambda value: str(value)[:9]
                         if not isinstance(value, int) else f"{value.bit_length()} bits")
def test_what_no_float_can_hold(value):
    """A ValueError that is short, never an OverflowError."""
    for make in (lambda: SGD(value), lambda: losses.Huber(value), lambda: Trainer(Network([3, 2]), clip_norm=value),
                 lambda: schedules.Exponential(value)):
        with pytest.raises(ValueError, match="^[a-z_]+ must be a finite number > 0, got .{1,60}$"):
            make()


def test_limits():
    assert [fraction("x", value) for value in (0, 0.5, np.nextafter(1, 0))] == [0, 0.5, np.nextafter(1, 0)]
    assert number("x", 1, 0, 1, low_open=True) == 1 and number("x", -3) == -3
    for value, limits, opened, message in [
        (1, (0, 1), "high_open", r"x must be in \[0, 1\), got 1"), (0, (0, 1), "low_open", r"x must be in \(0, 1\], "),
        (1, (1,), "low_open", "x must be a finite number > 1, got 1"), (math.inf, (), "low_open", "x must be finite, "),
    ]:
        with pytest.raises(ValueError, match=message):
            number("x", value, *limits, **{opened: True})


def test_truth_values():
    assert truth("x", np.True_) is True and truth("x", False) is False
    optimizer = SGD(momentum=0.5, nesterov=np.True_, decay_biases=np.False_)
    assert optimizer.nesterov is True and optimizer == SGD(momentum=0.5, nesterov=True)
    for value in (1, 0.0, "yes", None, np.int64(1)):
        with pytest.raises(TypeError, match=f"x must be True or False, got {re.escape(repr(value))}"):
            truth("x", value)


def test_whole_numbers():
    assert (whole_number("x", np.uint8(3), 0), type(whole_number("x", np.uint8(3), 0))) == (3, int)
    assert schedules.Cosine(np.int32(3)) == schedules.Cosine(3)
    for value in (10.0, np.float64(10), True, np.True_):
        with pytest.raises(TypeError, match="x must be a whole number, got"):
            whole_number("x", value, 0)
    with pytest.raises(ValueError, match="x must be at least 0, got -10"):
        whole_number("x", -10, 0)
    assert Network([3, 2], seed=2**100).theta.any() and Trainer(Network([3, 2]), batch_size=10**400, seed=10**400)
    for make in (lambda: Network([3, 2]).workspace(10**400), lambda: Trainer(Network([3, 2]), threads=10**400),
                 lambda: find_eta(Trainer(Network([3, 2])), X, Y, steps=10**400)):
        with pytest.raises(ValueError, match=r"^[a-z]+ must be at most \d+, got \d+\.\.\.\d+$"):
            make()


def test_a_share_may_be_any_real_number():
    shares = [Trainer(Network([3, 2]), dropout=np.float32(0.5)).dropout, Trainer(Network([3, 2]), dropout=0).dropout]
    assert shares == [(0.0,), (0.0,)] and Trainer(Network([3, 4, 2]), dropout=np.float16(0.5)).dropout == (0.0, 0.5)
    history = Trainer(Network([3, 2])).fit(X, Y, 1, validation_fraction=np.float32(0.5))
    assert history.samples == [20]


# Names.


@pytest.mark.parametrize("valid", [OPTIMIZERS, losses.LOSSES, activations.CODES, INITIALIZERS, schedules.SCHEDULES])
def test_capitals_and_underscores_do_not_count(valid):
    for name in valid:
        for other in (name, name.upper(), name.title(), name.replace("_", ""), name.replace("_", "-"), f" {name}"):
            assert one_of("name", other, valid) == name
    for aliases in (losses.ALIASES, activations.ALIASES):
        assert all(alias == re.sub("[^a-z0-9]", "", alias) for alias in aliases)


def test_names_that_people_type_first():
    net = Network([3, 4, 2], "ReLU", "linear", weights="glorot")
    assert net.activations == ("relu", "identity")
    assert (net.theta == Network([3, 4, 2], "relu", "identity", weights="glorot_uniform").theta).all()
    trainer = Trainer(net, "mse", "Adam", schedule="OneCycle")
    assert (trainer.loss, trainer.optimizer) == (losses.Quadratic(), Adam())
    assert trainer.schedule == schedules.SCHEDULES["one_cycle"]
    assert Trainer(net, schedule="linear").schedule == schedules.SCHEDULES["linear"]
    assert Network([3, 2, 2, 1], ["Tanh", "swish"], "logistic").activations == ("tanh", "silu", "sigmoid")
    for name, loss in {"MSE": "quadratic", "mean_squared_error": "quadratic", "mae": "mean_absolute",
                       "Huber": "huber"}.items():
        assert Trainer(net, name).loss.name == loss
    for name in ("xavier_uniform", "he", "kaiming_normal", "Kaiming_Uniform", "zero"):
        assert Network([3, 2], weights=name).n_parameters == 8
    assert [metric.name for metric in as_metrics(["Accuracy", "R2_score", "mean_absolute_error"])] == [
        "accuracy", "r2", "mae"]


def test_log_loss_is_what_matches_the_output():
    labels, several = Network([3, 2]), Network([3, 2], output="sigmoid")
    for name in ("log_loss", "LogLoss", "log-loss"):
        assert Trainer(labels, name).loss == losses.CrossEntropy()
        assert Trainer(several, name).loss == losses.BinaryCrossEntropy()
    for name in ("crossentropy", "categorical_crossentropy", "sparse_categorical_crossentropy", "CrossEntropyLoss"):
        assert Trainer(labels, name).loss == losses.CrossEntropy()
    assert Trainer(several, "bce").loss == Trainer(several, "BCELoss").loss == losses.BinaryCrossEntropy()
    with pytest.raises(ValueError, match="loss binary_cross_entropy needs sigmoid outputs, the network has softmax"):
        Trainer(labels, "bce")


@pytest.mark.parametrize(("make", "message"), [
    (lambda: Trainer(Network([3, 2]), optimizer="adm"), "unknown optimizer 'adm'; did you mean 'adam'? valid: sgd, "),
    (lambda: Trainer(Network([3, 2]), "adam"), "'adam' is an optimizer, but the second argument is the loss; "),
    (lambda: Trainer(Network([3, 2]), SGD(0.1)), "pass it by keyword: Trainer(net, optimizer=SGD("),
    (lambda: Network([3, 2], output="softmx"), "unknown output activation 'softmx'; did you mean 'softmax'? valid: "),
    (lambda: Trainer(Network([3, 2]), "mean_squared_err"), "unknown loss 'mean_squared_err'; did you mean 'quadratic'"),
    (lambda: Network([3, 2], weights="gauss"), "unknown weights 'gauss'; valid: lecun_normal, "),
    (lambda: Network([3, 2], output=None), "unknown output activation None; valid: identity, "),
    (lambda: losses.Custom(len, outputs="leaky"), "unknown output activation 'leaky'; "),
    (lambda: losses.Custom(len, outputs=["relu", "rely"]), "unknown output activation 'rely'; did you mean 'relu'? "),
])
def test_an_unknown_name(make, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        make()


def test_outputs_of_a_loss_of_ones_own():
    for outputs in ("leaky_relu", "LeakyReLU", ["leaky_relu"], ("leaky_relu",), iter(["leaky_relu"])):
        assert losses.Custom(len, outputs=outputs).outputs == ("leaky_relu",)
    assert losses.Custom(len).outputs == () and pickle.loads(pickle.dumps(losses.Custom(len, "tanh"))).outputs == (
        "tanh",)
    with pytest.raises(TypeError, match="outputs must be the name of an output activation or a sequence of them, "):
        losses.Custom(len, outputs=3)


# Keywords.


@pytest.mark.parametrize("kind", OPTIMIZERS.values())
def test_the_learning_rate_of_other_libraries(kind):
    assert kind(lr=0.25) == kind(learning_rate=0.25) == kind(0.25) == kind(eta=0.25)
    assert dataclasses.replace(kind(lr=0.25), eta=0.5) == pickle.loads(pickle.dumps(kind(learning_rate=0.5)))
    assert list(inspect.signature(kind).parameters)[0] == "eta" and "lr" not in inspect.signature(kind).parameters
    for make in (lambda: kind(0.1, lr=0.1), lambda: kind(eta=0.1, lr=0.1), lambda: kind(lr=0.1, learning_rate=0.1)):
        with pytest.raises(TypeError, match=rf"^{kind.__name__}\(\) got eta twice, once as (lr|learning_rate); "):
            make()


@pytest.mark.parametrize(("make", "message"), [
    (lambda: SGD(momentun=0.9), r"SGD\(\) got an unexpected keyword argument 'momentun'; did you mean 'momentum'\?"),
    (lambda: AdamW(gamma=1), r"AdamW\(\) got an unexpected keyword argument 'gamma'; valid: eta, .*, l1$"),
    (lambda: Lion(learn_rate=1), r"did you mean 'eta'\?"),
    (lambda: Trainer(Network([3, 2]), lr=0.1), r"'lr': eta belongs to the optimizer: Trainer\(net, optimizer=SGD\("),
    (lambda: Trainer(Network([3, 2]), learning_rate=0.1), "eta belongs to the optimizer"),
    (lambda: Trainer(Network([3, 2]), eta=0.1), "eta belongs to the optimizer"),
    (lambda: Trainer(Network([3, 2]), epochs=5), r"'epochs': it belongs to fit: Trainer\(net\).fit\(X, y, ...\)"),
    (lambda: Trainer(Network([3, 2]), validation_data=(X, Y)), "'validation_data': it belongs to fit"),
    (lambda: Network([3, 2], activation="relu"), r"Network\(\) got .* 'activation': there are hidden=... and output="),
    (lambda: Network([3, 2], weight="he"), r"did you mean 'weights'\?"),
    (lambda: Trainer(Network([3, 2]), optimiser="adam"), r"did you mean 'optimizer'\?"),
    (lambda: Trainer(Network([3, 2])).fit(X, Y, batch_size=5), r"'batch_size': it belongs to the trainer: Trainer"),
    (lambda: Trainer(Network([3, 2])).fit(X, Y, n_epochs=5), r"Trainer.fit\(\) got .* did you mean 'epochs'\?"),
    (lambda: Trainer(Network([3, 2])).fit(X, Y, validation_split=0.5, validation_fraction=0.5),
     r"Trainer.fit\(\) got validation_fraction twice, once as validation_split"),
])
def test_a_keyword_that_is_not_known(make, message):
    with pytest.raises(TypeError, match=message):
        make()


def test_keywords_of_fit_in_other_libraries(capsys):
    trained = [Trainer(Network([3, 2])).fit(X, Y, 2, **{name: 0.5}).validation_loss
               for name in ("validation_split", "validation_fraction")]
    assert trained[0] == trained[1] and len(trained[0]) == 2
    for verbose in (0, False, np.int64(0)):
        Trainer(Network([3, 2])).fit(X, Y, verbose=verbose)
    Trainer(Network([3, 2])).fit(X, Y, verbose="auto")  # standard error is no terminal here
    assert "step" not in capsys.readouterr().err
    for verbose in (1, True, 2):
        Trainer(Network([3, 2])).fit(X, Y, verbose=verbose)
        assert "step" in capsys.readouterr().err
    with pytest.raises(ValueError, match="unknown verbose 'full'; valid: auto"):
        Trainer(Network([3, 2])).fit(X, Y, verbose="full")


def test_a_function_keeps_its_face():
    @known_as(lr="eta")
    def step(theta, eta=0.1, *, decay=0.0):
        """A step."""
        return theta, eta, decay

    assert step(1, lr=2) == (1, 2, 0.0) and step.__doc__ == "A step." and step.__name__ == "step"
    assert list(inspect.signature(step).parameters) == ["theta", "eta", "decay"]


def test_the_command_takes_the_same_names():
    parser = argparse.ArgumentParser()
    options.add(parser)
    given = vars(parser.parse_args(["data", "--activation", "Tanh,Swish", "--hidden", "4,5", "--weights", "Xavier",
                                    "--loss", "CrossEntropy", "--optimizer", "Adam:lr=0.5", "--schedule", "OneCycle",
                                    "--metrics", "F1_score,acc"]))
    network, trainer = options.network_and_trainer(given, data.Dataset(X, Y, None, None))
    assert network.activations == ("tanh", "silu", "softmax") and given["weights"] == "glorot_uniform"
    assert (trainer.loss, trainer.optimizer) == (losses.CrossEntropy(), Adam(0.5))
    assert trainer.schedule == schedules.SCHEDULES["one_cycle"] and given["metrics"] == ["f1", "accuracy"]
