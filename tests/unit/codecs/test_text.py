import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from openmiro.codecs import build_text_encoder, load_text_encoder
from openmiro.codecs.text import PAD_ID, UNKNOWN_ID, WordEncoder, tokenize
from openmiro.core.errors import ConfigError, DataError, UnknownNameError
from openmiro.core.types import TextEncoder

CAPTIONS = ["a red square.", "a blue square, a red circle", "The RED triangle"]


def test_tokens_are_lower_case_words_and_single_punctuation_marks():
    assert tokenize("A dog's ball,  red-blue!! Ｗｉｄｅ") == [
        "a",
        "dog's",
        "ball",
        ",",
        "red",
        "-",
        "blue",
        "!",
        "!",
        "wide",
    ]


def test_vocabulary_is_by_count_then_alphabet():
    encoder = build_text_encoder("words").fit(CAPTIONS)
    assert encoder.settings.vocabulary == ("a", "red", "square", ",", ".", "blue", "circle", "the", "triangle")
    assert encoder.vocabulary_size == 11


def test_ids_and_mask():
    encoder = build_text_encoder("words", {"max_tokens": 4}).fit(CAPTIONS)
    ids, mask = encoder.encode(["a red zebra", "", "red red red red square"])
    assert ids.tolist() == [[2, 3, UNKNOWN_ID, PAD_ID], [PAD_ID] * 4, [3, 3, 3, 3]]
    assert mask.tolist() == [[True, True, True, False], [False] * 4, [True] * 4]
    assert (ids.dtype, mask.dtype) == (torch.int64, torch.bool)
    assert encoder.unknown_words("a red zebra") == ["zebra"]


def test_limits_of_the_vocabulary():
    assert build_text_encoder("words", {"min_count": 2}).fit(CAPTIONS).settings.vocabulary == ("a", "red", "square")
    assert build_text_encoder("words", {"max_size": 4}).fit(CAPTIONS).vocabulary_size == 4


@given(st.lists(st.text(max_size=30), min_size=1, max_size=8), st.randoms(use_true_random=False))
def test_the_order_of_captions_does_not_matter(captions, rng: random.Random):
    captions = [*captions, "a"]
    shuffled = rng.sample(captions, len(captions))
    encoder, other = build_text_encoder("words").fit(captions), build_text_encoder("words").fit(shuffled)
    assert encoder.fingerprint() == other.fingerprint()
    ids, mask = encoder.encode(captions)
    assert not (ids[mask] == UNKNOWN_ID).any()
    assert (ids[~mask] == PAD_ID).all()


def test_folder_round_trip(tmp_path):
    encoder = build_text_encoder("words", {"max_tokens": 7}).fit([*CAPTIONS, "un café"])
    encoder.save(tmp_path)
    again = load_text_encoder(tmp_path)
    assert isinstance(again, WordEncoder)
    assert isinstance(again, TextEncoder)
    assert (again.name, again.settings, again.fingerprint()) == ("words7", encoder.settings, encoder.fingerprint())


def test_bad_calls_say_what_to_do_instead():
    with pytest.raises(ConfigError, match="not fitted"):
        build_text_encoder("words").encode(["a"])
    with pytest.raises(DataError, match="no word"):
        build_text_encoder("words", {"min_count": 9}).fit(CAPTIONS)
    with pytest.raises(ConfigError, match="twice"):
        build_text_encoder("words", {"vocabulary": ["a", "a"]})
    with pytest.raises(UnknownNameError, match="words32"):
        load_text_encoder("word")
    assert load_text_encoder("words48").max_tokens == 48
