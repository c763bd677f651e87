"""fastbp.data: MNIST as published, IDX and NPZ there and back, a DataError for every way in which a file is wrong."""

import contextlib
import gzip
import hashlib
import io
import pickle
import struct
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastbp.data
from fastbp import ahead
from fastbp.data import DataError, Dataset, dataset, load, load_samples, mnist, read_idx, sources, table

MNIST_SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
IDX_CODES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}
IMAGES = np.arange(5 * 2 * 3, dtype=np.uint8).reshape(5, 2, 3)
LABELS = np.array([0, 1, 2, 1, 0], dtype=np.uint8)


def idx_bytes(array: np.ndarray) -> bytes:
    """The IDX file of `array`, written from the format's description."""
    header = struct.pack(f">HBB{array.ndim}I", 0, IDX_CODES[array.dtype.str[1:]], array.ndim, *array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


def write_folder(folder: Path, sep: str = "-", gz: str = "", **replaced: np.ndarray) -> Path:
    """A folder with the four files; the test set is the first three training samples."""
    arrays = {"x_train": IMAGES, "y_train": LABELS, "x_test": IMAGES[:3], "y_test": LABELS[:3]} | replaced
    names = {"x_train": "train-images", "y_train": "train-labels", "x_test": "t10k-images", "y_test": "t10k-labels"}
    for name, array in arrays.items():
        content = idx_bytes(array)
        file = folder / f"{names[name]}{sep}idx{3 if name[0] == 'x' else 1}-ubyte{gz}"
        file.write_bytes(gzip.compress(content) if gz else content)
    return folder


def npz_arrays(**replaced: np.ndarray) -> dict[str, np.ndarray]:
    return {"x_train": IMAGES, "y_train": LABELS, "x_test": IMAGES[:3], "y_test": LABELS[:3]} | replaced


def assert_same(array: np.ndarray | None, expected: np.ndarray) -> None:
    assert array is not None
    assert array.dtype == expected.dtype
    assert array.dtype.isnative
    assert array.flags.c_contiguous
    assert array.shape == expected.shape
    assert array.tobytes() == expected.tobytes()


@contextlib.contextmanager
def peak_below(limit: int):
    """Python and NumPy may hold at most `limit` bytes more than before, at any moment."""
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < limit


# MNIST


@pytest.mark.parametrize("name", MNIST_SHA256)
def test_packaged_files_are_the_published_ones(name):
    file = Path(fastbp.data.__file__).parent / "mnist" / f"{name}.gz"
    assert hashlib.sha256(gzip.decompress(file.read_bytes())).hexdigest() == MNIST_SHA256[name]


def test_mnist_arrays_hold_the_published_bytes_in_order():
    data = mnist()
    headers = (
        struct.pack(">4I", 0x803, 60000, 28, 28),
        struct.pack(">2I", 0x801, 60000),
        struct.pack(">4I", 0x803, 10000, 28, 28),
        struct.pack(">2I", 0x801, 10000),
    )
    for array, header, digest in zip(data, headers, MNIST_SHA256.values(), strict=True):
        assert hashlib.sha256(header + array.tobytes()).hexdigest() == digest


def test_mnist_shapes():
    data = mnist()
    assert isinstance(data, Dataset)
    assert [array.shape for array in data] == [(60000, 784), (60000,), (10000, 784), (10000,)]
    assert all(array.dtype == np.uint8 and array.flags.c_contiguous for array in data)


def test_images_of_bytes_say_their_scale():
    assert mnist().input_scale == load("mnist").input_scale == 1 / 255
    assert pickle.loads(pickle.dumps(mnist())).input_scale == 1 / 255
    assert len(mnist()) == 4


def test_load_mnist_is_mnist():
    for loaded, expected in zip(load("mnist"), mnist(), strict=True):
        assert_same(loaded, expected)


def test_mnist_is_never_held_twice():
    samples = 70000 * (784 + 1)
    with peak_below(samples + (2 << 20)):
        mnist()


# IDX, whole files


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize(
    "shape", [(), (0,), (1,), (7,), (0, 5), (3, 4, 5), (1, 2, 1, 2, 1, 2, 1, 2), (601, 512)], ids=str
)
@pytest.mark.parametrize("dtype", IDX_CODES)
def test_idx_round_trip(tmp_path, dtype, shape, compressed):
    rng = np.random.default_rng(0)
    # Random bytes: for floats that includes NaN with a payload and infinities.
    array = np.frombuffer(rng.bytes(int(np.prod(shape)) * np.dtype(dtype).itemsize), dtype).reshape(shape)
    content = idx_bytes(array)
    file = tmp_path / "array"
    file.write_bytes(gzip.compress(content, 1) if compressed else content)
    assert_same(read_idx(file), array)
    assert_same(read_idx(str(file)), array)


def test_idx_elements_are_big_endian(tmp_path):
    file = tmp_path / "array"
    file.write_bytes(bytes([0, 0, 0x0C, 1, 0, 0, 0, 2, 0, 0, 1, 2, 255, 255, 255, 254]))
    assert read_idx(file).tolist() == [258, -2]


@pytest.mark.parametrize("name", ["plain.gz", "packed.idx"])
def test_idx_compression_is_told_by_content(tmp_path, name):
    content = idx_bytes(IMAGES)
    file = tmp_path / name
    file.write_bytes(gzip.compress(content) if name == "packed.idx" else content)
    assert_same(read_idx(file), IMAGES)


def test_idx_in_several_gzip_members(tmp_path):
    content = idx_bytes(IMAGES)
    file = tmp_path / "array.gz"
    file.write_bytes(b"".join(gzip.compress(content[lo : lo + 11]) for lo in range(0, len(content), 11)))
    assert_same(read_idx(file), IMAGES)


# IDX, wrong files

GOOD = idx_bytes(IMAGES)
GOOD_GZ = gzip.compress(GOOD, mtime=0)
BAD_IDX = {
    "empty": (b"", "empty, found 0 bytes"),
    "empty in gzip": (gzip.compress(b""), "empty, found 0 bytes"),
    "too short for a magic number": (GOOD[:3], r"not an IDX file: starts with 00 00 08; expected 00 00, a type code"),
    "another format": (b"\x89PNG\r\n\x1a\n", r"not an IDX file: starts with 89 50 4e 47; expected 00 00"),
    "type code 0x0A": (b"\0\0\x0a" + GOOD[3:], r"starts with 00 00 0a 03; .* out of 08, 09, 0b, 0c, 0d, 0e"),
    "header cut": (GOOD[:14], r"truncated header: expected 12 bytes for 3 dimensions, found 10 bytes"),
    "header cut, gzip": (gzip.compress(GOOD[:14]), r"truncated header: expected 12 bytes for 3 dim.*found 10 bytes"),
    "no element": (GOOD[:16], r"expected 30 bytes of elements \(dtype uint8, shape \(5, 2, 3\)\), found"),
    "one byte short": (GOOD[:-1], r"truncated: expected 30 bytes .*, found 29 bytes"),
    "one byte short in gzip": (gzip.compress(GOOD[:-1]), r"truncated: expected 30 bytes .*, found 29 bytes"),
    "one byte long": (GOOD + b"\0", r"trailing bytes: expected 30 bytes .*, found more than 30"),
    "one byte long in gzip": (gzip.compress(GOOD + b"\0"), r"trailing bytes: expected 30 bytes .*, found more than 30"),
    "gzip cut in its header": (GOOD_GZ[:5], "gzip stream is truncated or damaged .*expected a whole one"),
    "gzip cut in its data": (GOOD_GZ[:30], "gzip stream is truncated or damaged .*expected a whole one"),
    "gzip cut in its checksum": (GOOD_GZ[:-6], "gzip stream is truncated or damaged .*expected a whole one"),
    "gzip with a wrong checksum": (
        GOOD_GZ[:-8] + b"\0\0\0\0" + GOOD_GZ[-4:],
        "truncated or damaged .*CRC check failed",
    ),
    "gzip with a wrong length": (GOOD_GZ[:-4] + b"\xff\0\0\0", "gzip stream is truncated or damaged"),
    "gzip with a bad deflate block": (GOOD_GZ[:10] + b"\xff" * 20, "gzip stream is truncated or damaged"),
    "bytes after the gzip stream": (GOOD_GZ + b"more", "gzip stream is truncated or damaged"),
    "65 dimensions": (b"\0\0\x08\x41" + b"\0\0\0\1" * 65 + b"\7", "expected dimensions that NumPy supports, found 65"),
    "no element in absurd dimensions": (
        b"\0\0\x08\x04" + b"\0\0\0\0" + b"\xff" * 12,
        "expected dimensions that NumPy supports, found 4",
    ),
}


@pytest.mark.parametrize("content, message", BAD_IDX.values(), ids=BAD_IDX)
def test_bad_idx(tmp_path, content, message):
    file = tmp_path / "bad-file"
    file.write_bytes(content)
    with pytest.raises(DataError, match=f"bad-file: .*{message}"):
        read_idx(file)


def test_missing_idx(tmp_path):
    with pytest.raises(DataError, match="nowhere: no such file; expected an IDX file"):
        read_idx(tmp_path / "nowhere")


def test_folder_for_idx(tmp_path):
    with pytest.raises(DataError, match=r"cannot be read \(.+\); expected an IDX file"):
        read_idx(tmp_path)


def test_data_error_is_a_value_error():
    assert issubclass(DataError, ValueError)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("sizes", [(0xFFFFFFFF,) * 255, (0xFFFFFFFF,) * 2, (1 << 30,), (1 << 20,)], ids=len)
def test_absurd_idx_dimensions_take_no_memory(tmp_path, sizes, compressed):
    content = struct.pack(f">HBB{len(sizes)}I", 0, 0x0E, len(sizes), *sizes) + bytes(100)
    file = tmp_path / "bad-file"
    file.write_bytes(gzip.compress(content) if compressed else content)
    with peak_below(1 << 20), pytest.raises(DataError, match=r"expected \d+ bytes of elements .*, found .* \d+ bytes"):
        read_idx(file)


def test_gzip_bomb_is_not_unpacked(tmp_path):
    """256 MiB of zeros behind a header that promises ten bytes."""
    file = tmp_path / "bomb.gz"
    with gzip.open(file, "wb", compresslevel=1) as stream:
        stream.write(bytes([0, 0, 8, 1, 0, 0, 0, 10]))
        for _ in range(256):
            stream.write(bytes(1 << 20))
    with peak_below(1 << 20), pytest.raises(DataError, match="trailing bytes: expected 10 bytes"):
        read_idx(file)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    """One file for all the examples of a property."""
    return tmp_path_factory.mktemp("scratch") / "file"


def read_or_none(file: Path) -> np.ndarray | None:
    """The array, or None for a DataError; whatever else is raised fails the test."""
    try:
        return read_idx(file)
    except DataError:
        return None


@st.composite
def idx_arrays(draw):
    dtype = np.dtype(draw(st.sampled_from(sorted(IDX_CODES))))
    shape = draw(st.lists(st.integers(0, 5), max_size=4))
    size = int(np.prod(shape)) * dtype.itemsize
    return np.frombuffer(draw(st.binary(min_size=size, max_size=size)), dtype).reshape(shape)


@st.composite
def damaged(draw, content):
    """`content` cut short, with bytes replaced, inserted at a place or appended."""
    kind = draw(st.sampled_from(["cut", "replace", "insert"]))
    at = draw(st.integers(0, len(content) - 1))
    if kind == "cut":
        return content[:at]
    some = draw(st.binary(min_size=1, max_size=8))
    return content[:at] + some + content[at + (len(some) if kind == "replace" else 0) :]


@settings(deadline=None, max_examples=300)
@given(data=st.data(), array=idx_arrays())
def test_damaged_gzip_is_noticed_or_harmless(scratch, data, array):
    scratch.write_bytes(data.draw(damaged(gzip.compress(idx_bytes(array), mtime=0))))
    found = read_or_none(scratch)
    if found is not None:
        assert_same(found, array)


@settings(deadline=None, max_examples=300)
@given(data=st.data(), array=idx_arrays())
def test_damaged_plain_idx_is_noticed_or_all_there(scratch, data, array):
    """Plain IDX has no checksum: an altered element is an element. What is read must be all that the file holds."""
    content = data.draw(damaged(idx_bytes(array)))
    scratch.write_bytes(content)
    found = read_or_none(scratch)
    if found is not None:
        assert idx_bytes(found) == content


@settings(deadline=None, max_examples=100)
@given(data=st.data(), array=idx_arrays(), compressed=st.booleans())
def test_every_truncation_is_noticed(scratch, data, array, compressed):
    content = gzip.compress(idx_bytes(array), mtime=0) if compressed else idx_bytes(array)
    scratch.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    assert read_or_none(scratch) is None


def test_every_flipped_bit_of_gzip_is_noticed_or_harmless(scratch):
    noticed = 0
    for bit in range(8 * len(GOOD_GZ)):
        content = bytearray(GOOD_GZ)
        content[bit // 8] ^= 1 << bit % 8
        scratch.write_bytes(content)
        found = read_or_none(scratch)
        if found is None:
            noticed += 1
        else:
            assert_same(found, IMAGES)
    # Harmless are time, extra flags and system (6 bytes), text flag and reserved flags: the rest of the bits count.
    assert noticed > 8 * (len(GOOD_GZ) - 8)


# Folders


@pytest.mark.parametrize("gz", ["", ".gz"])
@pytest.mark.parametrize("sep", ["-", "."])
def test_folder(tmp_path, sep, gz):
    folder = write_folder(tmp_path, sep, gz)
    for source in (folder, str(folder)):
        data = load(source)
        assert_same(data.x_train, IMAGES.reshape(5, 6))
        assert_same(data.y_train, LABELS)
        assert_same(data.x_test, IMAGES[:3].reshape(3, 6))
        assert_same(data.y_test, LABELS[:3])


def test_folder_says_which_files_are_missing(tmp_path):
    write_folder(tmp_path)
    (tmp_path / "train-labels-idx1-ubyte").unlink()
    (tmp_path / "t10k-images-idx3-ubyte").unlink()
    with pytest.raises(DataError) as error:
        load(tmp_path)
    message = str(error.value)
    assert str(tmp_path) in message
    assert "found 2 of the four" in message
    assert "train-labels-idx1-ubyte" in message
    assert "t10k-images-idx3-ubyte" in message
    assert "train-images" not in message
    assert "t10k-labels" not in message


def test_empty_folder(tmp_path):
    with pytest.raises(DataError, match=r"found 0 of the four IDX files .*train-images-idx3-ubyte, .*t10k-labels"):
        load(tmp_path)


def test_folder_with_a_damaged_file_names_the_file(tmp_path):
    write_folder(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(b"")
    with pytest.raises(DataError, match="t10k-labels-idx1-ubyte: empty"):
        load(tmp_path)


# Folders of MNIST's successors, in the layouts that their authors distribute

PICTURES = np.random.default_rng(0).integers(0, 256, (2100, 28, 28), dtype=np.uint8)


def write_set(folder: Path, name: str, labels: np.ndarray, gz: str = ".gz") -> Path:
    """A set of EMNIST: the first ten images are the test set; each is stored column by column."""
    for part, rows in (("train", slice(10, None)), ("test", slice(10))):
        for kind, array in (("images-idx3", PICTURES[rows].transpose(0, 2, 1)), ("labels-idx1", labels[rows])):
            content = idx_bytes(array)
            (folder / f"{name}-{part}-{kind}-ubyte{gz}").write_bytes(gzip.compress(content, 1) if gz else content)
    (folder / f"{name}-mapping.txt").write_text("1 65 97\n")
    return folder


def write_npz_set(folder: Path, name: str, labels: np.ndarray) -> Path:
    """A set of Kuzushiji-MNIST in NumPy's format: one array a file, arr_0."""
    for part, rows in (("train", slice(10, None)), ("test", slice(10))):
        np.savez_compressed(folder / f"{name}-{part}-imgs.npz", PICTURES[rows])
        np.savez_compressed(folder / f"{name}-{part}-labels.npz", labels[rows])
    return folder


LETTERS = (np.arange(2100) % 26 + 1).astype(np.uint8)


@pytest.mark.parametrize("gz", ["", ".gz"])
def test_emnist_comes_upright_and_its_letters_are_counted_from_0(tmp_path, gz):
    write_set(tmp_path, "emnist-letters", LETTERS, gz)
    assert load(tmp_path).input_scale == 1 / 255
    for source in (tmp_path, tmp_path / "emnist-letters"):
        x_train, y_train, x_test, y_test = load(source)
        assert_same(x_train, PICTURES[10:].reshape(-1, 784))
        assert_same(x_test, PICTURES[:10].reshape(-1, 784))
        assert_same(y_train, LETTERS[10:] - np.uint8(1))
        assert_same(y_test, LETTERS[:10] - np.uint8(1))
        assert_same(load_samples(source)[0], x_test)


def test_a_folder_of_several_sets_asks_for_one(tmp_path, monkeypatch):
    """EMNIST's archive holds six sets in one folder; all but the letters count from 0."""
    for name in ("balanced", "letters", "digits"):
        write_set(tmp_path, f"emnist-{name}", LETTERS)
    message = "holds the data sets emnist-balanced, emnist-digits, emnist-letters; name one of them, as .*t-balanced"
    for call in (load, load_samples, sources.files):
        with pytest.raises(DataError, match=message):
            call(tmp_path)
    assert_same(load(tmp_path / "emnist-digits").y_train, LETTERS[10:])
    assert len(sources.files(tmp_path / "emnist-digits")) == 4
    monkeypatch.chdir(tmp_path)
    assert_same(load("emnist-balanced").x_test, PICTURES[:10].reshape(-1, 784))
    for gone in ("emnist-byclass", "emnist", "emnist-letter"):
        with pytest.raises(DataError, match=f"{gone}: not a data source"):
            load(gone)


def test_a_set_says_which_files_are_missing(tmp_path):
    write_set(tmp_path, "emnist-letters", LETTERS)
    write_npz_set(tmp_path, "k49", LETTERS)
    (tmp_path / "emnist-letters-test-labels-idx1-ubyte.gz").unlink()
    (tmp_path / "k49-train-imgs.npz").unlink()
    with pytest.raises(DataError, match=r"letters: found 3 of .* without emnist-letters-test-labels-idx1-ubyte; expec"):
        load(tmp_path / "emnist-letters")
    assert load_samples(tmp_path / "emnist-letters")[1] is None
    with pytest.raises(DataError, match=r"k49: found 3 of .* without k49-train-imgs.npz; expected all four"):
        load(tmp_path / "k49")


def test_kuzushiji_in_both_formats(tmp_path):
    labels = (LETTERS % 10).astype(np.uint8)
    write_npz_set(tmp_path, "kmnist", labels)
    data = load(tmp_path)
    assert data.input_scale == 1 / 255
    assert_same(data.x_train, PICTURES[10:].reshape(-1, 784))
    assert_same(data.y_test, labels[:10])
    write_folder(tmp_path)  # in MNIST's form, which counts if the folder holds both
    assert_same(load(tmp_path).x_train, IMAGES.reshape(5, 6))
    assert_same(load(tmp_path / "kmnist").x_test, PICTURES[:10].reshape(-1, 784))


def test_wrong_files_of_a_set(tmp_path):
    write_set(tmp_path, "emnist-letters", LETTERS - np.uint8(1))
    with pytest.raises(DataError, match=r"train-labels-idx1-ubyte.gz: has the label 0; expected labels of EMNIST's"):
        load(tmp_path)
    for part in ("train", "test"):
        (tmp_path / f"emnist-letters-{part}-images-idx3-ubyte.gz").write_bytes(idx_bytes(IMAGES))
    with pytest.raises(DataError, match=r"images-idx3-ubyte.gz: has shape \(5, 2, 3\); expected images of EMNIST"):
        load(tmp_path)
    write_npz_set(tmp_path, "kmnist", np.full(2100, None))
    with pytest.raises(DataError, match=r"kmnist-train-labels.npz: arr_0 is not an array that can be read safely"):
        load(tmp_path / "kmnist")
    np.savez(tmp_path / "kmnist-train-labels.npz")
    with pytest.raises(DataError, match=r"kmnist-train-labels.npz: holds no array"):
        load(tmp_path / "kmnist")


# NPZ, whole files


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz(tmp_path, save):
    file = tmp_path / "data.npz"
    save(file, **npz_arrays(), unrelated=np.zeros(2))
    for source in (file, str(file)):
        data = load(source)
        assert_same(data.x_train, IMAGES.reshape(5, 6))
        assert_same(data.y_train, LABELS)
        assert_same(data.x_test, IMAGES[:3].reshape(3, 6))
        assert_same(data.y_test, LABELS[:3])


def test_npz_without_test_samples(tmp_path):
    file = tmp_path / "data.NPZ"
    with file.open("wb") as stream:
        np.savez(stream, x_train=IMAGES, y_train=LABELS)
    data = load(file)
    assert_same(data.x_train, IMAGES.reshape(5, 6))
    assert data.x_test is None
    assert data.y_test is None


@pytest.mark.parametrize("dtype", ["?", "i1", "u2", "i8", "f2", "<f4", ">f4", "<f8", ">i4"])
def test_npz_comes_native_and_contiguous(tmp_path, dtype):
    x = IMAGES.astype(dtype)
    y = np.arange(10).reshape(5, 2).astype(dtype)
    file = tmp_path / "data.npz"
    np.savez(file, x_train=np.asfortranarray(x), y_train=np.asfortranarray(y))
    data = load(file)
    assert_same(data.x_train, x.astype(x.dtype.newbyteorder("=")).reshape(5, 6))
    assert_same(data.y_train, y.astype(y.dtype.newbyteorder("=")))


# NPZ, wrong files

TEXT = np.array(list("abcde"))
DATES = np.arange(5).astype("datetime64[D]")
RECORDS = np.zeros(5, dtype=[("pixel", "u1")])
BAD_NPZ = {
    "no x_train": ({"y_train": LABELS, "pictures": IMAGES}, "no x_train; found the keys y_train, pictures; expected"),
    "no y_train": ({"x_train": IMAGES}, "no y_train; found the keys x_train; expected x_train and y_train"),
    "neither": ({"a": LABELS}, "no x_train and no y_train; found the keys a;"),
    "nothing": ({}, r"no x_train and no y_train; found the keys \(none\);"),
    "train lengths": (npz_arrays(y_train=LABELS[:4]), "x_train has 5 samples, y_train 4; expected as many"),
    "test lengths": (npz_arrays(x_test=IMAGES[:2]), "x_test has 2 samples, y_test 3; expected as many"),
    "x_test alone": ({"x_train": IMAGES, "y_train": LABELS, "x_test": IMAGES}, "found x_test alone; expected both"),
    "y_test alone": ({"x_train": IMAGES, "y_train": LABELS, "y_test": LABELS}, "found y_test alone; expected both"),
    "features": (npz_arrays(x_test=np.zeros((3, 7))), r"x_train has features of shape \(6,\), one of x_test \(7,\)"),
    "targets": (npz_arrays(y_test=np.zeros((3, 2))), r"y_train has target of shape \(\), one of y_test \(2,\)"),
    "x of one dimension": (npz_arrays(x_train=LABELS), r"x_train has shape \(5,\); expected \(n_samples, n_features\)"),
    "x without dimension": (npz_arrays(x_train=np.float32(1)), r"x_train has shape \(\); expected"),
    "y without dimension": (npz_arrays(y_train=np.float32(1)), r"y_train has shape \(\); expected \(n_samples,\)"),
    "y of three dimensions": (npz_arrays(y_train=IMAGES), r"y_train has shape \(5, 2, 3\); expected \(n_samples,\)"),
    "no sample": (npz_arrays(x_test=IMAGES[:0], y_test=LABELS[:0]), r"x_test is empty, of shape \(0, 2, 3\); expected"),
    "no feature": (npz_arrays(x_train=np.zeros((5, 0))), r"x_train is empty, of shape \(5, 0\); expected"),
    "strings": (npz_arrays(x_train=TEXT), "x_train has dtype <U1; expected real numbers"),
    "bytes": (npz_arrays(y_train=TEXT.astype("S")), r"y_train has dtype \|S1; expected real numbers"),
    "complex": (npz_arrays(x_train=IMAGES * 1j), "x_train has dtype complex128; expected real numbers"),
    "datetime": (npz_arrays(y_train=DATES), r"y_train has dtype datetime64\[D\]; expected real numbers"),
    "timedelta": (npz_arrays(y_train=DATES - DATES), r"y_train has dtype timedelta64\[D\]; expected real numbers"),
    "records": (npz_arrays(y_train=RECORDS), r"y_train has dtype \[\('pixel', 'u1'\)\]; expected real numbers"),
    "objects": (
        npz_arrays(y_test=LABELS[:3].astype(object)),
        "y_test is not an array that can be read safely .*Object arr",
    ),
}


@pytest.mark.parametrize("arrays, message", BAD_NPZ.values(), ids=BAD_NPZ)
def test_bad_npz(tmp_path, arrays, message):
    file = tmp_path / "bad.npz"
    np.savez(file, **arrays)
    with pytest.raises(DataError, match=f"bad.npz: .*{message}"):
        load(file)


class Trap:
    """Unpickling it writes a file."""

    def __init__(self, file: Path):
        self.file = file

    def __reduce__(self):
        return Path.touch, (self.file,)


def test_npz_never_unpickles(tmp_path):
    sprung = tmp_path / "sprung"
    file = tmp_path / "trap.npz"
    trap = np.empty(5, dtype=object)
    trap[:] = [Trap(sprung) for _ in range(5)]
    np.savez(file, x_train=IMAGES, y_train=trap)
    with pytest.raises(DataError, match="y_train is not an array that can be read safely"):
        load(file)
    assert not sprung.exists()
    # The trap does work.
    np.load(file, allow_pickle=True)["y_train"]
    assert sprung.exists()


def npz_bytes(save=np.savez) -> bytes:
    buffer = io.BytesIO()
    save(buffer, **npz_arrays())
    return buffer.getvalue()


@pytest.mark.parametrize(
    "content",
    [b"", b"PK\3\4", b"not a zip archive", npz_bytes()[:-30], npz_bytes()[:100], npz_bytes()[200:]],
    ids=["empty", "magic number only", "text", "end cut", "one header", "start cut"],
)
def test_corrupt_npz(tmp_path, content):
    file = tmp_path / "bad.npz"
    file.write_bytes(content)
    with pytest.raises(DataError, match="bad.npz: cannot be read as an NPZ archive: "):
        load(file)


def test_npy_is_no_npz(tmp_path):
    file = tmp_path / "bad.npz"
    with file.open("wb") as stream:
        np.save(stream, IMAGES)
    with pytest.raises(DataError, match="bad.npz: cannot be read as an NPZ archive: BadZipFile"):
        load(file)


def npy_bytes(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "member, message",
    [
        (b"", "x_train is not an array that can be read safely"),
        (b"text", "x_train is not an array that can be read safely"),
        (npy_bytes(IMAGES)[:-1], "x_train is not an array that can be read safely"),
        (npy_bytes(IMAGES) + b"\0", "x_train has bytes after its 30 bytes of elements"),
        (npy_bytes(IMAGES).replace(b"(5, 2, 3)", b"(4, 2, 3)"), "x_train has bytes after its 24 bytes of elements"),
        (npy_bytes(IMAGES).replace(b"(5, 2, 3), }" + b" " * 14, b"(9999999999, 99999999999), "), "x_train|archive"),
    ],
    ids=["empty", "text", "short", "long", "smaller shape", "absurd shape"],
)
def test_bad_npz_member(tmp_path, member, message):
    file = tmp_path / "bad.npz"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("x_train.npy", member)
        archive.writestr("y_train.npy", npy_bytes(LABELS))
    with pytest.raises(DataError, match=f"bad.npz: .*{message}"):
        load(file)


def test_missing_npz(tmp_path):
    with pytest.raises(DataError, match="nowhere.npz: no such file; expected an NPZ archive"):
        load(tmp_path / "nowhere.npz")


def assert_noticed_or_same_arrays(file: Path) -> None:
    """The arrays carry checksums; the archive's directory has none, so damage there can hide the test samples."""
    try:
        data = load(file)
    except DataError:
        return
    assert_same(data.x_train, IMAGES.reshape(5, 6))
    assert_same(data.y_train, LABELS)
    if data.x_test is not None or data.y_test is not None:
        assert_same(data.x_test, IMAGES[:3].reshape(3, 6))
        assert_same(data.y_test, LABELS[:3])


@settings(deadline=None, max_examples=200)
@given(data=st.data(), save=st.sampled_from([np.savez, np.savez_compressed]))
def test_damaged_npz_is_noticed_or_the_same(scratch, data, save):
    file = scratch.with_suffix(".npz")
    file.write_bytes(data.draw(damaged(npz_bytes(save))))
    assert_noticed_or_same_arrays(file)


@pytest.mark.slow
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_every_flipped_bit_of_npz_is_noticed_or_the_same(scratch, save):
    file = scratch.with_suffix(".npz")
    content = npz_bytes(save)
    for bit in range(8 * len(content)):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        file.write_bytes(flipped)
        assert_noticed_or_same_arrays(file)


# Anything else


@pytest.mark.parametrize("source", ["cifar", "data.xls", "MNIST", None, 3, b"mnist", IMAGES], ids=repr)
def test_unknown_source_names_the_accepted_forms(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError) as error:
        load(source)
    message = str(error.value)
    assert message.startswith(str(source))
    assert '"mnist"' in message
    assert "folder" in message
    assert ".npz" in message


# Tables


def write_table(folder: Path, text: str, name: str = "table.csv", encoding: str = "utf-8") -> Path:
    (folder / name).write_bytes(text.encode(encoding))
    return folder / name


ROWS = "width,height,kind\n1.5,-2,0\n3,4e1,1\n\n.5,6,2\n"


@pytest.mark.parametrize("text", [
    ROWS, ROWS.replace("\n", "\r\n"), ROWS.replace(",", ";"), ROWS.replace(",", "\t"), ROWS.strip(), "\ufeff" + ROWS,
    ROWS.replace("\n\n", "\n \n") + " \t\n",
    ROWS.replace("width", '" width"').replace("1.5", ' "1.5"'.strip()), ROWS.replace(",kind", " , kind"),
    ROWS.replace("kind", '"kind;of,\nthing"'),
], ids=repr)  # fmt: skip
def test_table(tmp_path, text):
    data = load(write_table(tmp_path, text))
    assert_same(data.x_train, np.array([[1.5, -2], [3, 40], [0.5, 6]]))
    assert_same(data.y_train, np.array([0, 1, 2]))
    assert data.x_test is None and data.y_test is None and data.input_scale == 1
    assert data.features == ("width", "height") and data.target.startswith("kind")


def test_table_in_several_blocks(tmp_path):
    x = np.random.default_rng(0).normal(size=(2 * table.BLOCK + 7, 2))
    y = np.array(["a", "b", "no"])[np.arange(len(x)) % 3]
    rows = "".join(f"{a!r},{b!r},{c}\n" for (a, b), c in zip(x.tolist(), y, strict=True))
    data = load(write_table(tmp_path, "first,second,kind\n" + rows))
    assert_same(data.x_train, x)
    assert_same(data.y_train, y)


@pytest.mark.parametrize(("cells", "y"), [
    ("0 1 -2 3", np.array([0, 1, -2, 3])), ("1.0 2.0 3.0 4.5", np.array([1.0, 2, 3, 4.5])),
    ("1 2.0 3 4", np.array([1.0, 2, 3, 4])), ("cat dog cat dog", np.array(["cat", "dog", "cat", "dog"])),
    ("True False True True", np.array(["True", "False", "True", "True"])),
    ("1 2 3a 4b", np.array(["1", "2", "3a", "4b"])), ("none EU none EU", np.array(["none", "EU", "none", "EU"])),
    ("1_000 1_001 1 2", np.array(["1_000", "1_001", "1", "2"])),
    ("99999999999999999999 1 2 3", np.array([1e20, 1, 2, 3])),
])  # fmt: skip
def test_targets_of_a_table(tmp_path, cells, y):
    rows = "".join(f"{cell},{i}\n" for i, cell in enumerate(cells.split()))
    data = load(write_table(tmp_path, "y,x\n" + rows), target="y")
    assert_same(data.y_train, y)
    assert_same(data.x_train, np.arange(4.0)[:, np.newaxis])
    assert (data.features, data.target) == (("x",), "y")


def test_a_first_line_of_numbers_in_samples_to_predict(tmp_path):
    """Is the header if it holds all names that are known; one that may only count the columns is told of."""
    x, _ = load_samples(write_table(tmp_path, "0,3,2\n7,8,9\n"), features=["0", "2", "3"])
    assert_same(x, np.array([[7.0, 9, 8]]))
    with pytest.warns(UserWarning, match="holds the numbers 0 to 2 and is read as a sample; if they only count"):
        x, _ = load_samples(write_table(tmp_path, "2,0,1\n7,8,9\n"), n_features=3)
    assert x.shape == (2, 3)


def test_truth_values_in_a_table(tmp_path):
    data = load(write_table(tmp_path, "a,b,y\nTrue,1,0\nfalse,0.5,1\n"))
    assert_same(data.x_train, np.array([[1.0, 1], [0, 0.5]]))


BAD_TABLES = {
    "text": ("a,b,y\n1,2,0\n\n1,red,0\n", r"table.csv, line 4, column 'b': 'red' is not a number .*; write the col"),
    "decimal comma": ("a;b;y\n1;2,5;0\n", "line 2, column 'b': '2,5' is not a number .with a decimal point."),
    "empty cell": ("a,b,y\n1,,0\n", "line 2, column 'b': the cell is missing .''.; fill it with a number, or leave"),
    "nan": ("a,b,y\n1,2,0\n1,nan,0\n", "line 3, column 'b': the cell is missing .'nan'."),
    "NA": ("a,b,y\nNA,2,0\n", "line 2, column 'a': the cell is missing .'NA'."),
    "infinity": ("a,b,y\ninf,2,0\n", "line 2, column 'a': 'inf' is not finite; expected a number"),
    "too large": ("a,b,y\n1,2,0\n1,1e400,0\n", "line 3, column 'b': '1e400' is not finite; expected a number"),
    "an infinite target": ("a,y\n1,2\n1,3\n1,-inf\n", "line 4, column 'y': '-inf' is not finite"),
    "underscores": ("a,b,y\n1_000,2,0\n", "line 2, column 'a': '1_000' is not a number"),
    "an underscore in a target": ("a,y\n1,2\n1,1_0\n1,3\n", "line 3, column 'y': '1_0' is not a number"),
    "line of quoted lines": ('a,y\n1,"o\nne"\n\nx,"two"\n', "line 5, column 'a': 'x' is not a number"),
    "no target": ("a,y\n1,0\n2, \n3,1\n", "line 3, column 'y': the target is missing .' '.; fill it, or leave out"),
    "no targets": ("a,y\n1,\n2,\n", "the column 'y' is empty; expected targets"),
    "a text among numbers": ("a,y\n1,2.5\n1,x\n1,3\n1,4\n", "line 3, column 'y': 'x' is not a number, but most of"),
    "a missing number": ("a,y\n1,2.5\n1,?\n1,3\n1,4\n", "line 3, column 'y': the target is missing .'.'."),
    "only missing targets": ("a,y\n1,NA\n2,?\n", "the column 'y' is empty; expected targets"),
    "short row": ("a,b,y\n1,2,3\n1,2\n", "line 3: has 2 cells, the header line has 3; expected as many"),
    "one cell": ("1,2,3\n1\n", "line 2: has 1 cell, the first line has 3; expected as many in each line"),
    "text before the target": ("a,kind,y\n1,red,0\n", "column 'kind': 'red' is not a number .*; or, if it is what to "
                               r"predict, name it as the target \(in the command: --target 'kind'\)"),
    "long row": ("a,b,y\n1,2,3,\n", "line 2: has 4 cells, the header line has 3"),
    "index": (",a,y\n0,1,0\n", r"column 1 has no name in the header line; .* \(pandas: to_csv\(index=False\)\)"),
    "index of numbers": (",0,1,2,3,y\n0,1,0,1,0,1\n", "column 1 has no name in the header line"),
    "more than a delimiter at the end": ("a,y,\n0,1,2\n", "column 3 has no name in the header line"),
    "an empty cell at the end of the first": ("1,2,\n0,1,2\n", "its first line ends with an empty cell, others do no"),
    "names": ("a,a,y\n0,1,0\n", "two columns have the name 'a'; expected different names"),
    "nothing": ("", "its first line is empty; expected the names of the columns"),
    "no rows": ("a,b,y\n\n", "has a header line and no rows; expected at least one sample"),
    "one column": ("a\n1\n", "has only the column 'a'; expected features and a target"),
    "open quote": ('a,y\n1,"2\n', "line 2: unexpected end of data; expected a table as CSV"),
}


@pytest.mark.parametrize("text, message", BAD_TABLES.values(), ids=BAD_TABLES)
def test_bad_table(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        load(write_table(tmp_path, text))


@pytest.mark.parametrize("marker", sorted(dataset.MISSING))
def test_missing_values_are_the_same_among_numbers_and_names(tmp_path, marker):
    """And none is a class; where they are is said, and how many."""
    rows = f"a,b,kind\n1,2,red\n1,{{}},{marker}\n1,2,{marker}\n1,2,blue\n"
    with pytest.raises(DataError, match=r"line 3, column 'kind': the target is missing .*, the first of 2 in this col"):
        load(write_table(tmp_path, rows.format("5")))
    with pytest.raises(DataError, match="line 3, column 'b': the cell is missing"):
        load(write_table(tmp_path, rows.format(marker)))
    np.savez(tmp_path / "named.npz", x_train=np.zeros((4, 2)), y_train=np.array(["a", marker, "b", marker]))
    with pytest.raises(DataError, match="named.npz: y_train lacks 2 class names, the first in row 1 "):
        load(tmp_path / "named.npz")


HEADERS = {
    # Samples from the first line on
    "texts at the end": ("5.1,3.5,setosa\n4.9,3.0,setosa\n6,2,virginica\n", 3, 3), "numbers": ("1,2,0\n3,4,1\n", 2, 3),
    "a text first": ("red;1.5;2\nblue;1.5;3\n", 2, 3), "one line": ("1.5,2.5,a\n", 1, 3),
    "a missing cell": ("1.5,3,NA\n2,3,1\n", None, 3), "truth values": ("True,False,yes\nFalse,True,no\n", 2, 3),
    "0 and 1": ("0,1,1\n1,0,1\n", 2, 3), "0 to 2 and a class": ("0,1,2,a\n3,4,5,b\n", 2, 4),
    "a delimiter at the end": ("1.5,2,a,\n2.5,3,b,\n", 2, 3),
    # A header line
    "no number": ("a,b,y\n1,2,red\n", 1, 3), "years": ("2019,2020,growth\n1.5,2.5,3\n", 1, 3),
    "numbers of columns": ("0,1,2,3,kind\n5.1,3.5,1.4,0.2,setosa\n", 1, 5), "all of them": ("0,1,2,3\n5,6,7,1\n", 1, 4),
    "over a gap": ("7,8,y\n1,2,NA\n1,2,1\n", None, 3), "a delimiter behind it": ("a,b,y,\n1,2,0,\n", 1, 3),
}  # fmt: skip


@pytest.mark.parametrize("case", HEADERS)
def test_whether_the_first_line_is_a_header(tmp_path, case):
    text, n, width = HEADERS[case]
    path = write_table(tmp_path, text)
    if n is None:
        with pytest.raises(DataError, match="is missing"):
            load(path)
        return
    target = "column1" if text.startswith("red") else None
    data = load(path, target=target)
    assert data.x_train.shape == (n, width - 1) and len(data.y_train) == n
    assert data.has_header == (n < text.count("\n"))
    if not data.has_header:
        names = [f"column{j + 1}" for j in range(width)]
        target = target or names[-1]
        assert (data.target, data.features) == (target, tuple(name for name in names if name != target))


def test_samples_without_a_header(tmp_path):
    """As many columns as features are these; of more, those of the same numbers."""
    whole = write_table(tmp_path, "a,1,2\nb,3,4\n", "whole.csv")
    bare = write_table(tmp_path, "1,2\n3,4\n", "bare.csv")
    features = load(whole, target="column1").features
    for path, y in ((whole, ["a", "b"]), (bare, None)):
        x, found = load_samples(path, 2, features, "column1")
        assert x.tolist() == [[1, 2], [3, 4]] and (found is None if y is None else found.tolist() == y)
    with pytest.raises(DataError, match="its first line holds numbers, so it is not a header line; .*: 'u', 'v'"):
        load_samples(bare, 2, ["u", "v"])
    with pytest.raises(DataError, match="found 'u', 'v'; that table had no header line: remove it here, too"):
        load_samples(write_table(tmp_path, "u,v\n1,2\n"), 2, features)


@pytest.mark.parametrize("name, text, features, target, labels", [
    ("a.tsv", "length, cm\twidth, cm\tspecies\n1.5\t2.5\ta\n2.5\t1\tb\n", ["length, cm", "width, cm"], "species",
     ["a", "b"]),
    ("a.tsv", "height, m\tsex\n1.5\ta\n2\tb\n", ["height, m"], "sex", ["a", "b"]),
    ("a.csv", "length, cm;width, cm;species\n1.5;2.5;a\n2.5;1;b\n", ["length, cm", "width, cm"], "species",
     ["a", "b"]),
    ("a.tsv", '"height"\t"sex, as said"\n1\ta\n2\tb\n', ["height"], "sex, as said", ["a", "b"]),
    ("a.csv", "f 0\tthe t,g\n1\ta\n2\tb\n", ["f 0"], "the t,g", ["a", "b"]),
    ("a.tsv", "x,y\n1,2\n3,4\n", ["x"], "y", [2, 4]), ("a.csv", "x,y\n1,a;b\n2,c\n", ["x"], "y", ["a;b", "c"]),
    ("a.tsv", "x\ty,z\n1\t2,a\n3\t4,b\n", ["x"], "y,z", ["2,a", "4,b"])])
def test_the_delimiter_is_the_one_that_fits(tmp_path, name, text, features, target, labels):
    """Names may hold the others; a .tsv has tabs where they split its first line."""
    file = tmp_path / name
    file.write_text(text)
    data = fastbp.data.load(file)
    assert list(data.features) == features and data.target == target and data.y_train.tolist() == labels


@pytest.mark.parametrize("name, delimiter", [("a.csv", ";"), ("a.tsv", "\t")])
def test_decimal_commas_under_a_name_with_a_comma(tmp_path, name, delimiter):
    """The rows say which is the delimiter, and the number is refused; it was split into two columns."""
    file = tmp_path / name
    file.write_text(f"height, m{delimiter}weight\n1,54{delimiter}70\n1,60{delimiter}60\n")
    with pytest.raises(DataError, match=r"line 2, column 'height, m': '1,54' is not a number \(with a dec"):
        fastbp.data.load(file)


def test_decimal_commas_are_not_taken_for_delimiters(tmp_path):
    with pytest.raises(DataError, match="'1,5' is not a number .with a decimal point."):
        load(write_table(tmp_path, "1,5;2,5;3,5\n1,5;2,5;3,5\n"))


def test_blanks_around_names_do_not_count(tmp_path):
    """pandas keeps them, and so does a network that was trained on its frame."""
    path = write_table(tmp_path, "a, b, y\n1,2,u\n3,4,v\n")
    x, y = load_samples(path, 2, [" b", "a"], " y", ["u", "v"])
    assert x.tolist() == [[2, 1], [4, 3]] and y.tolist() == ["u", "v"]
    assert load(write_table(tmp_path, "a, b, c\n1,2,3\n3,4,5\n"), target=" b").target == "b"


def test_table_that_is_none(tmp_path):
    with pytest.raises(DataError, match=r"table.csv: is not text in UTF-8 \(.*\); expected a table, saved as UTF-8"):
        load(write_table(tmp_path, "größe,y\n1,2\n", encoding="latin-1"))
    with pytest.raises(DataError, match="missing.csv: no such file; expected a table"):
        load(tmp_path / "missing.csv")
    with pytest.raises(DataError, match=r"has no column 'kinds' for the target; did you mean 'kind'\? found 'width'"):
        load(write_table(tmp_path, ROWS), target="kinds")
    with pytest.raises(DataError, match="target 'kind' names a column of a table"):
        load(tmp_path, target="kind")


# Samples to predict


@pytest.mark.parametrize(("names", "x_name", "y_name"), [
    ("x_test", "x_test", None), ("x_test y_test", "x_test", "y_test"), ("x_train", "x_train", None),
    ("x_train y_train", "x_train", "y_train"), ("x_train y_train x_test", "x_test", None), ("x", "x", None),
    ("x y", "x", "y"), ("X", "X", None), ("X y", "X", "y"), ("X Y", "X", "Y"), ("x_train y_test", "x_train", None),
])  # fmt: skip
def test_samples_of_an_archive(tmp_path, names, x_name, y_name):
    arrays = {name: (IMAGES if name[0] in "xX" else LABELS) + np.uint8(i) for i, name in enumerate(names.split())}
    np.savez(tmp_path / "new.npz", **arrays)
    x, y = load_samples(tmp_path / "new.npz")
    assert_same(x, arrays[x_name].reshape(5, 6))
    assert y is None if y_name is None else (y == arrays[y_name]).all()


@pytest.mark.parametrize(("arrays", "message"), [
    ({"a": IMAGES}, "new.npz: found the keys a; expected x_test, x_train, x, X"), ({}, r"found the keys \(none\);"),
    ({"x": LABELS}, r"x has shape \(5,\); expected"), ({"x": IMAGES, "y": LABELS[1:]}, "x has 5 samples, y 4"),
    ({"x": TEXT}, "x has dtype <U1; expected real numbers"),
])  # fmt: skip
def test_bad_samples(tmp_path, arrays, message):
    np.savez(tmp_path / "new.npz", **arrays)
    with pytest.raises(DataError, match=message):
        load_samples(tmp_path / "new.npz")
    with pytest.raises(DataError):  # a training needs more
        load(tmp_path / "new.npz")


def test_samples_of_a_folder(tmp_path):
    write_folder(tmp_path)
    for x, y, missing in ((IMAGES[:3], LABELS[:3], "t10k-labels-idx1-ubyte"), (IMAGES[:3], None, "t10k-images-idx3-"
                          "ubyte"), (IMAGES, LABELS, "train-labels-idx1-ubyte"), (IMAGES, None, "train-images-idx3-"
                          "ubyte")):  # fmt: skip
        found_x, found_y = load_samples(tmp_path)
        assert_same(found_x, x.reshape(len(x), -1))
        assert found_y is None if y is None else (found_y == y).all()
        (tmp_path / missing).unlink()
    with pytest.raises(DataError, match="found neither t10k-images-idx3-ubyte nor train-images-idx3-ubyte; expected"):
        load_samples(tmp_path)


@pytest.mark.parametrize(("settings", "columns", "y"), [
    (dict(n_features=2), [0, 1], [0, 1, 2]), (dict(n_features=3), [0, 1, 2], None), ({}, [0, 1, 2], None),
    (dict(target="width"), [1, 2], [1.5, 3, 0.5]), (dict(features=["height", "width"]), [1, 0], None),
    (dict(features=["height", "kind", "width"]), [1, 2, 0], None), (dict(features=["kind"]), [2], None),
    (dict(features=["kind"], target="height"), [2], [-2, 40, 6]), (dict(n_features=2, target="x"), [0, 1, 2], None),
])  # fmt: skip
def test_samples_of_a_table(tmp_path, settings, columns, y):
    x, found = load_samples(write_table(tmp_path, ROWS), **settings)
    assert_same(x, np.array([[1.5, -2, 0], [3, 40, 1], [0.5, 6, 2]])[:, columns])
    assert found is None if y is None else found.tolist() == y


def test_samples_of_a_table_by_name(tmp_path):
    """Columns that are not asked for need not be numbers; targets that are not known may be left empty."""
    x, y = load_samples(write_table(tmp_path, "id,a,note,y\nq1,1,,\nq2,2,red,\n"), features=["a"], target="y")
    assert x.tolist() == [[1], [2]] and y is None
    with pytest.raises(DataError, match="has no column 'b', 'c', which the network was trained with; found 'width',"):
        load_samples(write_table(tmp_path, ROWS), features=["b", "width", "c"])


def test_a_column_is_a_vector(tmp_path):
    np.savez(tmp_path / "column.npz", **npz_arrays(y_train=LABELS[:, np.newaxis]))
    assert_same(load(tmp_path / "column.npz").y_train, LABELS)


def test_names_of_classes_in_an_archive(tmp_path):
    np.savez(tmp_path / "texts.npz", x_train=IMAGES, y_train=TEXT)
    assert_same(load(tmp_path / "texts.npz").y_train, TEXT)


def test_files_that_are_read_ahead(tmp_path, monkeypatch):
    """Hold what they hold when they are read in turn, and one that is damaged is refused in the same words."""
    for name, array in (("a.gz", IMAGES), ("b.gz", LABELS)):
        (tmp_path / name).write_bytes(gzip.compress(idx_bytes(array)))
    (tmp_path / "c.gz").write_bytes((tmp_path / "b.gz").read_bytes()[:-3])
    monkeypatch.setattr(ahead, "MNIST", tmp_path)
    monkeypatch.setattr(ahead, "_thread", None)
    with pytest.raises(DataError) as in_turn:
        read_idx(tmp_path / "c.gz")
    ahead.begin()
    assert np.array_equal(read_idx(tmp_path / "a.gz"), IMAGES) and len(ahead._unpacked) == 1
    for _ in range(2):  # read ahead, then from the file
        assert np.array_equal(read_idx(tmp_path / "b.gz"), LABELS) and not ahead._unpacked
    with pytest.raises(DataError) as damaged:
        read_idx(tmp_path / "c.gz")
    assert str(damaged.value) == str(in_turn.value)
