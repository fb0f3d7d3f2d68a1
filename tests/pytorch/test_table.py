"""PyTorch's and Hugging Face's rows of the table in docs/formats.md: packed, served over HTTP, beside torch itself."""

import base64
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
import transformers
from PIL import Image

import setpoint as sp
from formats_table import BATCH, check_row
from setpoint.engines import EngineOptions, Executable, load_executable
from setpoint.formats import PackOptions
from setpoint.registry import Bundle, Registry, pack_source

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
IMAGES = np.random.default_rng(0).standard_normal((BATCH, 1, 8, 8)).astype(np.float32)
TEXTS = [
    f"the weather in Bern is {word} today, as it was on day {day}"
    for day in range(16)
    for word in ("fine", "a", "b", "c")
]
Served = Callable[..., tuple[Bundle, Executable, sp.Service]]


class Net(torch.nn.Module):
    """A small convolutional net that gives logits."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = torch.nn.Conv2d(1, 16, 3, padding=1)
        self.linear = torch.nn.Linear(16 * 64, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        answer: torch.Tensor = self.linear(torch.relu(self.convolution(image)).flatten(1))
        return answer


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """Pack a source, load it with one thread and serve it."""
    monkeypatch.setenv("SETPOINT_HOME", str(tmp_path / "home"))
    torch.set_num_threads(1)
    opened: list[Any] = []

    def serve(source: Path, options: PackOptions | None = None) -> tuple[Bundle, Executable, sp.Service]:
        registry = Registry.default()
        bundle, _ = pack_source(source, name="model", options=options, registry=registry)
        opened.append(load_executable(bundle.manifest.variants[0], registry.folder(bundle), EngineOptions(threads=1)))
        opened.append(sp.serve("model", threads=1))
        return bundle, opened[-2], opened[-1]

    yield serve
    for one in opened:
        one.close()


def tensors(name: str, served: Served, source: Path, net: torch.nn.Module, options: PackOptions | None = None) -> None:
    bundle, executable, service = served(source, options)
    (takes,), (gives,) = bundle.manifest.signature.inputs, bundle.manifest.signature.outputs  # type: ignore[union-attr]

    def theirs(rows: int) -> np.ndarray:
        with torch.inference_mode():
            answer: np.ndarray = net(torch.from_numpy(IMAGES[:rows])).numpy()
        return answer

    np.testing.assert_allclose(service.infer({takes.name: IMAGES[:9]})[gives.name], theirs(9), rtol=1e-3, atol=1e-4)
    check_row(name, bundle.manifest, lambda rows: executable.run({takes.name: IMAGES[:rows]}), theirs)


def test_an_exported_program(tmp_path: Path, served: Served) -> None:
    net = Net().eval()
    free = {0: torch.export.Dim.DYNAMIC}
    program = torch.export.export(net, (torch.from_numpy(IMAGES[:3]),), dynamic_shapes=(free,))
    torch.export.save(program, str(tmp_path / "net.pt2"))
    tensors("PyTorch, exported program (.pt2)", served, tmp_path / "net.pt2", net)


@pytest.mark.slow
def test_a_module_and_its_weights(tmp_path: Path, served: Served) -> None:
    from safetensors.torch import save_file

    net = Net().eval()
    save_file(net.state_dict(), tmp_path / "net.safetensors")
    (tmp_path / "net.py").write_text(
        "import torch\n\n\nclass Net(torch.nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n"
        "        self.convolution = torch.nn.Conv2d(1, 16, 3, padding=1)\n"
        "        self.linear = torch.nn.Linear(16 * 64, 10)\n\n"
        "    def forward(self, image):\n"
        "        return self.linear(torch.relu(self.convolution(image)).flatten(1))\n\n\n"
        "def build_model():\n    return Net()\n\n\n"
        "def example_inputs():\n    return torch.randn(1, 1, 8, 8)\n"
    )
    tensors("PyTorch, module and weights (net.py, .safetensors)", served, tmp_path / "net.safetensors", net)


@pytest.mark.slow
def test_torchscript(tmp_path: Path, served: Served) -> None:
    net = torch.jit.script(Net().eval())
    net.save(str(tmp_path / "net.pt"))
    np.savez(tmp_path / "rows.npz", image=IMAGES)
    tensors("PyTorch, TorchScript (.pt)", served, tmp_path / "net.pt", net, PackOptions(sample=tmp_path / "rows.npz"))


def test_texts_of_a_hugging_face_folder(tmp_path: Path, served: Served) -> None:
    folder = tmp_path / "mood"
    net = bert("BertForSequenceClassification", folder, num_labels=3)
    tokens = transformers.AutoTokenizer.from_pretrained(folder)

    def theirs(rows: int) -> np.ndarray:
        with torch.inference_mode():
            answer: np.ndarray = (
                net(**tokens(TEXTS[:rows], padding=True, return_tensors="pt")).logits.softmax(1).numpy()
            )
        return answer

    bundle, executable, service = served(folder)
    given = [
        max(answer["scores"], key=lambda one: one["score"])["score"]
        for answer in service.call("classify", texts=TEXTS[:9])
    ]
    np.testing.assert_allclose(given, theirs(9).max(1), rtol=1e-3)
    check_row(
        "Hugging Face, text classification", bundle.manifest, caller(executable, "classify", "texts", TEXTS), theirs
    )


@pytest.mark.slow
def test_embeddings_of_a_hugging_face_folder(tmp_path: Path, served: Served) -> None:
    folder = tmp_path / "vectors"
    net = bert("BertModel", folder)
    tokens = transformers.AutoTokenizer.from_pretrained(folder)

    def theirs(rows: int) -> np.ndarray:
        inputs = tokens(TEXTS[:rows], padding=True, return_tensors="pt")
        with torch.inference_mode():
            mask = inputs["attention_mask"][..., None]
            vectors = (net(**inputs).last_hidden_state * mask).sum(1) / mask.sum(1)
            answer: np.ndarray = torch.nn.functional.normalize(vectors).numpy()
        return answer

    bundle, executable, service = served(folder)
    np.testing.assert_allclose(service.call("embed", texts=TEXTS[:9]), theirs(9), rtol=1e-2, atol=1e-4)
    check_row("Hugging Face, embeddings", bundle.manifest, caller(executable, "embed", "texts", TEXTS), theirs)


@pytest.mark.slow
def test_images_of_a_hugging_face_folder(tmp_path: Path, served: Served) -> None:
    folder = tmp_path / "eyes"
    torch.manual_seed(1)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    config = transformers.ViTConfig(image_size=32, patch_size=8, num_labels=4, **sizes)
    net = transformers.ViTForImageClassification(config).eval()
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    net.save_pretrained(folder)
    transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    prepare = transformers.AutoImageProcessor.from_pretrained(folder, use_fast=False)
    pictures = [
        Image.fromarray((np.random.default_rng(seed).random((48, 40, 3)) * 255).astype(np.uint8))
        for seed in range(BATCH)
    ]
    files = [png(picture) for picture in pictures]

    def theirs(rows: int) -> np.ndarray:
        opened = [Image.open(io.BytesIO(file)).convert("RGB") for file in files[:rows]]
        with torch.inference_mode():
            answer: np.ndarray = net(**prepare(opened, return_tensors="pt")).logits.softmax(1).numpy()
        return answer

    bundle, executable, service = served(folder)
    encoded = [base64.b64encode(file).decode() for file in files]
    given = [answer["score"] for answer in service.call("classify", images=encoded[:5])]
    np.testing.assert_allclose(given, theirs(5).max(1), rtol=1e-2)
    check_row(
        "Hugging Face, image classification",
        bundle.manifest,
        caller(executable, "classify", "images", encoded),
        theirs,
    )


def png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def caller(executable: Any, endpoint: str, argument: str, values: list[Any]) -> Callable[[int], Any]:
    bodies = {rows: [msgspec.json.encode({argument: values[:rows]})] for rows in (1, BATCH)}
    return lambda rows: executable.call(endpoint, bodies[rows])


def bert(kind: str, folder: Path, **settings: object) -> torch.nn.Module:
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    torch.manual_seed(1)
    made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.train_from_iterator(TEXTS, trainers.WordPieceTrainer(vocab_size=120, special_tokens=["[PAD]", "[UNK]"]))
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, unk_token="[UNK]", pad_token="[PAD]", model_max_length=48
    )
    fast.save_pretrained(folder)
    sizes = {"hidden_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 256}
    config = transformers.BertConfig(vocab_size=130, max_position_embeddings=64, pad_token_id=0, **sizes, **settings)
    model: torch.nn.Module = getattr(transformers, kind)(config).eval()
    for parameter in model.parameters():  # random ones as they come hardly depend on the text
        torch.nn.init.normal_(parameter, std=0.1)
    model.save_pretrained(folder)
    return model
