"""The command's default recipe on MNIST: 98 % on the test images, whatever the seed."""

import statistics

import pytest

from fastbp import SGD, Network, Trainer, data


@pytest.mark.slow
def test_default_recipe_over_ten_seeds():
    x_train, y_train, x_test, y_test = data.mnist()
    accuracies = []
    for seed in range(10):
        net = Network([784, 128, 10], seed=seed)
        trainer = Trainer(net, optimizer=SGD(0.2, 0.9, nesterov=True), batch_size=128, seed=seed, schedule="linear")
        trainer.fit(x_train, y_train, 5)
        accuracies.append(trainer.evaluate(x_test, y_test)[1])
    print(accuracies)
    assert statistics.median(accuracies) >= 0.98
    assert min(accuracies) >= 0.975
