"""Augmentation: settings of random transformations of images, and what they look like."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fastbp.checks import counted, number, settle, shown, whole_number
from fastbp.core.augmentation import augment_rows, fits
from fastbp.plotting import drawn
from fastbp.randomness import DROPOUT, generator

MOST_PIXELS = 1000.0  # of a setting
# Root mean square, over the interval between two knots, of a cubic B-spline of uncorrelated numbers of size 1; for two
# dimensions its square.
OF_SPLINE = math.sqrt(151 / 315)


@dataclass(frozen=True)
class Augmentation:
    """Random transformations of images, for `Trainer(augmentation=...)`: others in each step, in training only.

    Rows of X are images, row by row of pixels. The transformations of an image depend only on the seed, the step and
    its place in the mini-batch, not on the threads. Together they say from which point of the image each pixel comes,
    and its value is interpolated once, between four pixels. A point outside has the value of the nearest pixel.
    Targets stay as they are.

    Parameters
    ----------
    shift : float
        In [0, 1000]: largest shift down, up, right and left, in pixels.
    rotation : float
        In [0, 180]: largest angle, in degrees, in either direction, about the middle of the image.
    scale : float
        In [0, 1): height and width each become up to this share larger or smaller.
    shear : float
        In [0, 90): largest angle, in degrees, by which vertical lines are slanted.
    elastic : float
        In [0, 1000]: root mean square of the elastic displacements down and right, in pixels. sigma 4 and alpha 34 of
        Simard et al. are elastic=1.4.
    smoothness : float
        In [1, 1000]: width of the bumps of the elastic deformation, in pixels: the standard deviation sigma of the
        Gaussian by which Simard et al. smooth random displacements. Here a cubic B-spline of this width takes its
        place, of random displacements on a grid with a knot every √3 sigma pixels.
    shape : (int, int), optional
        Rows and columns of an image; None: it is square.

    Raises
    ------
    ValueError, TypeError
        A setting is out of its range. `Trainer` raises ValueError if its network has inputs of another shape, and
        `fit` if samples are sparse.

    References
    ----------
    Simard, Steinkraus, Platt: Best Practices for Convolutional Neural Networks Applied to Visual Document Analysis
    (ICDAR 2003), section 2.
    Unser: Splines: A Perfect Fit for Signal and Image Processing (IEEE Signal Processing Magazine 1999): B-splines,
    and that they are close to a Gaussian.

    Examples
    --------
    >>> import fastbp
    >>> from fastbp import Network, Trainer
    >>> data = fastbp.data.mnist()
    >>> net = Network([784, 32, 10], seed=0, input_scale=data.input_scale)
    >>> trainer = Trainer(net, augmentation=Augmentation(shift=2, rotation=10))
    >>> history = trainer.fit(data.x_train[:5000], data.y_train[:5000], epochs=3)
    >>> history.loss[-1] < history.loss[0]
    True
    """

    shift: float = 0.0
    rotation: float = 0.0
    scale: float = 0.0
    shear: float = 0.0
    elastic: float = 0.0
    smoothness: float = 4.0
    shape: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        settle(self, "shift", number, 0, MOST_PIXELS)
        settle(self, "rotation", number, 0, 180)
        settle(self, "scale", number, 0, 1, high_open=True)
        settle(self, "shear", number, 0, 90, high_open=True)
        settle(self, "elastic", number, 0, MOST_PIXELS)
        settle(self, "smoothness", number, 1, MOST_PIXELS)
        if self.shape is not None:
            if not (isinstance(self.shape, (tuple, list)) and len(self.shape) == 2):
                raise TypeError(f"shape must be (rows, columns) of an image, got {shown(self.shape)}")
            object.__setattr__(self, "shape", tuple(whole_number("a number of shape", n, 1) for n in self.shape))

    def settings(self, n_in: int) -> npt.NDArray[Any]:
        """Return the vector that compiled code reads, as long as these settings live always the same one.

        Parameters
        ----------
        n_in : int
            Pixels of an image.

        Returns
        -------
        ndarray (numbers,), float64
            See fastbp.core.augmentation.

        Raises
        ------
        ValueError
            The images have another shape, or are too large.

        Examples
        --------
        >>> Augmentation(shift=2).settings(784)[:3]
        array([28., 28.,  2.])
        """
        known = self.__dict__.setdefault("_settings", {})
        if n_in not in known:
            known[n_in] = self._settings_for(*self._shape_of(n_in))
        return known[n_in]  # type: ignore[no-any-return]

    def _shape_of(self, n_in: int) -> tuple[int, int]:
        side = math.isqrt(n_in)
        height, width = self.shape or (side, side)
        if height * width != n_in:
            what = f"shape is {self.shape}" if self.shape else "they are no square"
            raise ValueError(f"augmentation: samples have {counted(n_in, 'number')}, but {what}; give "
                             "Augmentation(shape=(rows, columns)) of an image")
        return height, width

    def _settings_for(self, height: int, width: int) -> npt.NDArray[Any]:
        spacing = self.smoothness * math.sqrt(3)  # the standard deviation of a cubic B-spline is that of 1 / √3 knots
        rows, columns = _spline(height, spacing), _spline(width, spacing)
        grid = [rows.shape[1], columns.shape[1]] if self.elastic else [0, 0]
        if not fits(height, width, *grid):
            raise ValueError(f"augmentation: images of {height} x {width} pixels are too large; up to about 100 x 100 "
                             "are possible")
        columns *= self.elastic * math.sqrt(3) / OF_SPLINE**2  # numbers uniform in (-1, 1) have the size 1 / √3
        angle, slope = math.radians(self.rotation), math.tan(math.radians(self.shear))
        numbers = [height, width, self.shift, angle, self.scale, slope, *grid]
        return np.concatenate([numbers, rows.ravel(), columns.T.ravel()] if self.elastic else [numbers])

    def apply(self, X: npt.ArrayLike, seed: int = 0) -> npt.NDArray[Any]:
        """Return transformed images: those that the first step of a trainer with this seed makes of a mini-batch X.

        Parameters
        ----------
        X : array_like (n, n_in)
            Images, one per row.
        seed : int
            >= 0: that of the trainer.

        Returns
        -------
        ndarray (n, n_in)
            float64 if X is, else float32.

        Raises
        ------
        ValueError, TypeError
            X has another shape or is not finite.

        Examples
        --------
        >>> image = np.zeros((1, 25))
        >>> image[0, 12] = 1
        >>> Augmentation(shift=1).apply(image).reshape(5, 5).round(1)[1:4, 1:4]
        array([[0. , 0. , 0. ],
               [0. , 0.1, 0. ],
               [0. , 0.9, 0. ]])
        """
        given = np.asarray(X)
        rows = np.array(given, np.float64 if given.dtype == np.float64 else np.float32, order="C")
        if rows.ndim != 2:
            raise ValueError(f"X must be images as rows (n, n_in), got shape {rows.shape}")
        if not np.isfinite(rows).all():
            raise ValueError("X has numbers that are not finite")
        key = generator(DROPOUT, whole_number("seed", seed, 0)).integers(1 << 62)
        augment_rows(self.settings(rows.shape[1]), key, 1 << 32, rows)
        return rows

    def plot(self, X: npt.ArrayLike, path: str | os.PathLike[str], seed: int = 0) -> None:
        """Draw each image of X, and nine random versions of it, to a file.

        Parameters
        ----------
        X : array_like (n, n_in)
            Images, one per row of the picture; up to 20.
        path : str or path
            Name of the file: .png, .svg or .pdf.
        seed : int
            >= 0.

        Raises
        ------
        ImportError
            matplotlib is not installed: pip install "fastbp[plot]".
        ValueError, TypeError
            X has another shape or is not finite.
        FileNotFoundError, IsADirectoryError
            The file `path` cannot be written.

        Examples
        --------
        >>> import fastbp, os, tempfile
        >>> digits = fastbp.data.mnist().x_test[:4]
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Augmentation(rotation=10, elastic=1.4).plot(digits, os.path.join(folder, "digits.png"))
        """
        images = np.asarray(X)
        if images.ndim != 2 or not 1 <= len(images) <= 20:
            raise ValueError(f"X must be 1 to 20 images as rows (n, n_in), got shape {images.shape}")
        made = np.stack([images, *self.apply(np.tile(images, (9, 1)), seed).reshape(9, *images.shape)], axis=1)

        def draw(figure: Any) -> None:
            figure.set_size_inches(10, len(images))
            panels = figure.subplots(len(images), 10).flat
            for axes, image in zip(panels, made.reshape(-1, images.shape[1]), strict=True):
                axes.imshow(image.reshape(self._shape_of(image.size)), cmap="gray_r", vmin=images.min(),
                            vmax=images.max())
                axes.set_axis_off()

        drawn(draw, path)


def _spline(n: int, spacing: float) -> npt.NDArray[Any]:
    """Return the value at each of n pixels of the cubic B-spline around each knot: (n, knots)."""
    distance = np.abs(np.arange(n)[:, np.newaxis] / spacing - np.arange(-1, math.floor((n - 1) / spacing) + 3))
    near = 2 / 3 - distance**2 + distance**3 / 2
    return np.where(distance < 1, near, np.maximum(2 - distance, 0) ** 3 / 6)
