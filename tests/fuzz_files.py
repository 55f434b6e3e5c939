"""A fuzzer of model files that knows their structure.  ``python tests/fuzz_files.py --cases 1000000``

It takes the files of `saved_models.models`, changes bits and bytes, or the values, names, places and counts of the
header and of the JSON texts in it, and sets the digest anew, so that the change gets past it.  Each case must load or
be refused by ModelFormatError, in 50 ms of the processor and in the memory of a sound file; what loads must predict,
and be the same model after another round through a file.  A case is told by its number and the seed alone.  What breaks
the rule is made smaller and written to tests/corpus, which `test_fuzz_files.py` replays.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import random
import resource
import sys
import tempfile
import time
import warnings
from collections import Counter
from contextlib import suppress
from json.encoder import encode_basestring
from pathlib import Path

import numpy as np
import saved_models

import pymlp
from pymlp import losses
from pymlp.files import ModelFormatError
from pymlp.losses import CustomLoss

CORPUS = Path(__file__).parent / "corpus"
SECONDS = 0.05
# of the process's largest size beyond twice the file: what the allocator takes at once, and a sound small file
SLACK = 8 << 20
# a finding's files are tried this often at most while they are made smaller
ATTEMPTS = 400


class Pairs(list):
    """An object of JSON as its pairs, of which two may have one name."""


class Raw(str):
    """A text that stands in the JSON as it is."""


NUMBERS = [
    *(0, 1, -1, 2, 3, 4, 5, 7, 8, 64, 255, 256, 1000, 2**15, 2**31 - 1, 2**31, 2**32, 2**53, 2**61, 2**62, 2**63 - 1),
    *(2**63, 2**64 - 1, 2**64, 10**19, 10**20, 10**30, 0.0, 0.5, -0.5, 1.5, 1e-300, 1e300),
    *map(Raw, ["1e999", "-1e999", "NaN", "Infinity", "-Infinity", "-0", "-0.0", "1E400", "0.1e-5000"]),
    *(Raw("9" * 400), Raw("-" + "9" * 5000), Raw("0." + "3" * 3000)),
]
_WORDS = """
    pymlp 1 2 F32 F64 I64 U8 BF16 float32 float64 f4 <f4 f4,f4 (1000000000,)f8 01f4 O |O |b1 <i8 <U1 <U5 <U1000000000
    <U2147483647 |S5 <M8[s] MLPClassifier MLPRegressor Pipeline CompiledLoss CustomLoss Loss log_loss binary_log_loss
    hinge gaussian_nll quantile softmax logistic identity exp relu mean_deviation ascending lbfgs adam balanced auto
    layer binary multiclass multilabel-indicator os.system __class__ __init__ network_ params_ state.0 layers.0.weight
    layers.1.bias Optimizer eval {} [1] { a b
"""
STRINGS = [
    *_WORDS.split(),
    *("", "x" * 300, "y" * 20_000, "\0", "a\0b", "\n", "\u00e4", "\U0001f40d", '"', "\\"),
    *map(Raw, ('"\\ud800"', '"\\udc00\\ud800"', '"\\ud83d\\udc0d"', '"\\x"', '"', "'a'")),
]
OTHERS = [
    *(None, True, False, [], [[]], [0], [1, 2], [0, 0], [-1, 3], [None], ["a"], [[1, 2], [3]], Pairs()),
    *(Pairs([("array", "state.0")]), Pairs([("array", 3)]), Pairs([("layer", Pairs([("outputs", 3)]))])),
    *(Pairs([("keys", ["a"]), ("values", [1.0])]), Pairs([("keys", [[1]]), ("values", [1.0])])),
    *map(Raw, ("[" * 40 + "]" * 40, "[" * 50_000, "[" * 20_000 + "]" * 20_000, '{"a":' * 50, "", "nul", "tru", ",")),
    *map(Raw, ("[" + "[]," * 5000 + "[]]", "[" + "0," * 20_000 + "0]", "[" + "0," * 40_000 + "0]")),
    Raw("[" + ",".join(f'"{number}"' for number in range(9000)) + "]"),
]
KINDS = [*pymlp.files.ESTIMATORS, "AdamW", "SGD", "Cosine", "Step", "Quantile", "Huber", "LogLoss", "CompiledLoss"]
KINDS += ["CustomLoss", "Loss", "Optimizer", "CSVLog"]
PARAMETERS = [
    "function",
    "output_activation",
    "levels",
    "delta",
    "epochs",
    "weight_decay",
    "average",
    "warmup",
    "outputs",
]
WORDS = ["outputs", "activation", "inputs", "layers", "loss", "dtype", "shape", "data_offsets", "class", "parameters"]


def split(content):
    """The tree of a sound file's header, with the JSON texts in it as trees, and its data."""
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size], object_pairs_hook=Pairs)
    for name, value in header:
        if name == "__metadata__":
            value[:] = [
                (key, json.loads(text, object_pairs_hook=Pairs) if key in ("network", "state") else text)
                for key, text in value
                if key != "sha256"
            ]
    return header, content[8 + size :]


def text_of(value):
    """The JSON text of a tree."""
    kind = type(value)
    if kind is str:
        return encode_basestring(value)
    if kind is Raw:
        return value
    if kind is int:
        return repr(value)
    if kind is Pairs:
        return "{" + ", ".join([f"{text_of(name)}: {text_of(item)}" for name, item in value]) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(text_of, value)) + "]"
    return json.dumps(value)


def joined(header, data, digest="right"):
    """The file of a tree and its data; the digest is "right", "stale" or "none"."""
    packed = Pairs()
    for name, value in header:
        if name == "__metadata__" and isinstance(value, Pairs):
            value = Pairs(
                (key, item if isinstance(item, str) and not isinstance(item, Raw) else text_of(item))
                for key, item in value
            )
            if digest != "none":
                value.append(("sha256", "0" * 64))
        packed.append((name, value))
    encoded = text_of(packed).encode("utf-8", "surrogatepass")
    encoded += b" " * (-len(encoded) % 8)
    content = len(encoded).to_bytes(8, "little") + encoded + data
    if digest == "right":
        found = hashlib.sha256(content).hexdigest().encode()
        content = content.replace(b"0" * 64, found, 1)
    return content


def places(tree):
    """Every place in a tree, as the container and the index in it."""
    found = []
    waiting = [tree]
    while waiting:
        container = waiting.pop()
        found.extend((container, index) for index in range(len(container)))
        items = [item for _, item in container] if type(container) is Pairs else container
        waiting.extend(item for item in items if isinstance(item, list))
    return found


def _get(container, index):
    return container[index][1] if isinstance(container, Pairs) else container[index]


def _set(container, index, value):
    container[index] = (container[index][0], value) if isinstance(container, Pairs) else value


def _option(draw):
    parameters = Pairs((draw.choice(PARAMETERS), value_for(draw)) for _ in range(draw.randrange(3)))
    return Pairs([("option", draw.choice(KINDS)), ("parameters", parameters)])


def value_for(draw, old=None):
    """A value to stand where `old` stood: near to it, or anything."""
    if type(old) in (int, float) and draw.random() < 0.5:
        return draw.choice([old + 1, old - 1, -old, 2 * old, old / 2, float(old), int(abs(old)) if old == old else 0])
    if isinstance(old, str) and old and draw.random() < 0.4:
        at = draw.randrange(len(old))
        return draw.choice([old[:at], old[:at] + chr(draw.randrange(1, 0x300)) + old[at + 1 :], old * 2, old.upper()])
    kind = draw.random()
    if kind < 0.4:
        return draw.choice(NUMBERS)
    if kind < 0.75:
        return draw.choice(STRINGS)
    return _copied(draw.choice(OTHERS)) if kind < 0.95 else _option(draw)


def _copied(tree):
    if isinstance(tree, Pairs):
        return Pairs((name, _copied(item)) for name, item in tree)
    return [_copied(item) for item in tree] if isinstance(tree, list) else tree


def change_tree(draw, tree, others):
    """One change in place of the tree."""
    every = places(tree)
    container, index = draw.choice(every)
    kind = draw.randrange(10)
    if kind < 4:
        _set(container, index, value_for(draw, _get(container, index)))
    elif kind == 4:
        del container[index]
    elif kind == 5:
        container.insert(draw.randrange(len(container) + 1), _copied([container[index]])[0])
    elif kind == 6:
        other, place = draw.choice(every)
        old, new = _copied(_get(container, index)), _copied(_get(other, place))
        _set(container, index, new)
        if place < len(other):
            _set(other, place, old)
    elif kind == 7:
        other, place = draw.choice(places(draw.choice(others)[0]))
        _set(container, index, _copied(_get(other, place)))
    elif kind == 8 and isinstance(container, Pairs):
        name = draw.choice([value_for(draw, container[index][0]), draw.choice(WORDS), draw.choice(STRINGS)])
        container[index] = (name if isinstance(name, str) else str(name), container[index][1])
    else:
        value = _get(container, index)
        times = draw.choice([0, 2, 3, 50, 2000])
        if isinstance(value, list) and len(value) * times < 100_000:
            repeated = [_copied(item) for _ in range(times) for item in value]
            _set(container, index, Pairs(repeated) if isinstance(value, Pairs) else repeated)
        else:
            _set(container, index, [value] * times if draw.random() < 0.5 else [[value]])


def change_bytes(draw, content, others):
    """One change of the bytes."""
    content = bytearray(content)
    kind = draw.randrange(8)
    at = draw.randrange(len(content) + 1)
    if kind == 0 and at < len(content):
        content[at] ^= 1 << draw.randrange(8)
    elif kind == 1 and at < len(content):
        content[at] = draw.randrange(256)
    elif kind == 2:
        del content[at:]
    elif kind == 3:
        del content[at : at + draw.choice([1, 2, 8, 100])]
    elif kind == 4:
        content[at:at] = bytes(draw.randrange(256) for _ in range(draw.choice([1, 2, 8, 100])))
    elif kind == 5:
        other = draw.choice(others)
        start = draw.randrange(len(other))
        content[at : at + 50] = other[start : start + draw.choice([1, 8, 50, 1000])]
    elif kind == 6:
        length = draw.choice([0, 1, 7, 8, len(content), 2**31, 2**32, 2**63, 2**64 - 1, draw.randrange(10_000)])
        content[:8] = length.to_bytes(8, "little")
    else:
        content[at : at + 8] = draw.choice([b"\0" * 8, b"\xff" * 8, b"\x00\x00\xc0\x7f" * 2, b'"\\u"{}[]', b"        "])
    return bytes(content)


class Fuzzer:
    """Cases from sound files, and what must hold of them."""

    def __init__(self, seed, folder):
        self.seed, self.folder = seed, Path(folder)
        self.path, self.again = self.folder / "case", self.folder / "again"
        self.files = []
        for model in saved_models.models().values():
            pymlp.save(model, self.path)
            self.files.append(self.path.read_bytes())
        self.trees = [split(content) for content in self.files]
        self.counts = Counter()
        self.rows = saved_models.rows()

    def case(self, number):
        """The bytes of a case."""
        draw = random.Random(f"{self.seed}.{number}")
        if draw.random() < 0.2:
            content = draw.choice(self.files)
            for _ in range(draw.choice([1, 1, 1, 2, 5])):
                content = change_bytes(draw, content, self.files)
            return content
        header, data = draw.choice(self.trees)
        header = _copied(header)
        for _ in range(draw.choice([1, 1, 1, 1, 2, 3])):
            if not header:
                break
            change_tree(draw, header, self.trees)
        if draw.random() < 0.1:
            data = change_bytes(draw, data, self.files)
        return joined(header, data, draw.choice(["right"] * 8 + ["none", "stale"]))

    def broken(self, content):
        """What is wrong with how a file is read, or None."""
        self.path.write_bytes(content)
        largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        start = time.process_time()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                model = pymlp.load(self.path)
        except ModelFormatError as error:
            model = None
            self.counts["refused"] += 1
            if "\n" in str(error) or len(str(error)) > 2000:
                return f"the message is no line: {str(error)[:100]!r}"
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            return f"{type(error).__name__} in load: {error}"
        if time.process_time() - start > SECONDS and min(map(self._seconds, range(5))) > SECONDS:
            return "slow"
        grown = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - largest)
        if grown > 2 * len(content) + SLACK:
            return f"{grown} bytes of memory for a file of {len(content)}"
        return None if model is None else self._inconsistent(model)

    def _seconds(self, _):
        start = time.process_time()
        with suppress(ModelFormatError):
            pymlp.load(self.path)
        return time.process_time() - start

    def _inconsistent(self, model):
        self.counts["loaded"] += 1
        network = model[0] if isinstance(model, tuple) else model.network_
        parameters = {} if isinstance(model, tuple) else model.get_params()
        for loss in (network.loss, parameters.get("loss")):
            if isinstance(loss, CustomLoss) and loss.function is not losses._not_stored:
                return f"code from a file: {loss}"
        X = np.resize(self.rows, (5, network.inputs)).astype(network.dtype)
        try:
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")
                before = saved_models.predictions(model, X)
                pymlp.save(model, self.again)
                content = self.again.read_bytes()
                model = pymlp.load(self.again)
                pymlp.save(model, self.again)
                after = saved_models.predictions(model, X)
        except Exception as error:
            return f"{type(error).__name__} after load: {error}"
        if self.again.read_bytes() != content:
            return "another file after a round trip"
        if any(len(values) != 5 for values in before.values()):
            return "predictions for another number of rows"
        same = all(
            np.asarray(values).tobytes() == np.asarray(after[name]).tobytes() or values.dtype == object
            for name, values in before.items()
        )
        return None if same else "other predictions after a round trip"

    def smaller(self, content, found):
        """A file as small as a few attempts make it that is broken in the same way."""
        kind = found.split(":")[0]
        attempts, size = 0, max(len(content) // 2, 1)
        while size and attempts < ATTEMPTS:
            at = 0
            while at < len(content) and attempts < ATTEMPTS:
                attempts += 1
                for candidate in (content[:at] + content[at + size :], redigested(content[:at] + content[at + size :])):
                    if len(candidate) < len(content) and (self.broken(candidate) or "").split(":")[0] == kind:
                        content = candidate
                        break
                else:
                    at += size
            size //= 2
        return content


def redigested(content):
    """The same bytes with the header's length and, where they have one, the digest set right."""
    end = content.rfind(b"}", 8) + 1
    content = (end - 8).to_bytes(8, "little") + content[8:] if end > 8 else content
    place = content.rfind(b'"sha256": "')
    if place < 0 or len(content) < place + 75:
        return content
    place += len(b'"sha256": "')
    blank = content[:place] + b"0" * 64 + content[place + 64 :]
    return blank[:place] + hashlib.sha256(blank).hexdigest().encode() + blank[place + 64 :]


def run(cases, seed, first=0, seconds=float("inf"), progress=False):
    """Run cases; returns the fuzzer with its counts, and the findings as (number, what, bytes)."""
    findings = []
    memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        fuzzer = Fuzzer(seed, folder)
        for content in fuzzer.files:
            assert fuzzer.broken(content) is None, fuzzer.broken(content)
        fuzzer.counts.clear()
        start = time.perf_counter()
        for number in range(first, first + cases):
            content = fuzzer.case(number)
            fuzzer.counts["cases"] += 1
            found = fuzzer.broken(content)
            if found:
                findings.append((number, found, fuzzer.smaller(content, found)))
                print(f"case {number}: {found}", flush=True)
            if progress and number % 20_000 == 0:
                rate = fuzzer.counts["cases"] / (time.perf_counter() - start)
                print(f"{number:,}: {rate:,.0f} cases a second, {dict(fuzzer.counts)}", flush=True)
            if time.perf_counter() - start > seconds:
                break
    return fuzzer, findings


def main():
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=float("inf"))
    arguments = parser.parse_args()
    start = time.perf_counter()
    fuzzer, findings = run(arguments.cases, arguments.seed, arguments.first, arguments.seconds, progress=True)
    for number, found, content in findings:
        CORPUS.mkdir(exist_ok=True)
        name = f"{arguments.seed}-{number}.bin"
        (CORPUS / name).write_bytes(content)
        print(f"{name}, {len(content)} bytes: {found}")
    counts = fuzzer.counts
    versions = f"pymlp {pymlp.__version__}, Python {platform.python_version()}, NumPy {np.__version__}"
    print(
        f"{counts['cases']:,} cases from {arguments.first:,} on with seed {arguments.seed}: "
        f"{counts['loaded']:,} loaded, {counts['refused']:,} were refused, {len(findings)} findings; "
        f"{time.perf_counter() - start:.0f} s, {versions}"
    )
    sys.exit(bool(findings))


if __name__ == "__main__":
    main()
