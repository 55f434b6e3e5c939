"""The README's examples run as printed, one after the other, and what it says of the tree is true."""

import re
from pathlib import Path

import pytest

README = Path(__file__).parent.parent / "README.md"

pytestmark = pytest.mark.skipif(not README.exists(), reason="the tests do not lie in a source tree")


def test_the_examples_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    examples = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert examples

    exec(compile("\n".join(examples), "README.md", "exec"), {"__name__": "__main__"})

    accuracy = float(capsys.readouterr().out.split()[0])
    assert accuracy > 0.95
    assert (tmp_path / "digits.safetensors").exists()


def test_the_map_names_what_exists():
    tree = README.read_text(encoding="utf-8").split("## The tree")[1].split("## ")[0]
    lines = [line.split("  ")[0] for line in (line.strip() for line in tree.splitlines() if line.startswith("    "))]
    package = README.parent / "pymlp"

    for name in [name for line in lines for name in line.split()]:
        assert (README.parent / name).exists() or (package / name).exists(), name
