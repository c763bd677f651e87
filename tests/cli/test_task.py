"""What targets mean to the command: classes, values, or a question."""

import numpy as np
import pytest

from fastbp.data import Dataset
from fastbp.task import CLASSES, VALUES, as_named, class_names, meaning, n_outputs, named

LABELS = np.arange(60) % 3
NAMES = np.array(["a", "b", "c"])[LABELS]
FRACTIONS = np.linspace(0, 1, 60)
MEANINGS = {
    # Without a word
    "integers": (LABELS, None, None, CLASSES, 3), "bytes": (LABELS.astype(np.uint8), None, None, CLASSES, 3),
    "truth values": (LABELS > 0, None, None, CLASSES, 2), "all true": (LABELS >= 0, None, None, CLASSES, 2),
    "texts": (NAMES, None, None, CLASSES, 3), "two texts": (NAMES[:2], None, None, CLASSES, 2),
    "fractions": (FRACTIONS, None, None, VALUES, 1), "float16": (FRACTIONS.astype("f2"), None, None, VALUES, 1),
    "rows": (np.eye(3)[LABELS], None, None, VALUES, 3), "integer rows": (np.eye(3, dtype=int), None, None, VALUES, 3),
    "whole floats": (np.arange(500.0), None, None, VALUES, 1), "few samples": (np.arange(3.0), None, None, VALUES, 1),
    "a label that lacks": (LABELS * 2 // 2 + (LABELS > 1), None, None, CLASSES, 3),
    "from 1": (LABELS + 1, None, None, CLASSES, 3), "-1 and 1": (2 * (LABELS > 0) - 1, None, None, CLASSES, 2),
    "NaN": (np.array([0, 1, np.nan, 1]), None, None, VALUES, 1),
    # By the loss
    "poisson": (LABELS, "poisson", None, VALUES, 1), "quadratic": (LABELS, "quadratic", None, VALUES, 1),
    "huber": (LABELS, "huber", None, VALUES, 1), "mean_absolute": (LABELS, "mean_absolute", None, VALUES, 1),
    "cross_entropy": (LABELS.astype(float), "cross_entropy", None, CLASSES, 3),
    "binary": (LABELS, "binary_cross_entropy", None, CLASSES, 3),
    "shares": (FRACTIONS, "binary_cross_entropy", None, CLASSES, 1),
    "rows of shares": (np.eye(3)[LABELS], "cross_entropy", None, CLASSES, 3),
    "texts with quadratic": (NAMES, "quadratic", None, CLASSES, 3),
    # By the user
    "said classes": (LABELS.astype(float), None, CLASSES, CLASSES, 3),
    "said values": (LABELS, None, VALUES, VALUES, 1), "said classes, huber": (LABELS, "huber", CLASSES, CLASSES, 3),
    "said values of floats": (LABELS.astype(float), None, VALUES, VALUES, 1),
    "said classes of prices": (np.array([7, 250, 3]), None, CLASSES, CLASSES, 3),
    "said classes of any numbers": (np.array([-7, 2**60, 3]), None, CLASSES, CLASSES, 3),
}  # fmt: skip


@pytest.mark.parametrize("case", MEANINGS)
def test_meaning(case):
    y, loss, task, expected, n_out = MEANINGS[case]
    assert meaning(y, loss, task) == expected
    assert n_outputs(Dataset(np.zeros((len(y), 2)), y, None, None), expected, loss) == n_out


QUESTIONS = {
    "degrees": (np.arange(-20, 31), "integers from -20 to 30"),
    "floats": (np.array([0.0, 1, 2] * 4), r"stored as floats, 3 different ones \(0, 1, 2\)"),
    "two": (np.array([-1.0, 1] * 2), r"stored as floats, 2 different ones \(-1, 1\)"),
    "a hundred": (np.arange(500.0) % 100, r"stored as floats, 100 different ones \(0, 1, 2, ...\)"),
    "prices": (np.array([250_000, 1, 2, 3, 4]), r"integers up to 250,000, but only 5 different ones \(1, 2, 3, ...\)"),
    "years": (1990 + np.arange(30), r"integers up to 2,019, but only 30 different ones \(1990, 1991, 1992, ...\)"),
    "unsigned": (np.array([0, 2**64 - 1], np.uint64), r"up to 18,446,744,073,709,551,615, .* 2 different ones .*"),
}


@pytest.mark.parametrize("case", QUESTIONS)
def test_questions(case):
    y, found = QUESTIONS[case]
    with pytest.raises(ValueError, match=f"the targets are .*{found}: give --task classes or --task v"):
        meaning(y)


@pytest.mark.parametrize(("y", "loss", "task", "message"), [
    (NAMES, None, VALUES, "the targets are text"), (LABELS, "cross_entropy", VALUES, "--loss cross_entropy is for cla"),
    (LABELS, "poisson", CLASSES, "--loss poisson is for values; the targets are classes, as --task says"),
    (NAMES, "poisson", None, "--loss poisson is for values; the targets are classes$"),
])
def test_contradictions(y, loss, task, message):
    with pytest.raises(ValueError, match=message):
        meaning(y, loss, task)


def test_labels_of_the_test_samples():
    """They count; names must be those of the training samples."""
    x = np.zeros((2, 2))
    assert n_outputs(Dataset(x, np.array([0, 1]), x, np.array([0, 2])), CLASSES) == 3
    assert class_names(Dataset(x, np.array([0, 1]), x, np.array([0, 4])), CLASSES) == ["0", "1", "4"]
    with pytest.raises(ValueError, match="the test samples have the class c, which no training sample has"):
        n_outputs(Dataset(x, NAMES[:2], x, NAMES[1:3]), CLASSES)
    with pytest.raises(ValueError, match=r"classes need whole numbers or text as targets, but one is 0\.5"):
        n_outputs(Dataset(x, np.array([0, 0.5]), None, None), CLASSES)


@pytest.mark.parametrize(("labels", "names"), [
    ([0, 1, 2], None), ([1, 2, 10], ["1", "2", "10"]), ([0, 2, 0], ["0", "2"]), ([-1, 1, 1], ["-1", "1"]),
    ([1.0, 2.0, 2.0], ["1", "2"]), ([True, False, True], None), ([3, 3, 2**63 - 1], ["3", "9223372036854775807"]),
])  # fmt: skip
def test_integers_that_do_not_count_from_0_are_names(labels, names):
    """In the order of their numbers, for the training and for the test samples."""
    y, x = np.array(labels), np.zeros((3, 2))
    dataset = Dataset(x, y, x[:1], y[:1])
    dataset.features = ("a", "b")
    assert class_names(dataset, CLASSES) == names
    made = named(dataset, None if names is None else np.array(names))
    expected = labels if names is None else [str(int(label)) for label in labels]
    assert (made.y_train.tolist(), made.y_test.tolist(), made.features) == (expected, expected[:1], ("a", "b"))


def test_values_and_one_class_have_no_names():
    x = np.zeros((3, 2))
    assert class_names(Dataset(x, np.array([1, 2, 3]), None, None), VALUES) is None
    assert class_names(Dataset(x, np.eye(3), None, None), CLASSES) is None
    assert as_named(FRACTIONS, NAMES) is FRACTIONS
    with pytest.raises(ValueError, match="the targets have only one class, 7; classification needs at least two"):
        class_names(Dataset(x, np.array([7, 7, 7]), None, None), CLASSES)
