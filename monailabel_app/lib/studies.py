"""Images of MONAI Label's studies folder and the cases of the review store: who is who.

Knows nothing about models or questions.
"""

from __future__ import annotations

from pathlib import Path

from monailabel.interfaces.datastore import Datastore

from bird_server.review.review import Review


def study_of(path: Path, studies: Path) -> str | None:
    """`path` relative to the studies folder, with "/"; None for what lies elsewhere or is private.

    Sessions are private: their files are gone in an hour.
    """
    try:
        inside = path.resolve().relative_to(studies.resolve())
    except ValueError:
        return None
    return None if inside.parts[0].startswith(".") else inside.as_posix()


def images_by_case(datastore: Datastore, review: Review) -> dict[str, str]:
    """Image ids by volume digest, of the images that something is known about."""
    by_study = {summary.places.study: summary for summary in review.store.summaries()}
    found = {}
    for image in datastore.list_images():
        summary = by_study.get(study_of(Path(datastore.get_image_uri(image)), review.studies))
        if summary is not None:
            found[summary.case.volume_digest] = image
    return found
