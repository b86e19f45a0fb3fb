"""Training: the heads that exist only then, the token bank, the curriculum and its loop."""

from hour_llava.train.heads import AnswerHead, AttributeProbe, evidence_loss
from hour_llava.train.tokenizer import build_tokenizer

__all__ = ["AnswerHead", "AttributeProbe", "build_tokenizer", "evidence_loss"]
