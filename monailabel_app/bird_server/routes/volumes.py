"""The routes of stored volumes: put, list, look at, remove. Decides nothing itself."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from bird_server.routes.dependencies import ServiceInUse
from bird_server.routes.route_errors import failures
from bird_server.routes.wire import EXAMPLE_VOLUME_ID, AboutJson, UploadedJson, VolumesJson
from bird_server.volumes.uploads import Upload
from bird_server.volumes.volumes_store import StoredVolume

router = APIRouter(prefix="/volumes")
PIECE_BYTES = 1 << 20  # of a body, written at once
VolumeId = Annotated[
    str, Path(description="SHA-256 of the uploaded bytes", examples=[EXAMPLE_VOLUME_ID])
]
_BYTES = {
    "requestBody": {
        "required": True,
        "content": {
            "application/octet-stream": {
                "schema": {"type": "string", "format": "binary"},
                "example": "the bytes of scan.nii.gz",
            }
        },
    }
}


@router.put(
    "",
    status_code=201,
    summary="Store a volume",
    response_model=UploadedJson,
    responses={
        200: {"model": UploadedJson, "description": "These bytes were here already."},
        **failures(400, 408, 413, 422, 507),
    },
    openapi_extra=_BYTES,
)
async def put_volume(
    name: Annotated[
        str,
        Query(
            description="The file's name; its suffix tells the format, .zip = one DICOM series.",
            examples=["scan.nii.gz"],
        ),
    ],
    request: Request,
    response: Response,
    service: ServiceInUse,
) -> dict[str, Any]:
    """The body is the file itself. The same bytes are stored once."""
    with service.store.receive(name) as upload:
        await write_body(upload, request)
        stored, is_new = await run_in_threadpool(service.keep, upload)
    response.status_code = 201 if is_new else 200
    return uploaded(stored)


async def write_body(upload: Upload, request: Request) -> None:
    """In pieces, beside the event loop: a slow disk must not hold up other answers."""
    piece = bytearray()
    async for chunk in request.stream():
        piece += chunk
        if len(piece) >= PIECE_BYTES:
            await run_in_threadpool(upload.write, piece)
            piece = bytearray()
    await run_in_threadpool(upload.write, piece)


@router.get("", summary="List the volumes", response_model=VolumesJson)
def list_volumes(service: ServiceInUse) -> dict[str, Any]:
    """Those that are stored, the last used first."""
    stored = service.store.all()
    return {
        "volumes": [described(one) for one in stored],
        "stored_bytes": sum(one.size_bytes for one in stored),
        "quota_bytes": service.store.limits.quota_bytes,
    }


@router.get(
    "/{volume_id}",
    summary="What is known of a volume",
    response_model=AboutJson,
    responses=failures(404, 422),
)
def about(volume_id: VolumeId, service: ServiceInUse) -> dict[str, Any]:
    """Its name, size and position, and the digest by which reviews know it."""
    stored = service.stored(volume_id)
    return described(stored) | {"volume": stored.geometry}


@router.delete(
    "/{volume_id}", status_code=204, summary="Remove a volume", responses=failures(404, 409, 422)
)
def remove(volume_id: VolumeId, service: ServiceInUse) -> Response:
    """What was found in it stays among the reviews."""
    service.remove(volume_id)
    return Response(status_code=204)


def uploaded(stored: StoredVolume) -> dict[str, Any]:
    named = {"volume_id": stored.volume_id, "volume_digest": stored.volume_digest}
    return named | {"volume": stored.geometry}


def described(stored: StoredVolume) -> dict[str, Any]:
    used = datetime.fromtimestamp(stored.used, timezone.utc)
    return {
        "volume_id": stored.volume_id,
        "volume_digest": stored.volume_digest,
        "name": stored.name,
        "bytes": stored.size_bytes,
        "used": used.isoformat(timespec="milliseconds"),
        "in_use": stored.in_use,
    }
