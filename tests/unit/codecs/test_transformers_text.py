import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

from openmiro.codecs import build_text_encoder, load_text_encoder
from openmiro.core.errors import ConfigError, DamagedFileError, MissingFileError, ProvenanceError

WORDS = ["<pad>", "</s>", "<unk>", "a", "red", "blue", "square", "circle"]


def save_tokenizer(folder):
    raw = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")
    fast.save_pretrained(folder)


def tiny_t5():
    torch.manual_seed(0)
    return T5ForConditionalGeneration(
        T5Config(
            vocab_size=len(WORDS), d_model=16, d_kv=4, d_ff=32, num_layers=2, num_heads=4, decoder_start_token_id=0
        )
    ).eval()


@pytest.fixture
def folder(tmp_path):
    target = tmp_path / "tiny-t5"
    tiny_t5().save_pretrained(target)
    save_tokenizer(target)
    return target


def encoder(folder, **changes):
    return build_text_encoder("transformers", {"source": str(folder), "max_tokens": 6, "dtype": "float32", **changes})


def test_features_are_those_of_the_encoder_alone(folder):
    features, mask = encoder(folder).encode(["a red square", "blue"])
    assert features.shape == (2, 6, 16)
    assert mask.tolist() == [[True] * 3 + [False] * 3, [True] + [False] * 5]
    with torch.no_grad():
        expected = tiny_t5().encoder(input_ids=torch.tensor([[3, 4, 6]])).last_hidden_state[0]
    torch.testing.assert_close(features[0, :3], expected, atol=1e-5, rtol=1e-5)
    assert not features[~mask].any()
    assert encoder(folder).dim == 16
    assert not hasattr(encoder(folder).model, "decoder")


def test_padding_and_neighbors_do_not_change_a_caption(folder):
    alone = encoder(folder).encode(["blue circle"]).text[0]
    together = encoder(folder).encode(["a red square", "blue circle"]).text[1]
    torch.testing.assert_close(alone, together, atol=1e-6, rtol=1e-5)


def test_empty_text_is_the_null_text_and_long_text_is_cut(folder):
    features, mask = encoder(folder).encode(["", "a " * 50])
    assert not mask[0].any()
    assert not features[0].any()
    assert mask[1].all()


def test_folder_round_trip_carries_weights_and_tokenizer(folder, tmp_path):
    first = encoder(folder)
    first.save(tmp_path / "saved")
    expected, name, print_ = first.encode(["a red square"]).text, first.name, first.fingerprint()
    (folder / "config.json").unlink()
    again = load_text_encoder(tmp_path / "saved")
    assert (again.name, again.fingerprint(), again.max_tokens) == (name, print_, 6)
    assert name == "tiny-t5-6"
    assert torch.equal(again.encode(["a red square"]).text, expected)
    assert str(folder) not in (tmp_path / "saved" / "encoder.json").read_text()


def test_float16_is_refused_for_t5_only_with_the_reason(folder, tmp_path):
    with pytest.raises(ConfigError, match=r"t5 encoder cannot run in float16: .*NaN.*bfloat16 or float32"):
        encoder(folder, dtype="float16").encode(["a"])
    assert encoder(folder, dtype="bfloat16").encode(["a"]).text.dtype == torch.float32
    config = BertConfig(
        vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    BertModel(config).save_pretrained(tmp_path / "bert")
    save_tokenizer(tmp_path / "bert")
    assert encoder(tmp_path / "bert", dtype="float16").encode(["a red"]).text.shape == (1, 6, 16)


def test_changed_weights_are_noticed(folder, tmp_path):
    encoder(folder, keep="reference").save(tmp_path / "saved")
    model = tiny_t5()
    torch.nn.init.ones_(model.shared.weight)
    model.save_pretrained(folder)
    with pytest.raises(ProvenanceError, match="not the one"):
        load_text_encoder(tmp_path / "saved").encode(["a"])


def test_pickled_weights_are_never_read(folder):
    (folder / "model.safetensors").unlink()
    torch.save(tiny_t5().state_dict(), folder / "pytorch_model.bin")
    with pytest.raises(DamagedFileError, match="safetensors"):
        encoder(folder).encode(["a"])


def test_bad_sources(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(MissingFileError, match="not in the local cache"):
        encoder("nobody/no-such-encoder").encode(["a"])
    with pytest.raises(MissingFileError, match=r"config\.json"):
        encoder(tmp_path).encode(["a"])
    with pytest.raises(ConfigError, match="float8"):
        encoder(tmp_path, dtype="float8")
