"""Hugging Face folders: the worker's answers to texts and images are those of transformers."""

import io
import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from setpoint.core import InvalidConfiguration
from setpoint.formats import recognise

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
TEXTS = ["the weather is fine", "a terrible, terrible day in Bern", "ok"]
SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}


def tokenizer() -> transformers.PreTrainedTokenizerFast:
    made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    made.train_from_iterator(TEXTS * 5, trainers.WordPieceTrainer(vocab_size=120, special_tokens=special))
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]",
        model_max_length=32,
    )  # fmt: skip


def bert(kind: str, folder: Path, **settings: object) -> torch.nn.Module:
    torch.manual_seed(1)
    config = transformers.BertConfig(vocab_size=130, max_position_embeddings=40, pad_token_id=0, **SIZES, **settings)
    model = getattr(transformers, kind)(config).eval()
    for parameter in model.parameters():  # random ones as they come hardly depend on the text
        torch.nn.init.normal_(parameter, std=0.4)
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return model


def theirs(model: torch.nn.Module, folder: Path):
    inputs = transformers.AutoTokenizer.from_pretrained(folder)(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        return model(
            **{name: inputs[name] for name in ("input_ids", "attention_mask", "token_type_ids") if name in inputs}
        ), inputs


def ask(executable, endpoint: str, body: dict) -> list:
    (answer,) = executable.call(endpoint, [msgspec.json.encode(body)])
    assert answer.ok, answer.message
    return msgspec.json.decode(answer.body)


@pytest.mark.parametrize("problem", ["single_label_classification", "multi_label_classification"])
def test_text_classification(tmp_path: Path, pack, load_bundle, problem: str) -> None:
    labels = {0: "bad", 1: "fair", 2: "good"}
    model = bert(
        "BertForSequenceClassification", tmp_path / "mood", id2label=labels, num_labels=3, problem_type=problem
    )
    packed = pack(tmp_path / "mood")
    assert packed.manifest.lineage.format == "huggingface"
    assert any("tokens are those of transformers" in check for check in packed.manifest.lineage.checks)
    answers = ask(load_bundle(packed), "classify", {"texts": TEXTS})
    logits = theirs(model, tmp_path / "mood")[0].logits
    expected = logits.softmax(1) if problem.startswith("single") else logits.sigmoid()
    for answer, row in zip(answers, expected, strict=True):
        assert answer["label"] == labels[int(row.argmax())]
        scores = {one["label"]: one["score"] for one in answer["scores"]}
        np.testing.assert_allclose([scores[labels[position]] for position in range(3)], row, atol=1e-4)


def test_token_classification(tmp_path: Path, pack, load_bundle) -> None:
    labels = {0: "O", 1: "B-PLACE", 2: "I-PLACE"}
    model = bert("BertForTokenClassification", tmp_path / "places", id2label=labels, num_labels=3)
    answers = ask(load_bundle(pack(tmp_path / "places")), "tag", {"texts": TEXTS})
    outputs, inputs = theirs(model, tmp_path / "places")
    best = outputs.logits.argmax(2)
    assert any(answers)
    for row, (text, found) in enumerate(zip(TEXTS, answers, strict=True)):
        for entity in found:
            assert text[entity["start"] : entity["end"]] == entity["text"]
            token = inputs.char_to_token(row, entity["start"])
            assert labels[int(best[row, token])].endswith(entity["label"])
            assert 1 / 3 <= entity["score"] <= 1


def test_embeddings_are_pooled_and_reached_as_such(tmp_path: Path, pack, load_bundle) -> None:
    model = bert("BertModel", tmp_path / "sentences")
    packed = pack(tmp_path / "sentences")
    (endpoint,) = packed.manifest.endpoints
    assert (endpoint.task, endpoint.name) == ("embed", "embed")
    assert str(packed.manifest.signature).startswith("texts BYTES[-1] → output FP32[-1, 16]")
    outputs, inputs = theirs(model, tmp_path / "sentences")
    mask = inputs["attention_mask"][..., None]
    mean = (outputs.last_hidden_state * mask).sum(1) / mask.sum(1)
    expected = torch.nn.functional.normalize(mean, dim=1)
    executable = load_bundle(packed)
    np.testing.assert_allclose(ask(executable, "embed", {"texts": TEXTS}), expected, atol=1e-4)
    alone = [ask(executable, "embed", {"texts": [text]})[0] for text in TEXTS]
    np.testing.assert_allclose(alone, expected, atol=1e-4)


@pytest.mark.parametrize("size", [{"height": 16, "width": 16}, {"shortest_edge": 20}])
def test_image_classification(tmp_path: Path, pack, load_bundle, size: dict) -> None:
    torch.manual_seed(0)
    folder = tmp_path / "pictures"
    config = transformers.ViTConfig(
        image_size=16, patch_size=4, num_labels=3, id2label={0: "a", 1: "b", 2: "c"}, **SIZES
    )
    model = transformers.ViTForImageClassification(config).eval()
    model.save_pretrained(folder)
    settings = {"image_processor_type": "ViTImageProcessor", "size": size, "resample": 2, "do_rescale": True}
    settings |= {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4], "do_normalize": True, "do_resize": True}
    if "shortest_edge" in size:
        settings |= {"image_processor_type": "CLIPImageProcessor", "do_center_crop": True, "crop_size": 16}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    packed = pack(folder)
    assert any("prepared images are those of transformers" in check for check in packed.manifest.lineage.checks)
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 70, 3)).astype(np.uint8))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    (answer,) = load_bundle(packed).call("classify", [buffer.getvalue()], raw=True)
    (given,) = msgspec.json.decode(answer.body)
    processor = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")
    with torch.no_grad():
        expected = model(**processor(picture, return_tensors="pt")).logits.softmax(1)[0]
    assert given["label"] == "abc"[int(expected.argmax())]
    scores = {one["label"]: one["score"] for one in given["scores"]}
    np.testing.assert_allclose([scores[label] for label in "abc"], expected, atol=1e-4)


def changed(folder: Path, **settings: object) -> Path:
    config = json.loads((folder / "config.json").read_text()) | settings
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_what_is_not_served_is_said(tmp_path: Path, pack) -> None:
    folder = tmp_path / "folder"
    bert("BertModel", folder)
    for settings, said in (
        ({"architectures": ["LlamaForCausalLM"]}, "needs the language-model engine"),
        ({"architectures": ["BertForMaskedLM"]}, "served are text, token and image"),
        ({"auto_map": {"AutoModel": "mine.Model"}}, "brings Python of its own"),
    ):
        original = (folder / "config.json").read_text()
        with pytest.raises(InvalidConfiguration, match=said):
            pack(changed(folder, **settings))
        (folder / "config.json").write_text(original)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(InvalidConfiguration, match=r"has no tokenizer\.json"):
        pack(folder)


def test_weights_that_would_run_code_are_refused(tmp_path: Path, pack) -> None:
    class Payload:
        def __reduce__(self):
            return Path("/tmp/setpoint-was-here").touch, ()

    folder = tmp_path / "folder"
    bert("BertModel", folder)
    (folder / "model.safetensors").unlink()
    torch.save({"embeddings": Payload()}, folder / "pytorch_model.bin")
    assert recognise(folder).name == "huggingface"
    with pytest.raises(InvalidConfiguration, match="cannot be loaded by transformers"):
        pack(folder, trust=True)
    assert not Path("/tmp/setpoint-was-here").exists()
