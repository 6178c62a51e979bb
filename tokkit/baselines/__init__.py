"""Classical codecs that tokenizers are judged beside, one file each."""
