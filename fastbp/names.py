"""Names of features, classes and targets: learned from the first data that have them, then required of all others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from fastbp.checks import counted, shown
from fastbp.core import activations
from fastbp.frames import Frame, is_frame

Array = npt.NDArray[Any]
LISTED = 6  # largest number of names in a message


class Named(Protocol):
    """The attributes of a network that hold the names of its features, classes and targets."""

    layer_sizes: tuple[int, ...]
    activations: tuple[str, ...]

    @property
    def feature_names(self) -> tuple[str, ...] | None: ...

    @feature_names.setter
    def feature_names(self, names: Iterable[str] | None) -> None: ...

    @property
    def classes(self) -> Array | None: ...

    @classes.setter
    def classes(self, names: Iterable[str] | None) -> None: ...

    @property
    def target_names(self) -> tuple[str, ...] | None: ...

    @target_names.setter
    def target_names(self, names: Iterable[str] | None) -> None: ...


class Names:
    """The names that a network has; if `learning`, missing ones are taken from the first data that have names."""

    def __init__(self, network: Named, learning: bool = False):
        self.feature_names, self.classes = network.feature_names, network.classes
        self.target_names = network.target_names
        self.learning = learning
        self.known = [name for name in ("feature_names", "classes", "target_names") if getattr(self, name) is not None]

    def order(self, frame: Frame, name: str) -> list[int] | None:
        """Return the position of each feature in a frame; None: columns are in order."""
        given, places = _labels(frame, self.feature_names, name)
        if given is None:
            return places
        if self.feature_names is None:
            self.feature_names = given if self.learning else None
            return None
        advice = self._advice("feature_names")
        return _places(self.feature_names, given, name, "that the network was not trained on" + advice, advice)

    def order_of_targets(self, frame: Frame, network: Named, name: str) -> list[int] | None:
        """Return the position of each class or output in a frame of targets; None: columns are in order."""
        if classifies(network.activations[-1]):
            return self._order_of_classes(frame, name)
        given, places = _labels(frame, self.target_names, name)
        if given is None:
            return places
        if self.target_names is None:
            self.target_names = given if self.learning else None
            return None
        advice = self._advice("target_names")
        return _places(self.target_names, given, name, "that the training targets lack" + advice, advice)

    def _order_of_classes(self, frame: Frame, name: str) -> list[int] | None:
        known = None if self.classes is None else tuple(map(str, self.classes))
        given, places = _labels(frame, known, name)
        if given is None:
            return places
        if known is None:
            self.classes = np.array(given, str) if self.learning else None
            return None
        own = name.split()[-1]
        return _places(known, given, name, "that is none of the network's classes" + self._advice("classes"),
                       f"; in pandas {own}.reindex(columns=network.classes, fill_value=0) adds columns of zeros")

    def _advice(self, what: str) -> str:
        """Return how to train a network on data with other names, if it had names before these data."""
        return f"; network.{what} = None lets it train on others" if self.learning and what in self.known else ""

    def numbers(self, words: Array, network: Named, name: str) -> Array:
        """Return the index of each name's class (n,)."""
        if self.classes is None:
            self._learn_classes(words, network, name)
        assert self.classes is not None
        order = np.argsort(self.classes)
        places = order[np.minimum(np.searchsorted(self.classes, words, sorter=order), len(order) - 1)]
        known = self.classes[places] == words
        if not known.all():
            unknown = str(words[int(np.argmin(known))])
            raise ValueError(f"{name} has {unknown!r}, which is none of the network's classes: {listed(self.classes)}")
        return np.asarray(places, np.int64)

    def _learn_classes(self, words: Array, network: Named, name: str) -> None:
        n_out, output = network.layer_sizes[-1], network.activations[-1]
        if not classifies(output):
            raise TypeError(f"{name} holds text, such as {str(words[0])!r}, and {output} outputs take values: make it "
                            f"numbers, e.g. numpy.array({name.split()[-1]}, dtype=float); or, for names of classes, "
                            "make the output softmax or sigmoid")
        if not self.learning:
            raise ValueError(f"{name} holds text, such as {str(words[0])!r}, but the network has no names of "
                             "classes: train it on names, or set network.classes")
        found = np.unique(words)
        if len(found) != n_classes(n_out):
            ways = [f"make it Network([..., {len(found)}])"] if len(found) > 1 else []
            if len(found) < n_classes(n_out):
                ways.append("set network.classes = [...] to all names, also those that are not in these data")
            raise ValueError(f"{name} has {len(found)} class{'' if len(found) == 1 else 'es'} ({listed(found)}); the "
                             f"network has {counted(n_out, 'output')}, for {n_classes(n_out)} classes: "
                             f"{'; or '.join(ways)}")
        self.classes = found

    def teach(self, network: Named) -> None:
        """Store these names in the network."""
        if network.feature_names is not self.feature_names:
            network.feature_names = self.feature_names
            self.feature_names = network.feature_names
        if network.classes is not self.classes:
            network.classes = self.classes
            self.classes = network.classes
        if network.target_names is not self.target_names:
            network.target_names = self.target_names
            self.target_names = network.target_names

    def check_no_numbers(self, labels: Array, name: str) -> None:
        """Raise ValueError if classes have names: numeric labels may mean another order."""
        if self.classes is not None:
            own = name.split()[-1]
            how = f"network.classes[{own}]"
            if set(map(str, np.unique(labels))) <= set(map(str, self.classes)):  # their names are numbers
                how = f"numpy.array({own}).astype(str)"
            raise ValueError(f"{name} holds numbers, but the network's classes have names ({listed(self.classes)}): "
                             f"give those, e.g. {how}, or set network.classes = None")

    def weights(self, class_weight: Mapping[Any, Any]) -> Mapping[Any, Any]:
        """Return weights of classes by index, from a mapping that may use their names."""
        if self.classes is None:
            return class_weight
        places = {str(one): i for i, one in enumerate(self.classes)}
        for label in class_weight:
            if not (isinstance(label, str) and label in places):
                raise ValueError(f"class_weight has {label!r}, which is none of the network's classes: "
                                 f"{listed(self.classes)}")
        return {places[label]: weight for label, weight in class_weight.items()}


def _labels(frame: Frame, known: Sequence[str] | None, name: str) -> tuple[tuple[str, ...] | None, list[int] | None]:
    """Return the names of a frame's columns and None; or, if they are the numbers 0, 1, ..., None and their positions,
    or None for the positions if the numbers are in order.

    pandas numbers the columns of an array without names, and classes without names are numbers. Read from a file, the
    numbers may be strings.
    """
    if known is None and frame.labels == tuple(range(len(frame.labels))):  # the usual case, in a tenth of the time
        return None, None
    names, places = frame.names(name), frame.places
    if places is None or not names or set(known or ()) == set(names):
        return names or None, None
    return None, None if places == list(range(len(places))) else places


def _places(known: tuple[str, ...], given: tuple[str, ...], name: str, of_more: str, advice: str) -> list[int] | None:
    """Return the position of each `known` column in `given`, None if in order; raise ValueError if the names differ.

    Blanks around names are ignored: some readers of tables keep them."""
    if given == known:
        return None
    bare, bare_known = ([one.strip() for one in names] for names in (given, known))
    if set(given) != set(known) and sorted(bare) == sorted(bare_known) and len(set(bare)) == len(bare):
        return [bare.index(one) for one in bare_known]
    lacks = [one for one in known if one not in given]
    more = [one for one in given if one not in known]
    if more:
        lacking = f"lacks column{'s' * (len(lacks) > 1)} {listed(lacks)} and " if lacks else ""
        raise ValueError(f"{name} {lacking}has column{'s' * (len(more) > 1)} {listed(more)} {of_more}")
    if lacks:
        raise ValueError(f"{name} lacks column{'s' * (len(lacks) > 1)} {listed(lacks)}{advice}")
    places = {one: j for j, one in enumerate(given)}
    return [places[one] for one in known]


def order_beside(one: Any, name: str, other: Any, other_name: str) -> list[int] | None:
    """Return the position in one frame of each column of another; None: they are in order, or one of the two is not a
    frame of several named columns."""
    if not (is_frame(one) and is_frame(other)):
        return None
    own, frame = Frame(one), Frame(other)
    if min(len(own.labels), len(frame.labels)) < 2:
        return None
    known = frame.names(other_name)
    given, places = _labels(own, known, name)
    if given is None:
        return places
    if frame.places is not None and set(given) != set(known):
        return None
    return _places(known, given, name, f"that {other_name} lacks", "")


def names_and_order(frame: Frame, known: tuple[str, ...] | None, name: str
                    ) -> tuple[tuple[str, ...] | None, list[int] | None]:
    """Return the names of a frame's columns, if they are more than numbers, and the position of each known column;
    None for the positions: they are in order, or nothing is known."""
    given, places = _labels(frame, known, name)
    if given is None:
        return None, places
    return given, None if known is None else _places(known, given, name, "that fit did not have", "")


def classifies(output: str) -> bool:
    """Whether outputs of this activation are read as classes."""
    return activations.CODES[output] in (activations.SIGMOID, activations.SOFTMAX)


def n_classes(n_out: int) -> int:
    """Return how many classes this many outputs distinguish."""
    return max(n_out, 2)


def listed(names: Sequence[Any] | Array) -> str:
    """Return the first names, for a message."""
    texts = [repr(str(name)) for name in names[:LISTED]]
    return ", ".join(texts) + (f" and {len(names) - LISTED} more" if len(names) > LISTED else "")


def as_feature_names(names: Iterable[str] | None, n_features: int) -> tuple[str, ...] | None:
    """Return distinct strings, one per feature, or None; otherwise raise TypeError or ValueError."""
    return None if names is None else tuple(_distinct("feature_names", names, n_features, f"{n_features} features"))


def as_target_names(names: Iterable[str] | None, n_out: int, output: str) -> tuple[str, ...] | None:
    """Return distinct strings, one per output, if outputs are values, or None; else raise TypeError or ValueError."""
    if names is None:
        return None
    if classifies(output):
        raise ValueError(f"{output} outputs have classes: set network.classes, not target_names")
    return tuple(_distinct("target_names", names, n_out, counted(n_out, "output")))


def as_classes(names: Iterable[str] | None, n_out: int, output: str) -> Array | None:
    """Return an array of distinct strings, one per class, or None; otherwise raise TypeError or ValueError."""
    if names is None:
        return None
    if not classifies(output):
        raise ValueError(f"classes need a softmax or sigmoid output, the network has {output}")
    outputs = counted(n_out, "output")
    classes = np.array(_distinct("classes", names, n_classes(n_out), outputs), str)
    classes.flags.writeable = False  # a change in place would bypass these checks
    return classes


def _distinct(what: str, names: Iterable[str], n: int, of: str) -> list[str]:
    given = list(names) if isinstance(names, Iterable) and not isinstance(names, (str, bytes)) else None
    if given is None or not all(isinstance(one, str) for one in given):
        raise TypeError(f"{what} must be None or a sequence of strings, got {shown(names)}")
    if len(given) != n or len(set(given)) != n:
        raise ValueError(f"{what} must be {n} different strings for {of}, got {len(given)}: {listed(given)}")
    return [str(one) for one in given]
