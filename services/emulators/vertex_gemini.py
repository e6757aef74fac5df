"""Gemini's side of our Vertex AI: texts in the shape that was asked for, and pictures."""

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from services.emulators.vertex_errors import invalid
from services.emulators.vertex_pictures import draw_still, picture_sent
from services.emulators.vertex_script import said


def generate(body: Mapping[str, Any]) -> dict[str, Any]:
    """The same answer for the same contents."""
    parts = list(_parts(body))
    config: Mapping[str, Any] = body.get("generationConfig", {})
    seed = hashlib.sha256(b"\0".join(parts)).digest()
    if "IMAGE" in config.get("responseModalities", ()):
        try:
            still = draw_still(seed, config.get("imageConfig", {}).get("aspectRatio", "1:1"))
        except KeyError:
            raise invalid("Unsupported aspect ratio.") from None
        image = {"mimeType": "image/png", "data": base64.b64encode(still).decode()}
        return said({"text": "Here it is."}, {"inlineData": image})
    schema = config.get("responseSchema")
    if schema is None:
        return said({"text": f"An answer to {seed.hex()[:8]}."})
    return said({"text": json.dumps(_instance(schema, f"{seed.hex()[:8]}"))})


def _parts(body: Mapping[str, Any]) -> Iterator[bytes]:
    for content in body.get("contents", ()):
        for part in content.get("parts", ()):
            if "text" in part:
                yield part["text"].encode()
            elif "inlineData" in part:
                yield picture_sent(part["inlineData"]["data"])


def _instance(schema: Mapping[str, Any], name: str) -> object:
    """Something that the schema allows; texts tell where they stand."""
    match schema["type"]:
        case "OBJECT":
            properties = schema["properties"]
            return {key: _instance(properties[key], f"{name} {key}") for key in properties}
        case "ARRAY":
            # Google takes either name; its client writes the second below the first level.
            count = int(schema.get("minItems") or schema.get("min_items") or 1)
            return [_instance(schema["items"], f"{name} {n + 1}") for n in range(count)]
        case _:
            return name
