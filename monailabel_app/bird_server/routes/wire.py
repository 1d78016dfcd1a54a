"""What the routes of /bird/v1 answer, for the OpenAPI and its readers."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from bird_server.jobs.questions import MAX_BATCH_QUESTIONS
from bird_server.service import Service
from bird_server.volumes.uploads import SUFFIXES
from bird_vlm.contract import MAX_LABEL_CHARACTERS, MAX_LABELS, MAX_QUESTION_CHARACTERS, PLANES
from bird_vlm.version import __version__

API_VERSION = 1
TASKS = ("ground", "refer", "caption", "ask", "batch")
EXAMPLE_VOLUME_ID = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
_DIGEST = "9c1185a5c5e9fc54612808977ee8f548"
_GEOMETRY = {
    "shape_ijk": [512, 512, 130],
    "ijk_to_ras": [
        [-0.8, 0.0, 0.0, 204.0],
        [0.0, -0.8, 0.0, 200.0],
        [0.0, 0.0, 2.5, -310.0],
        [0.0, 0.0, 0.0, 1.0],
    ],
}
_ABOUT = {
    "volume_id": EXAMPLE_VOLUME_ID,
    "volume_digest": _DIGEST,
    "name": "scan.nii.gz",
    "bytes": 31_457_280,
    "used": "2026-01-31T10:00:00.000+00:00",
    "in_use": False,
}
_HEALTH = {
    "status": "ok",
    "version": __version__,
    "api": API_VERSION,
    "model": {
        "id": "bird-mini",
        "labels": {"ct": ["liver", "spleen"]},
        "device": "cpu",
        "version": "0123456789abcdef",
        "note": "",
    },
    "planes": list(PLANES),
    "tasks": list(TASKS),
    "formats": list(SUFFIXES),
    "limits": {
        "upload_bytes": 2 << 30,
        "store_bytes": 100 << 30,
        "labels": MAX_LABELS,
        "label_characters": MAX_LABEL_CHARACTERS,
        "question_characters": MAX_QUESTION_CHARACTERS,
        "batch_questions": MAX_BATCH_QUESTIONS,
        "queued_jobs": 128,
        "queued_jobs_per_client": 64,
        "kept_job_seconds": 3600,
    },
    "jobs": {"queued": 0, "running": 1},
    "workers": [{"device": "cpu", "state": "busy"}],
}
LINES: dict[str, Any] = {
    "description": "A JSON object per line: `progress` per batch of slices, then `result` or "
    "`error`; as the events of a job.",
    "content": {
        "application/x-ndjson": {
            "schema": {"type": "string"},
            "example": '{"event": "progress", "done": 1, "total": 2, "boxes": [], "findings": []}\n'
            '{"event": "result", "result": {"findings": [], "absent": ["spleen"]}, '
            '"review": null, "warnings": []}\n',
        }
    },
}


def _shown(example: dict[str, Any]) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": [example]})


class GeometryJson(BaseModel):
    """Where the voxels lie; `ijk_to_ras` takes voxel indices to RAS millimetres."""

    shape_ijk: tuple[int, int, int]
    ijk_to_ras: list[list[float]]


class UploadedJson(BaseModel):
    """A stored volume, as its sender needs it."""

    model_config = _shown(
        {"volume_id": EXAMPLE_VOLUME_ID, "volume_digest": _DIGEST, "volume": _GEOMETRY}
    )
    volume_id: str = Field(description="SHA-256 of the bytes")
    volume_digest: str = Field(description="by which reviews know it, whatever the format")
    volume: GeometryJson


class VolumeJson(BaseModel):
    """A stored volume in a list."""

    model_config = _shown(_ABOUT)
    volume_id: str
    volume_digest: str
    name: str
    bytes: int
    used: str = Field(description="last use, ISO 8601, UTC")
    in_use: bool = Field(description="whether a job needs it")


class AboutJson(VolumeJson):
    """All that is known of a stored volume."""

    model_config = _shown(_ABOUT | {"volume": _GEOMETRY})
    volume: GeometryJson


class VolumesJson(BaseModel):
    """The stored volumes, the last used first."""

    model_config = _shown(
        {"volumes": [_ABOUT], "stored_bytes": 31_457_280, "quota_bytes": 100 << 30}
    )
    volumes: list[VolumeJson]
    stored_bytes: int
    quota_bytes: int


class ModelJson(BaseModel):
    """The model in use."""

    id: str
    labels: dict[str, list[str]] = Field(description="by modality; {} = any words")
    device: str
    version: str = Field(description="16 hex digits that change with the weights")
    note: str = Field(description="what whoever uses it should know of its boxes")


class HealthJson(BaseModel):
    """What the server can do."""

    model_config = _shown(_HEALTH)
    status: str
    version: str = Field(description="of the software")
    api: int = Field(description="of this protocol")
    model: ModelJson
    planes: list[str]
    tasks: list[str]
    formats: list[str] = Field(description="suffixes of volumes that can be uploaded")
    limits: dict[str, int]
    jobs: dict[str, int]
    workers: list[dict[str, str]]


class ReferredJson(BaseModel):
    """What is in a box; as `bird_vlm.contract.ReferringResult`."""

    model_config = _shown(
        {
            "model": "bird-mini",
            "task": "roc",
            "text": "liver",
            "score": 0.93,
            "slice": 40,
            "plane": "axial",
            "box_pixel": [10.0, 22.5, 80.0, 96.0],
        }
    )
    model: str
    task: str
    text: str
    score: float
    slice: int
    plane: str
    box_pixel: tuple[float, float, float, float]


class AskedJson(BaseModel):
    """The answer about a slice; as `bird_vlm.contract.AskingResult`."""

    model_config = _shown(
        {
            "model": "bird-mini",
            "text": "The liver and the spleen.",
            "score": 0.71,
            "slice": 40,
            "plane": "axial",
        }
    )
    model: str
    text: str
    score: float
    slice: int
    plane: str


def health_of(service: Service) -> dict[str, Any]:
    """The answer of /health, as HealthJson."""
    card, store, counts = service.card, service.store.limits, service.jobs.counts()
    queue = service.jobs.queue.limits
    model = {"id": card.id, "labels": card.labels, "device": card.device, "note": card.note}
    limits = {
        "upload_bytes": store.upload_bytes,
        "store_bytes": store.quota_bytes,
        "queued_jobs": queue.jobs,
        "queued_jobs_per_client": queue.jobs_per_client,
        "kept_job_seconds": int(service.jobs.ended.seconds),
    }
    return _HEALTH | {
        "model": model | {"version": service.version},
        "limits": _HEALTH["limits"] | limits,
        "jobs": {state: counts[state] for state in ("queued", "running")},
        "workers": service.workers(),
    }
