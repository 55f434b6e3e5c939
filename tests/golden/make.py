"""Makes the golden model files of this version: ``python tests/golden/make.py``.

One file of each kind that there is, and in expected.npz the rows and what each model said of them.  They are made once
for each version whose files differ, and never again: every later version must load them and predict the same.
"""

import sys
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER.parent))


def main():
    """Write what is not there yet."""
    import saved_models

    import pymlp

    expected = {"rows": saved_models.rows()}
    for name, model in saved_models.models().items():
        path = FOLDER / f"{name}.safetensors"
        if path.exists():
            sys.exit(f"{path} is there already; golden files are not made anew")
        pymlp.save(model, path)
        for method, values in saved_models.predictions(model).items():
            # texts as objects would need pickle
            expected[f"{name}.{method}"] = values.astype(str) if values.dtype == object else values
    np.savez_compressed(FOLDER / "expected.npz", **expected)


if __name__ == "__main__":
    main()
