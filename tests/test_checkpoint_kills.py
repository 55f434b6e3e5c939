"""Checkpoints under real kills and real errors of the system; what is done to them stands in checkpoint_victims.py."""

import errno
import json
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="the estimators need scikit-learn")

from pymlp import MLPClassifier, checkpoints
from pymlp.replacement import previous_of

pytestmark = [
    pytest.mark.slow,
    # a machine may be busy
    pytest.mark.timeout(900),
    pytest.mark.skipif(sys.platform != "linux", reason="kills, preloading and tmpfs are done as on Linux"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]

KILLS = 300
HERE = Path(__file__).parent


def victims(*arguments, preload=None):
    """What checkpoint_victims.py has done."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE.parent), str(HERE)]), "OMP_NUM_THREADS": "1"}
    if preload is not None:
        environment["LD_PRELOAD"] = str(preload)
    command = [sys.executable, str(HERE / "checkpoint_victims.py"), *map(str, arguments)]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr + ended.stdout
    return json.loads(ended.stdout)


def test_kills_at_random_moments(tmp_path):
    done = victims("moments", tmp_path, KILLS)
    print(done)
    done.pop("finished before")
    assert sum(done.values()) == KILLS


def test_faults_at_each_call(tmp_path):
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("call_faults.c needs a C compiler (cc)")
    faults = tmp_path / "call_faults.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", faults, HERE / "call_faults.c", "-ldl"], check=True)
    (tmp_path / "fits").mkdir()
    done = victims("calls", tmp_path / "fits", preload=faults)
    print(json.dumps(done, indent=1))
    for outcomes in done.values():
        # looked for, opened, locked, written, synchronised, renamed, closed: a checkpoint makes so many calls at least
        assert outcomes["killed"]["killed"] >= 12
        for fault in ("no space", "input/output error"):
            assert {"write", "fsync"} <= set(outcomes[fault]["OSError"])
            assert not {"write", "fsync", "rename", "link"} & set(outcomes[fault]["went on"])
        assert set(outcomes["disk full"]["OSError"]) == {"write"}
        assert outcomes["short write"]["OSError"] == []
        assert set(outcomes["short write"]["went on"]) == {"write"}


@contextmanager
def small_disk(folder, size):
    """A file system of its own; skips where none can be mounted."""
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"a tmpfs cannot be mounted: {mounted.stderr.strip()}")
    try:
        yield lambda options: subprocess.run(["mount", "-o", f"remount,{options}", folder], check=True)
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.fixture
def data():
    draw = np.random.RandomState(0)
    X = draw.normal(size=(300, 10))
    return X, (X[:, 0] > 0).astype(int)


def model_of(epochs):
    return MLPClassifier(90, batch_size=100, max_iter=epochs, random_state=0)


def test_a_full_disk(data, tmp_path):
    expected = model_of(6).fit(*data)
    with small_disk(tmp_path / "disk", "64k") as remount:
        path = tmp_path / "disk" / "c"
        model_of(3).fit(*data, checkpoint=path)
        old = path.read_bytes()
        # there is room for this one and not for another
        assert 32_000 < len(old) < 65_536
        model = model_of(6)
        with pytest.raises(OSError, match="No space left") as caught:
            model.fit(*data, checkpoint=path, checkpoint_every=1, resume=True)
        assert caught.value.errno == errno.ENOSPC
        assert caught.value.filename == str(path)
        assert not hasattr(model, "params_")
        assert os.listdir(path.parent) == ["c"]
        assert path.read_bytes() == old
        remount("size=10m")
        model.fit(*data, checkpoint=path, checkpoint_every=1, resume=True)
        assert model.params_.tobytes() == expected.params_.tobytes()
        assert sorted(os.listdir(path.parent)) == ["c", "c.previous"]


def test_a_disk_that_can_only_be_read(data, tmp_path):
    expected = model_of(6).fit(*data)
    with small_disk(tmp_path / "disk", "10m") as remount:
        path = tmp_path / "disk" / "c"
        model_of(3).fit(*data, checkpoint=path, checkpoint_every=1)
        old = path.read_bytes(), previous_of(path).read_bytes()
        remount("ro")
        model = model_of(6)
        with pytest.raises(OSError, match="Read-only file system"):
            model.fit(*data, checkpoint=path, resume=True)
        assert not hasattr(model, "params_")
        assert (path.read_bytes(), previous_of(path).read_bytes()) == old
        assert checkpoints.find(path).run["epochs"] == 3
        remount("rw")
        assert model.fit(*data, checkpoint=path, resume=True).params_.tobytes() == expected.params_.tobytes()


def test_a_folder_that_must_not_be_written_to(data, tmp_path):
    if os.geteuid() == 0:
        pytest.skip("the superuser may write to any folder; test_a_disk_that_can_only_be_read shows the same")
    path = tmp_path / "folder" / "c"
    path.parent.mkdir()
    model_of(3).fit(*data, checkpoint=path)
    old = path.read_bytes()
    path.parent.chmod(0o500)
    try:
        with pytest.raises(PermissionError):
            model_of(6).fit(*data, checkpoint=path, resume=True)
    finally:
        path.parent.chmod(0o700)
    assert path.read_bytes() == old
    assert os.listdir(path.parent) == ["c"]
