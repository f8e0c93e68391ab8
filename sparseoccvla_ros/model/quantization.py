"""Pretrained language models with 4- or 8-bit weights, by bitsandbytes."""

from __future__ import annotations

import importlib.util

import torch
from transformers import BitsAndBytesConfig

from sparseoccvla_ros.model.config import Quantization


def quantization_config(kind: Quantization, dtype: torch.dtype) -> BitsAndBytesConfig:
    """transformers' settings. 4 bit: NormalFloat with quantized scales (QLoRA's), computed in ``dtype``. 8 bit: int8.

    Raises:
        ValueError: bitsandbytes is not installed, or there is no CUDA device for it.
    """
    if importlib.util.find_spec('bitsandbytes') is None:
        raise ValueError(f'language.quantization is {kind}; it needs bitsandbytes (pip install bitsandbytes)')
    if not torch.cuda.is_available():
        raise ValueError(f'language.quantization is {kind}; it needs a CUDA device, and this process sees none')
    if kind == '8bit':
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type='nf4',
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )
