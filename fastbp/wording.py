"""Rewrites messages of the library for users of the command: with its options, and without Python code."""

from __future__ import annotations

import re

from fastbp.training.notes import ASK

# Words of messages, and those of the command. Clauses with Python code that are not in this table: removed by `CODE`.
WORDS = [(re.compile(pattern), ours) for pattern, ours in (
    # Data and targets
    (r"^y (?=has|holds|must)", "the target "), (r"^class_weight needs labels, y holds values",
                                                 "--class-weight needs classes, the targets are values"),
    (r"; classes, y = numpy\.unique\(.*\) numbers them from 0, and names \(text\) are taken too", ""),
    (r": train it on names, or set network\.classes", ": it was trained on labels"),
    (r": make it numbers, e\.g\. numpy\..*", ""), (r": give those, e\.g\. network\..*", ""),
    (r"set network\.input_scale = 1 / 255 and save it again", "train it again with --input-scale 1/255"),
    # Settings
    (r"EarlyStopping \((.*?)\)", r"--early-stopping (\1)"), (r"\bSWA \(", "--swa ("),
    (r"Trainer\(ema=([^)]*)\)", r"--ema \1"), (r", or EarlyStopping\(restore_best=False\), which only stops", ""),
    (r"metrics need validation_data or validation_fraction", "--metrics needs test samples or --validation-fraction"),
    (r"\(resume\)", "(--resume)"), (r"'None'", "'none'"),
    (r"must be True or False", "must be true or false"), (r"got True\b", "got true"), (r"got False\b", "got false"),
    (r"^hidden names", "--activation names"), (r"^predict_proba needs", "--proba needs"),
    (r"^Python int too large to convert to C \w+", "a number among the options is too large"),
    # Advice
    (r"make the network with Network\(\.\.\., input_scale=1/255\), or in the command give", "give"),
    (r"set the network's input_scale=1/255", "give --input-scale 1/255"),
    (r"standardise them, X = .*? all data",
     "standardise them: subtract from each column its mean, and divide it by its standard deviation; the same two for "
     "all data"),
    (r"train on \(y - y\.mean\(0\)\) / y\.std\(0\), and turn predictions back",
     "subtract their mean, divide them by their standard deviation, and turn predictions back"),
    (r'look at metrics=\["f1"\], and try fit\(\.\.\., class_weight="balanced"\)',
     "look at --metrics f1, and try --class-weight balanced"),
    (r'hidden="leaky_relu"', "--activation leaky_relu"), (r"see find_eta", "see fastbp find-eta"),
    (r"\bema=([0-9.e-]+) is", r"--ema \1 is"), (r"a smaller eta\b", "a smaller --eta"),
)]
# File names may look like attributes: network.safetensors.
PYTHON = (r"(?:\b(?:numpy|pandas|fastbp)\.\w+\(|\bnetwork\.(?:classes|feature_names|input_scale)\b|\bNetwork\(|"
          r"\bTrainer\(|\bfit\(|\.astype\()")
CODE = re.compile(rf"(?:[;:,] (?:or |and |e\.g\. )*)[^;:,]*?{PYTHON}[^;:]*")


def of_command(text: str) -> str:
    """Return a message on one line, in the command's words.

    Examples
    --------
    >>> of_command("y holds text, such as 'a': give numbers, e.g. numpy.unique(y, return_inverse=True)[1]")
    "the target holds text, such as 'a': give numbers"
    """
    text = " ".join(text.split()).removesuffix(ASK)
    for pattern, ours in WORDS:
        text = pattern.sub(ours, text)
    return CODE.sub("", text)
