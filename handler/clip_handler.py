"""The one class TorchServe calls: a batch of requests in, one vector or one clear refusal for each, in order.

TorchServe takes the single class of this module as the handler, and answers 503 for a whole batch when `handle`
raises; so a row that cannot be embedded gets its own status and never an exception. The reply formats are written
down in docs/operating.md under "The wire between the two".
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import clip_decode_pool
import clip_inputs
import clip_model
import clip_runtime
import clip_signatures
import clip_text
import numpy as np
import numpy.typing as npt
from clip_inputs import Pixels, Refusal, Row, Tokens
from clip_limits import Limits

logger = logging.getLogger(__name__)

Vectors = npt.NDArray[np.float32]


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
        self.pictures = clip_decode_pool.DecodePool(Limits.from_options(options), runtime.threads)
        self.tokenizer = clip_text.Tokenizer(folder / archive["vocabulary"])
        self.model = clip_model.ClipModel(folder / archive["weights"], runtime, archive["activation"])
        # The first pass allocates and chooses kernels: pay for it before the worker says it is ready.
        self.model.encode_texts([self.tokenizer.tokenize(b"a photo").ids])
        self.model.encode_images(np.zeros((1, 3, clip_inputs.IMAGE_SIDE, clip_inputs.IMAGE_SIDE), np.float32))
        logger.info("clip ready: model=%s %s", self.fingerprint, runtime)
        if archive["label"] == "untrained":
            logger.warning("clip weights are UNTRAINED: rankings carry no meaning, only the mechanics are real")

    def handle(self, data: list[dict[str, Any]], context: Any) -> list[bytes]:
        """One batch as TorchServe hands it over -> one body a row; status and headers are set on the context."""
        rows = self.preprocess(data, context)
        return self.postprocess(rows, self.inference(rows), context)

    def preprocess(self, data: list[dict[str, Any]], context: Any) -> list[Row]:
        """Each request -> the pixels or tokens of its content, or its refusal."""
        rows: dict[int, Row] = {}
        files: dict[int, bytes] = {}
        for index, request in enumerate(data):
            # Out of the batch: photographs are large, and one copy is enough.
            body = bytes(request.pop("body", None) or b"")
            match _content_type(request, _headers(context, index), body):
                case "image":
                    files[index] = body
                case "text":
                    rows[index] = self._tokenize(body)
                case _:
                    rows[index] = Refusal(400, "invalid_type", "type must be text or image")
        rows.update(zip(files, self.pictures.read(list(files.values())), strict=True))
        return [rows[index] for index in range(len(data))]

    def _tokenize(self, body: bytes) -> Row:
        try:
            return self.tokenizer.tokenize(body)
        except Refusal as refusal:
            return refusal

    def inference(self, rows: list[Row]) -> Vectors:
        """Every tower runs once over its rows -> (len(rows), 512) float32; refused rows stay zero."""
        vectors = np.zeros((len(rows), 512), np.float32)
        images = {index: row.array for index, row in enumerate(rows) if isinstance(row, Pixels)}
        texts = {index: row.ids for index, row in enumerate(rows) if isinstance(row, Tokens)}
        if images:
            vectors[list(images)] = self.model.encode_images(np.stack(list(images.values())))
        if texts:
            vectors[list(texts)] = self.model.encode_texts(list(texts.values()))
        return vectors

    def postprocess(self, rows: list[Row], vectors: Vectors, context: Any) -> list[bytes]:
        """Vectors and refusals -> bodies: 2,048 bytes of little-endian float32, or JSON where it was asked for."""
        bodies = []
        for index, (row, vector) in enumerate(zip(rows, vectors, strict=True)):
            context.set_response_header(index, "x-clip-model", self.fingerprint)
            if isinstance(row, Refusal):
                context.set_response_status(row.status, row.code, index)
                context.set_response_content_type(index, "application/json")
                bodies.append(json.dumps({"code": row.code, "message": row.message}).encode())
                continue
            if isinstance(row, Tokens) and row.cut:
                context.set_response_header(index, "x-clip-truncated", "true")
            if "application/json" in _headers(context, index).get("accept", ""):
                context.set_response_content_type(index, "application/json")
                bodies.append(json.dumps(vector.tolist()).encode())
            else:
                context.set_response_content_type(index, "application/octet-stream")
                bodies.append(vector.astype("<f4").tobytes())
        return bodies


def _content_type(request: dict[str, Any], headers: dict[str, str], body: bytes) -> str:
    """What the request says its content is; who says nothing gets what the bytes look like."""
    # TorchServe drops the query string of /predictions, so callers repeat the type in a header; the parameter arrives
    # only from /models/clip/invoke?type= and from forms.
    said = bytes(request.get("type", b"")).decode("utf-8", "replace") or headers.get("x-clip-type")
    return said or ("image" if clip_signatures.is_picture(body) else "text")


def _headers(context: Any, index: int) -> dict[str, str]:
    """The request's headers by lower-case name (TorchServe keeps the sender's spelling, and mixes in other things)."""
    headers = context.get_all_request_header(index)
    return {name.lower(): value for name, value in headers.items() if isinstance(value, str)}
