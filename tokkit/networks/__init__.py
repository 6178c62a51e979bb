"""Encoders and decoders. A pair shares a file, so that strides mirror; latents are [B, N, D] beside a grid."""
