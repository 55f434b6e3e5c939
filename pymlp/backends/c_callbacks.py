"""A predictor of the C engine as functions that other programs call by their addresses; see csrc/callables.c."""

from __future__ import annotations

from typing import Any

import numpy as np

from pymlp._engine import ffi, lib


class Callback:
    """What such a function is handed as its user data: the record behind it, and what must live as long.

    Parameters
    ----------
    predictor : pymlp.backends.c.Predictor
    scale : pair of ndarray of shape (columns,), optional
        What the columns are multiplied by, and what is then added; of the network's dtype.
    column : int
        The one that a function of one number gives.
    """

    def __init__(self, predictor: Any, scale: tuple[np.ndarray, np.ndarray] | None, column: int) -> None:
        network = predictor.network
        self._record = ffi.new("pymlp_callback *")
        self._record.predictor = ffi.cast("pymlp_predictor *", predictor.entry[1])
        self._record.dtype = 8 * np.dtype(network.dtype).itemsize
        self._record.column, self._record.inputs, self._record.columns = column, network.inputs, predictor.columns
        self._owner, self._scale = predictor, None
        if scale is not None:
            # copies that nobody else can change
            self._scale = [np.array(numbers, network.dtype) for numbers in scale]
            self._record.scale, self._record.shift = map(ffi.from_buffer, self._scale)

    @property
    def address(self) -> int:
        """Where the record lies."""
        return int(ffi.cast("uintptr_t", self._record))

    @property
    def __array_interface__(self) -> dict[str, Any]:
        """The record as an array of NumPy's, which keeps this object alive."""
        size = ffi.sizeof("pymlp_callback") // 8
        return {"data": (self.address, False), "shape": (size,), "typestr": np.dtype(np.int64).str, "version": 3}

    def function(self, name: str) -> int:
        """Address of a function of callables.c."""
        return int(ffi.cast("uintptr_t", ffi.addressof(lib, name)))
