"""What targets mean to the command: classes, values, or a question."""

import numpy as np
import pytest

from fastbp.data import Dataset
from fastbp.task import CLASSES, VALUES, meaning, n_outputs

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
    "a label that lacks": (LABELS * 2 // 2 + (LABELS > 1), None, None, CLASSES, 4),
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
    "said classes of prices": (np.array([7, 250, 3]), None, CLASSES, CLASSES, 251),
}  # fmt: skip


@pytest.mark.parametrize("case", MEANINGS)
def test_meaning(case):
    y, loss, task, expected, n_out = MEANINGS[case]
    assert meaning(y, loss, task) == expected
    assert n_outputs(Dataset(np.zeros((len(y), 2)), y, None, None), expected, loss) == n_out


QUESTIONS = {
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
    with pytest.raises(ValueError, match=f"the targets are .*{found}: say what they are by --task classes or --task v"):
        meaning(y)


@pytest.mark.parametrize(("y", "loss", "task", "message"), [
    (NAMES, None, VALUES, "the targets are texts"), (LABELS, "cross_entropy", VALUES, "--loss cross_entropy is of cla"),
    (LABELS, "poisson", CLASSES, "--loss poisson is of values; the targets are classes, as --task says"),
    (NAMES, "poisson", None, "--loss poisson is of values; the targets are classes$"),
])
def test_contradictions(y, loss, task, message):
    with pytest.raises(ValueError, match=message):
        meaning(y, loss, task)


def test_labels_of_the_test_samples():
    """They count; names must be those of the training samples."""
    x = np.zeros((2, 2))
    assert n_outputs(Dataset(x, np.array([0, 1]), x, np.array([0, 4])), CLASSES) == 5
    with pytest.raises(ValueError, match="the test samples have the class c, which no training sample has"):
        n_outputs(Dataset(x, NAMES[:2], x, NAMES[1:3]), CLASSES)
    with pytest.raises(ValueError, match=r"classes need whole labels or texts, the targets hold 0\.5"):
        n_outputs(Dataset(x, np.array([0, 0.5]), None, None), CLASSES)
