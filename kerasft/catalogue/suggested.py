"""Which networks to begin with: a small, a good and a best one for each kind of data.

Only figures that were published, or measured by the experiments of this project, are in here.
"""

from __future__ import annotations

from typing import NamedTuple


class Suggestion(NamedTuple):
    """A network to begin with.

    Args:
        name: Its name in the catalogue.
        data: What it is for.
        grade: `"small"`, `"good"` or `"best"`.
        why: The figure that speaks for it.
    """

    name: str
    data: str
    grade: str
    why: str


SUGGESTED = (
    # docs/results.md, sst2_minilm: three seeds.
    Suggestion("all-MiniLM-L6-v2", "texts", "small", "88.4 % on SST-2"),
    # The model cards of microsoft/deberta-v3-small and -large at huggingface.co: F1 on SQuAD 2.0.
    Suggestion("deberta_v3_small_en", "texts", "good", "F1 of 82.8 on SQuAD 2.0"),
    Suggestion("deberta_v3_large_en", "texts", "best", "F1 of 91.5 on SQuAD 2.0"),
    # The table of keras.io/api/applications: top-1 accuracy on ImageNet.
    Suggestion("MobileNetV2", "images", "small", "71.3 % on ImageNet"),
    Suggestion("EfficientNetV2B0", "images", "good", "78.7 % on ImageNet"),
    Suggestion("EfficientNetV2L", "images", "best", "85.7 % on ImageNet"),
    # The model card of intfloat/multilingual-e5-small: average MRR@10 on Mr. TyDi.
    Suggestion("multilingual_e5_small", "many languages", "small", "MRR@10 64.4 on Mr. TyDi"),
    # The model card of microsoft/mdeberta-v3-base: XNLI, learned from English alone.
    Suggestion("deberta_v3_base_multi", "many languages", "good", "79.8 % XNLI, zero-shot"),
    # fairseq, examples/xlmr/README.md: XNLI, learned from translations too.
    Suggestion("xlm_roberta_large_multi", "many languages", "best",
               "83.6 % XNLI, translated"),
)  # fmt: skip
