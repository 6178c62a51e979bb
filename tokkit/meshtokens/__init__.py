"""Tokenizers of meshes that are rules, not networks: they need no training and keep vertices and faces as they are, on a grid."""
