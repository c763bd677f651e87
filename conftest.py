"""Every code block of README.md and of docs/ runs as a test, page by page, and prints what the page says.

Blocks of Python run in order, each page in an empty folder and with names of its own. In a console block, each line
after "$ " is a command, and the lines below it are its output, in which "..." stands for anything.
"""

import doctest
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from sklearn.datasets import load_iris
from sybil import Sybil
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser

FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE

# Pages that need more than the tests have: `make test-interop` runs them.
PARTNERS = {"docs/guide/clusters.md": ("distributed", "mpi4py", "optuna"),
            "docs/guide/onnx.md": ("onnx", "onnxruntime", "skl2onnx"), "docs/guide/torch.md": ("torch",)}
LEFT_OUT = [page for page, packages in PARTNERS.items() if not all(map(importlib.util.find_spec, packages))]


def begin(names):
    """An empty folder with the table of the README, Fisher's irises."""
    names["_back"], names["_folder"] = os.getcwd(), tempfile.mkdtemp()
    os.chdir(names["_folder"])
    irises = load_iris(as_frame=True)
    table = irises.data.rename(columns=lambda name: name.removesuffix(" (cm)").replace(" ", "_"))
    table.assign(species=irises.target_names[irises.target]).to_csv("flowers.csv", index=False)
    table.iloc[::30].to_csv("new.csv", index=False)


def end(names):
    os.chdir(names["_back"])
    shutil.rmtree(names["_folder"])


def run_console(example):
    """Returns what is wrong with the commands of a block, if anything is."""
    commands = example.parsed.split("$ ")[1:] if example.parsed.startswith("$ ") else []
    if not commands:
        return "a console block begins with a command, after '$ '"
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    for text in commands:
        command, _, expected = text.partition("\n")
        done = subprocess.run(command, shell=True, capture_output=True, text=True, env={**os.environ, "PATH": path})
        if done.returncode:
            return f"{command} exits with {done.returncode}: {done.stderr}"
        if expected and not doctest.OutputChecker().check_output(expected, done.stdout, FLAGS):
            return f"{command} prints\n{done.stdout}\nexpected\n{expected}"
    return None


pytest_collect_file = Sybil(
    parsers=[PythonCodeBlockParser(doctest_optionflags=FLAGS), CodeBlockParser("console", run_console)],
    patterns=["README.md", "docs/*.md", "docs/**/*.md"], excludes=LEFT_OUT, setup=begin, teardown=end).pytest()
