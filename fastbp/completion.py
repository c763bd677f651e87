"""`fastbp --print-completion SHELL`: a script that lets the shell complete the command's options and names.

Only this option imports shtab, and the script starts no Python.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from typing import Any, NoReturn

from fastbp.initialization import INITIALIZERS
from fastbp.losses import LOSSES
from fastbp.metrics import METRICS
from fastbp.network import HIDDEN_ACTIVATIONS
from fastbp.optimizers import OPTIMIZERS
from fastbp.schedules import SCHEDULES

# Names that an option takes; it also takes others with settings, such as adam:beta2=0.99.
NAMES: dict[str, Iterable[str]] = {
    "--activation": HIDDEN_ACTIVATIONS, "--loss": LOSSES, "--metrics": METRICS, "--optimizer": OPTIMIZERS,
    "--schedule": SCHEDULES, "--weights": INITIALIZERS}
FILES, FOLDERS = ("FILE", "FILE.csv", "MODEL", "DATA"), ("DIR",)  # as help calls them


class Print(argparse.Action):
    """The option: print the script for a shell and exit."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any,
                 option_string: str | None = None) -> NoReturn:
        try:
            import shtab
        except ImportError:
            raise ImportError('completion needs shtab: pip install "fastbp[completion]"') from None
        if values not in shtab.SUPPORTED_SHELLS:
            raise argparse.ArgumentError(self, f"unknown shell {values!r}; valid: {', '.join(shtab.SUPPORTED_SHELLS)}")
        for action in _actions(parser):
            names = next((NAMES[option] for option in action.option_strings if option in NAMES), None)
            if names is not None:
                action.choices = list(names)  # this parser is not used for parsing any more
            elif action.metavar in FILES + FOLDERS:
                action.complete = shtab.FILE if action.metavar in FILES else shtab.DIRECTORY  # type: ignore[attr-defined]
        print(shtab.complete(parser, values))
        parser.exit()


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Return the actions of a parser and of the parsers of its commands."""
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                yield from _actions(inner)
