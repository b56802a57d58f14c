"""Lineage of stored files, for Airflow's hook lineage collector and for OpenLineage.

Image URLs may be signed, and a signature lets anyone who reads it fetch the image, so this module removes them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit, urlunsplit

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow.providers.common.compat.openlineage.facet import OutputDataset
    from airflow.providers.openlineage.extractors import OperatorLineage

_FACTS = ("sha256", "content_type", "width", "height", "duration_seconds", "verified", "veo_task_id")


class FileLineage:
    """
    A task that stores files and reports their lineage: images in, files out.

    Airflow's collector gets each file when it is stored. OpenLineage requests the lineage when the task has ended. It
    takes neither URLs nor the facts of a file from the collector, so it gets its datasets from here.
    """

    _images: Sequence[str] = ()
    _stored: Sequence[Mapping[str, Any]] = ()

    def report_lineage(self, images: Sequence[str], stored: Mapping[str, Any]) -> None:
        """
        Report a file to Airflow's hook lineage collector, and keep it for OpenLineage.

        :param images: as they were sent; ``data:`` URIs are left out.
        :param stored: facts of the file.
        """
        from airflow.providers.common.compat.lineage.hook import get_hook_lineage_collector

        bare_images = [bare for image in images if (bare := _without_secrets(image))]
        collector = get_hook_lineage_collector()  # type: ignore[no-untyped-call]  # it has no annotations
        for image in bare_images:
            collector.add_input_asset(context=self, uri=image)
        collector.add_output_asset(context=self, uri=stored["uri"])
        self._images = list(dict.fromkeys([*self._images, *bare_images]))
        self._stored = [*self._stored, stored]

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> OperatorLineage[Any, Any]:
        """
        Return the datasets of this task. Called by OpenLineage only.

        Each file has the facets ``outputStatistics`` (its size) and ``veo_file``: checksum, content type, the picture's
        size, duration, whether the file was verified to be complete, and the relay's id.

        :param task_instance: the one that has ended.
        """
        from airflow.providers.common.compat.openlineage.facet import InputDataset
        from airflow.providers.openlineage.extractors import OperatorLineage

        return OperatorLineage(
            inputs=[InputDataset(*_dataset_name(image)) for image in self._images],
            outputs=[_output(stored) for stored in self._stored],
        )


def _output(stored: Mapping[str, Any]) -> OutputDataset:
    from airflow.providers.common.compat.openlineage.facet import (
        DatasetFacet,
        OutputDataset,
        OutputStatisticsOutputDatasetFacet,
    )

    facts = {name: stored[name] for name in _FACTS if name in stored}
    # It returns an object of the same class, but is annotated with the base class.
    facet = cast("DatasetFacet", DatasetFacet().with_additional_properties(**facts))
    return OutputDataset(
        *_dataset_name(stored["uri"]),
        facets={"veo_file": facet},
        outputFacets={"outputStatistics": OutputStatisticsOutputDatasetFacet(size=stored["bytes"], fileCount=1)},
    )


def _without_secrets(image: str) -> str | None:
    """Return the URL of an image without query, user and password; ``None`` if it has no URL."""
    if not image.lower().startswith(("http://", "https://")):
        return None
    parts = urlsplit(image)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _dataset_name(uri: str) -> tuple[str, str]:
    """Return namespace and name by OpenLineage's naming, like Airflow's own conversion of assets."""
    parts = urlsplit(uri)
    if parts.scheme == "file":
        return "file", parts.path
    return f"{parts.scheme}://{parts.netloc}", parts.path.lstrip("/") or "/"
