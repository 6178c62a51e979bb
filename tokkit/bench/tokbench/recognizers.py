"""What reads words. Scores by different recognizers are different metrics, so each has its own names.

`t_acc` and `t_ned` are those of docTR's parseq, which the published numbers and the published ground truth come from. Every other
recognizer stands behind a slash: `t_acc/rapidocr`.
"""

from __future__ import annotations

import importlib.util
import pickle
from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from tokkit.bench.tokbench.layout import Word
from tokkit.errors import InputError
from tokkit.weights import find_weights

Crop = NDArray[np.uint8]
PARSEQ_FILE = "parseq-56125471.pt"
_PARSEQ_URL = f"https://doctr-static.mindee.com/models?id=v0.7.0/{PARSEQ_FILE}"
_HEIGHT, _WIDTH = 32, 128
_RAPID_RATIO = 320 / 48
_RAPID_CROPS = 2
"""A call of the network. 16 take a third more processor time for each, and ten times the memory."""
_RAPID_THREADS = 32
"""At most: each takes about 20 MB."""


class Recognizer(ABC):
    """Base of recognizers.

    Attributes:
        name: "parseq", "rapidocr", "tesseract".
        suffix: of its metrics' names; "" for the published one.
        batch_size: words that are handed over together, in the order of the annotations.
        batch_matters: a reading depends on the other words of its batch, so words that no bucket counts have to be read as well.
    """

    name: ClassVar[str]
    suffix: ClassVar[str]
    batch_size: ClassVar[int]
    batch_matters: ClassVar[bool] = False

    @abstractmethod
    def read(self, crops: Sequence[Crop], texts: Sequence[str]) -> list[str] | None:
        """What stands in each crop [h, w, 3] RGB.

        Args:
            crops: none is empty.
            texts: the true words; only the published protocol looks at them.

        Returns:
            None where the protocol leaves the whole batch out.
        """

    def metric_names(self) -> tuple[str, str]:
        return f"t_acc{self.suffix}", f"t_ned{self.suffix}"


class Parseq(Recognizer):
    """docTR's parseq, weights v0.7.0, as TokBench calls it.

    The model is given the true words and decodes as far as the longest of a batch, so a reading depends on the batch: batches of 64 in the
    order of the annotations, set by set, give the published numbers. A batch with a symbol outside the vocabulary is left out whole.
    """

    name = "parseq"
    suffix = ""
    batch_size = 64
    batch_matters = True

    def __init__(self, *, weights: str | None = None, device: str | torch.device = "cpu"):
        """
        Raises:
            InputError: docTR or the weights are not there, or the file holds something else.
        """
        if importlib.util.find_spec("doctr") is None:
            raise InputError("recognizer 'parseq': docTR is not installed (pip install python-doctr)")
        file = find_weights(PARSEQ_FILE, path=weights, url_hint=_PARSEQ_URL)
        from doctr.datasets import VOCABS
        from doctr.models.recognition import parseq

        self.device = torch.device(device)
        self.model: Any = parseq(pretrained=False, input_shape=(3, _HEIGHT, _WIDTH), vocab=VOCABS["french"])
        try:
            self.model.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
        except (OSError, RuntimeError, TypeError, EOFError, pickle.UnpicklingError) as error:
            raise InputError(f"{file} does not hold docTR's weights {PARSEQ_FILE} for its vocabulary 'french'") from error
        self.model = self.model.eval().to(self.device)

    @torch.inference_mode()
    def read(self, crops: Sequence[Crop], texts: Sequence[str]) -> list[str] | None:
        from torchvision.transforms.functional import normalize

        batch = torch.stack([fit_crop(crop) for crop in crops]).to(self.device)
        batch = normalize(batch, self.model.cfg["mean"], self.model.cfg["std"])
        if any(symbol not in self.model.vocab for text in texts for symbol in text):
            return None
        return [word for word, _ in self.model(batch, list(texts), return_preds=True)["preds"]]


def fit_crop(crop: Crop) -> torch.Tensor:
    """A crop as float [3, 32, 128] in [0, 1]: scaled to fit (bilinear, antialiased), zeros at the right and below (docTR's Resize)."""
    from torchvision.transforms.functional import resize

    values = torch.from_numpy(np.ascontiguousarray(crop)).permute(2, 0, 1).float() / 255
    ratio = crop.shape[0] / crop.shape[1]
    tall = ratio > _HEIGHT / _WIDTH
    size = [_HEIGHT, max(int(_HEIGHT / ratio), 1)] if tall else [max(int(_WIDTH * ratio), 1), _WIDTH]
    values = resize(values, size, antialias=True)
    return torch.nn.functional.pad(values, (0, _WIDTH - size[1], 0, _HEIGHT - size[0]))


class RapidOcr(Recognizer):
    """PP-OCRv4's recognizer (Chinese and English) through rapidocr-onnxruntime, whose package holds the weights.

    Crops up to 6.67 times as wide as high are padded to the same width, and wider ones read alone, so no reading depends on its batch.
    Each thread reads crops of its own: a network so small gains little from several threads for one crop.
    """

    name = "rapidocr"
    suffix = "/rapidocr"
    batch_size = 512

    def __init__(self, *, threads: int | None = None):
        """
        Args:
            threads: that read; torch's number when not given, at most 32.

        Raises:
            InputError: rapidocr-onnxruntime is not installed.
        """
        if importlib.util.find_spec("rapidocr_onnxruntime") is None:
            raise InputError("recognizer 'rapidocr': the package is not installed (pip install rapidocr-onnxruntime)")
        from importlib.metadata import version
        from pathlib import Path

        import rapidocr_onnxruntime
        from rapidocr_onnxruntime.ch_ppocr_rec import TextRecognizer

        model = Path(rapidocr_onnxruntime.__file__).parent / "models" / "ch_PP-OCRv4_rec_infer.onnx"
        self.version = version("rapidocr-onnxruntime")
        self._reader: Any = TextRecognizer(
            {
                "model_path": str(model),
                "intra_op_num_threads": 1,
                "inter_op_num_threads": 1,
                "use_cuda": False,
                "use_dml": False,
                "rec_img_shape": [3, 48, 320],
                "rec_batch_num": _RAPID_CROPS,
            }
        )
        self._threads = ThreadPoolExecutor(threads or min(torch.get_num_threads(), _RAPID_THREADS), "tokkit-read")

    def read(self, crops: Sequence[Crop], texts: Sequence[str]) -> list[str]:
        narrow = [i for i, crop in enumerate(crops) if crop.shape[1] / crop.shape[0] <= _RAPID_RATIO]
        groups = [narrow[start : start + _RAPID_CROPS] for start in range(0, len(narrow), _RAPID_CROPS)]
        groups += [[i] for i in sorted(set(range(len(crops))) - set(narrow))]

        def read_group(group: list[int]) -> list[str]:
            readings, _ = self._reader([np.ascontiguousarray(crops[i][..., ::-1]) for i in group])
            return [text for text, *_ in readings]

        found = [""] * len(crops)
        for group, texts_found in zip(groups, self._threads.map(read_group, groups), strict=True):
            for i, text in zip(group, texts_found, strict=True):
                found[i] = text
        return found


def crop_word(pixels: Crop, word: Word) -> Crop:
    """The word's part of a picture [H, W, 3]: its box without a margin, or its four corners turned straight.

    As docTR does it: the corners are mapped by the affine transform of the first three of them, bilinear.
    """
    box = np.asarray(word.box)
    if box.ndim == 1:
        x1, y1, x2, y2 = box
        return pixels[y1:y2, x1:x2]
    import cv2

    corners = box[:3].astype(np.float32)
    width, height = (float(np.linalg.norm(corners[i] - corners[i + 1])) for i in (0, 1))
    if int(width) < 1 or int(height) < 1:
        return np.zeros((0, 0, 3), np.uint8)
    target = np.array([[0, 0], [width - 1, 0], [width - 1, height - 1]], dtype=np.float32)
    turned = cv2.warpAffine(pixels, cv2.getAffineTransform(corners, target), (int(width), int(height)))
    return np.asarray(turned, dtype=np.uint8)


RECOGNIZERS = ("parseq", "rapidocr", "tesseract")


def build_recognizer(name: str, *, weights: str | None = None, device: str | torch.device = "cpu") -> Recognizer:
    """A recognizer by name.

    Raises:
        InputError: there is none of that name, or it lacks its package or weights.
    """
    if name == "parseq":
        return Parseq(weights=weights, device=device)
    if name == "rapidocr":
        return RapidOcr()
    if name == "tesseract":
        from tokkit.bench.tokbench.tesseract import Tesseract

        return Tesseract()
    raise InputError(f"no recognizer {name!r}; there are {', '.join(RECOGNIZERS)}")
