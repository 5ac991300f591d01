"""Random inputs that depend on a seed only, shared by the scripts in this folder."""

import zlib

import numpy as np


def generator(seed, name):
    """A generator of its own for every name, so that no value depends on the order in which they are made."""
    return np.random.default_rng([seed, zlib.crc32(name.encode())])


def stretch(grid, size, axis):
    """Linear interpolation of `grid` to `size` points along `axis`."""
    at = np.linspace(0, grid.shape[axis] - 1, size)
    low = np.floor(at).astype(int)
    high = np.minimum(low + 1, grid.shape[axis] - 1)
    shape = [1] * grid.ndim
    shape[axis] = size
    part = (at - low).reshape(shape)
    return np.take(grid, low, axis) * (1 - part) + np.take(grid, high, axis) * part


def image(rng, shape):
    """Shapes of several sizes and a little noise: plain noise looks the same to a deep network, whatever the seed."""
    result = rng.normal(0, 0.2, shape) + rng.normal(0, 0.7, (*shape[:2], 1, 1))
    for cells in (3, 8, 25):
        grid = rng.normal(0, 0.7, (*shape[:2], cells, cells))
        result += stretch(stretch(grid, shape[2], 2), shape[3], 3)
    return result


def array(rng, shape, dtype):
    """One input: an image where the shape is that of one, plain noise otherwise; few small numbers where integral."""
    dtype = np.dtype(dtype)
    if dtype == np.bool_:
        return rng.integers(0, 2, shape).astype(dtype)
    if dtype.kind in "iu":
        return rng.integers(0, 10, shape).astype(dtype)
    values = image(rng, shape) if len(shape) == 4 and min(shape[2:]) >= 8 else rng.normal(0, 1, shape)
    return values.astype(dtype)


def file_name(tensor):
    """The file that holds a tensor: its name with '/' as '_'."""
    return tensor.replace("/", "_") + ".npy"


# ONNX Runtime's names of types, as far as the models of this project have them.
DTYPES = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(int8)": np.int8,
    "tensor(uint8)": np.uint8,
    "tensor(bool)": np.bool_,
}


def parse_shapes(arguments):
    """`x=1,3,224,224` as given on a command line, any number of times -> {"x": [1, 3, 224, 224]}."""
    shapes = {}
    for argument in arguments or ():
        name, separator, sizes = argument.rpartition("=")
        try:
            shapes[name] = [int(size) for size in sizes.split(",")]
        except ValueError:
            separator = ""
        if not separator:
            raise SystemExit(f"--shape {argument}: expected NAME=SIZE,SIZE,...")
    return shapes


def inputs_of(session, seed, shapes=None):
    """Seeded values for every input of an ONNX Runtime session; a symbolic size is 1 unless `shapes` says more."""
    feed = {}
    for entry in session.get_inputs():
        shape = (shapes or {}).get(entry.name) or [size if isinstance(size, int) else 1 for size in entry.shape]
        if entry.type not in DTYPES:
            raise SystemExit(f"input {entry.name}: no seeded values for type {entry.type}")
        feed[entry.name] = array(generator(seed, entry.name), tuple(shape), DTYPES[entry.type])
    return feed


def session(model, threads):
    """An ONNX Runtime session on the CPU that leaves its warnings out."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
