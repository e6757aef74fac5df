"""The tokenizer: one number a word, learned from captions; any other word is unknown, never an error."""

import random
from collections.abc import Iterable

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from training.captions import UNKNOWN_WORD, caption
from training.split import training_scenes

PAD, END, UNKNOWN = "<pad>", "</s>", "<unk>"  # in T5's order
_CAPTIONS = 20_000


def new_tokenizer(*, seed: int) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.WordLevel(unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.WordLevelTrainer(special_tokens=[PAD, END, UNKNOWN], show_progress=False)
    tokenizer.train_from_iterator(_captions(seed), trainer)
    end = tokenizer.token_to_id(END)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {END}", special_tokens=[(END, end)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        unk_token=UNKNOWN,
        model_max_length=512,
    )


def _captions(seed: int) -> Iterable[str]:
    dice = random.Random(seed)
    scenes = training_scenes()
    for _ in range(_CAPTIONS):
        yield caption(dice.choice(scenes), dice).replace(UNKNOWN_WORD, "")
