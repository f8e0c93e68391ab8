"""The language part of `tiny` in small, for tests of what it learns from."""

SMALL = {
    'encoder.queries': 12,
    'encoder.width': 32,
    'language.width': 64,
    'language.ffn_width': 96,
    'language.layers': 2,
    'language.context_length': 128,
}
