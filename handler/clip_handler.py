"""The one class TorchServe calls: a batch of requests in, one vector or one clear refusal for each, in order.

TorchServe takes the single class of this module as the handler, and answers 503 for a whole batch when `handle`
raises; so a row that cannot be embedded gets its own status and never an exception. The reply formats are written
down in docs/operating.md under "The wire between the two".
"""

from __future__ import annotations

import json
import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import clip_inputs
import clip_model
import clip_runtime
import numpy as np
import numpy.typing as npt

logger = logging.getLogger(__name__)


class ClipHandler:
    """`initialize` once a worker, then `handle` = preprocess -> inference -> postprocess once a batch."""

    def initialize(self, context: Any) -> None:
        """Load what `handler.build_mar` put into the archive. Called by TorchServe when a worker starts."""
        properties = context.system_properties
        folder = Path(properties["model_dir"])
        options = context.model_yaml_config["clip"]
        device = clip_runtime.choose_device(options["device"], properties.get("gpu_id"))
        runtime = clip_runtime.choose_runtime(options["runtime"], options["precision"], device, options["threads"])

        archive = json.loads((folder / "clip_archive.json").read_text())
        self.fingerprint: str = archive["fingerprint"]
        self.max_pixels: int = options["max_pixels"]
        self.tokenizer = clip_inputs.Tokenizer(folder / archive["vocabulary"])
        self.model = clip_model.ClipModel(folder / archive["weights"], runtime, archive["activation"])
        self.threads = ThreadPoolExecutor(runtime.threads, "decode")
        # The first pass allocates and chooses kernels: pay for it before the worker says it is ready.
        self.model.encode_texts([self.tokenizer.tokenize(b"a photo")[0]])
        self.model.encode_images(np.zeros((1, 3, clip_inputs.IMAGE_SIDE, clip_inputs.IMAGE_SIDE), np.float32))
        logger.info("clip ready: model=%s %s", self.fingerprint, runtime)
        if archive["label"] == "untrained":
            logger.warning("clip weights are UNTRAINED: rankings carry no meaning, only the mechanics are real")

    def handle(self, data: list[dict[str, Any]], context: Any) -> list[bytes]:
        """One batch as TorchServe hands it over -> one body a row; status and headers are set on the context."""
        rows = self.preprocess(data, context)
        return self.postprocess(rows, self.inference(rows), context)

    def preprocess(self, data: list[dict[str, Any]], context: Any) -> list[Any]:
        """Each request -> a (3, 224, 224) array, a (tokens, cut) pair, or the UnreadableInput that refuses it."""
        headers = [_headers(context, index) for index in range(len(data))]
        return list(self.threads.map(self._read, data, headers))  # Pillow lets go of the GIL while it decodes

    def _read(self, request: dict[str, Any], headers: dict[str, str]) -> Any:
        body = bytes(
            request.pop("body", None) or b""
        )  # out of the batch: photographs are large, and one copy is enough
        # TorchServe drops the query string of /predictions, so callers repeat the type in a header; the parameter
        # arrives only from /models/clip/invoke?type= and from forms. Who says nothing gets what the bytes look like.
        kind = bytes(request.get("type", b"")).decode("utf-8", "replace") or headers.get("x-clip-type")
        if kind is None:
            kind = "image" if clip_inputs.is_image(body) else "text"
        try:
            if kind == "image":
                return clip_inputs.decode_image(body, self.max_pixels)
            if kind == "text":
                return self.tokenizer.tokenize(body)
            raise clip_inputs.UnreadableInput(400, "invalid_type", "type must be text or image")
        except clip_inputs.UnreadableInput as refusal:
            return refusal

    def inference(self, rows: list[Any]) -> npt.NDArray[np.float32]:
        """Every tower runs once over its rows -> (len(rows), 512) float32; refused rows stay zero."""
        vectors = np.zeros((len(rows), 512), np.float32)
        images = [i for i, row in enumerate(rows) if isinstance(row, np.ndarray)]
        texts = [i for i, row in enumerate(rows) if isinstance(row, tuple)]
        if images:
            vectors[images] = self.model.encode_images(np.stack([rows[i] for i in images]))
        if texts:
            vectors[texts] = self.model.encode_texts([rows[i][0] for i in texts])
        return vectors

    def postprocess(self, rows: list[Any], vectors: npt.NDArray[np.float32], context: Any) -> list[bytes]:
        """Vectors and refusals -> bodies: 2,048 bytes of little-endian float32, or JSON where it was asked for."""
        bodies = []
        for index, (row, vector) in enumerate(zip(rows, vectors, strict=True)):
            context.set_response_header(index, "x-clip-model", self.fingerprint)
            if isinstance(row, clip_inputs.UnreadableInput):
                context.set_response_status(row.status, row.code, index)
                context.set_response_content_type(index, "application/json")
                bodies.append(json.dumps({"code": row.code, "message": row.message}).encode())
                continue
            if isinstance(row, tuple) and row[1]:
                context.set_response_header(index, "x-clip-truncated", "true")
            if "application/json" in _headers(context, index).get("accept", ""):
                context.set_response_content_type(index, "application/json")
                bodies.append(json.dumps(vector.tolist()).encode())
            else:
                context.set_response_content_type(index, "application/octet-stream")
                bodies.append(vector.astype("<f4").tobytes())
        return bodies


def _headers(context: Any, index: int) -> dict[str, str]:
    """The request's headers by lower-case name (TorchServe keeps the sender's spelling, and mixes in other things)."""
    headers = context.get_all_request_header(index)
    return {name.lower(): value for name, value in headers.items() if isinstance(value, str)}
