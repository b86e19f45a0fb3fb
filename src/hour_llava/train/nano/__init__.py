"""Nano's training: the token bank, spliced videos, the heads that exist only then."""

from hour_llava.train.nano.heads import AnswerHead, AttributeProbe, evidence_loss
from hour_llava.train.nano.tokenizer import build_tokenizer

__all__ = ["AnswerHead", "AttributeProbe", "build_tokenizer", "evidence_loss"]
