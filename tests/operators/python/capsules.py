"""What is in a DLPack capsule, read as its consumer would: for tensors on GPUs that are host memory, which no framework takes."""

import ctypes

import numpy as np

READ_ONLY = 1  # a flag


class DLTensor(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]


class Versioned(ctypes.Structure):
    _fields_ = [
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("context", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
        ("flags", ctypes.c_uint64),
        ("tensor", DLTensor),
    ]


class Capsule:
    """Taken from a tensor, for as long as this."""

    def __init__(self, tensor, stream=None, versioned=True):
        self.capsule = tensor.__dlpack__(stream=stream, max_version=(1, 0) if versioned else None)
        get = ctypes.pythonapi.PyCapsule_GetPointer
        get.restype, get.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
        address = get(self.capsule, b"dltensor_versioned" if versioned else b"dltensor")
        managed = Versioned.from_address(address) if versioned else None
        self.flags = managed.flags if managed else None
        self.tensor = managed.tensor if managed else DLTensor.from_address(address)

    @property
    def device(self):
        return self.tensor.device_type, self.tensor.device_id

    @property
    def shape(self):
        return tuple(self.tensor.shape[: self.tensor.ndim])

    @property
    def strides(self):
        return tuple(self.tensor.strides[: self.tensor.ndim])

    @property
    def address(self):
        return self.tensor.data + self.tensor.byte_offset

    def float32(self):
        """The same memory as an array, which must not outlive this."""
        assert (self.tensor.code, self.tensor.bits, self.tensor.lanes) == (2, 32, 1)
        count = int(np.prod(self.shape, dtype=np.int64))
        return np.ctypeslib.as_array((ctypes.c_float * count).from_address(self.address)).reshape(self.shape)
