"""Tiny causal models with tokenizers, saved by transformers itself, and fine-tunes of them.

Transformers is the oracle: what it loads from an output, and what it says of it.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

Make = Callable[[], Any]


def llama(*, tied: bool = False) -> Make:
    """Return what makes a Llama."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        hidden_size=16, intermediate_size=24, num_attention_heads=2,
        num_hidden_layers=2, vocab_size=32, max_position_embeddings=16,
        tie_word_embeddings=tied,
    )  # fmt: skip
    return lambda: LlamaForCausalLM(config)


def gpt2() -> Make:
    """Return what makes a GPT-2, whose head is its embedding."""
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        n_layer=1, n_head=2, n_embd=16, vocab_size=32, n_positions=16,
        bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    return lambda: GPT2LMHeadModel(config)


def save(folder: Path, make: Make, seed: int, dtype: torch.dtype) -> Path:
    """Save a model of random weights, with what transformers keeps beside it."""
    torch.manual_seed(seed)
    model = make().to(dtype)
    model.generation_config.max_length = 13
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def tokenizer() -> Any:
    """Return a tokenizer of 32 words with a chat template."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {f"w{i}": i for i in range(31)} | {"<unk>": 31}
    made = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    fast: Any = PreTrainedTokenizerFast
    found = fast(tokenizer_object=made, unk_token="<unk>")
    found.chat_template = "{% for m in messages %}{{ m['content'] }} {% endfor %}"
    return found
