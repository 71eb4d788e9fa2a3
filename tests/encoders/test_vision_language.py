from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from kinema.encoders.vision_language import VisionLanguage
from kinema.errors import CheckpointError

transformers = pytest.importorskip("transformers", reason="needs the captions extra")
tokenizers = pytest.importorskip("tokenizers", reason="needs the captions extra")

WORDS = [
    "<pad>",
    "<s>",
    "</s>",
    "<unk>",
    "<image>",
    "user",
    "what",
    "is",
    "this",
    "a",
    "dog",
    "runs",
    "merge",
]
TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }} {% if message['content'] is string %}"
    "{{ message['content'] }}{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image> {% else %}{{ part['text'] }} {% endif %}{% endfor %}{% endif %}"
    "{% endfor %}"
)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A vision-language model with chance weights and thirteen words."""
    folder = tmp_path_factory.mktemp("tiny-llava")
    words = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({word: place for place, word in enumerate(WORDS)}, unk_token="<unk>")
    )
    words.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    pictures = transformers.CLIPImageProcessorPil(
        size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}
    )
    transformers.LlavaProcessor(
        image_processor=pictures,
        tokenizer=tokenizer,
        patch_size=8,
        vision_feature_select_strategy="full",
        image_token="<image>",
        num_additional_image_tokens=1,
        chat_template=TEMPLATE,
    ).save_pretrained(folder)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    torch.manual_seed(3)
    config = transformers.LlavaConfig(
        vision_config=transformers.CLIPVisionConfig(**sizes, image_size=16, patch_size=8, projection_dim=16),
        text_config=transformers.LlamaConfig(
            **sizes, vocab_size=len(WORDS), pad_token_id=0, bos_token_id=1, eos_token_id=2
        ),
        image_token_index=4,
        image_seq_length=5,
        vision_feature_select_strategy="full",
        vision_feature_layer=-1,
    )
    transformers.LlavaForConditionalGeneration(config).save_pretrained(folder)
    return folder


def pictures(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (count, 40, 60, 3)).astype(np.uint8)


def test_answers_about_pictures_and_about_words(tiny: Path) -> None:
    captioner = VisionLanguage("cpu", max_tokens=8)
    one = captioner.answer(str(tiny), "what is this", pictures(1))
    assert set(one.split()) <= set(WORDS)
    assert 1 <= len(one.split()) <= 8
    assert captioner.answer(str(tiny), "what is this", pictures(1)) == one
    for shown in (pictures(3), None):
        assert captioner.answer(str(tiny), "merge a dog", shown)


def test_the_prompt_is_no_part_of_the_answer(tiny: Path) -> None:
    answer = VisionLanguage("cpu", max_tokens=1).answer(str(tiny), "what is this", None)
    assert len(answer.split()) == 1


def test_a_folder_without_a_model_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no vision-language model can be loaded") as caught:
        VisionLanguage("cpu").answer(str(tmp_path), "what", None)
    assert "\n" not in str(caught.value)
    with pytest.raises(CheckpointError, match="gone: no such folder"):
        VisionLanguage("cpu").answer(str(tmp_path / "gone"), "what", None)
