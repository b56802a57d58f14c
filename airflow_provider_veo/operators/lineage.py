"""What a stored file was made of, for Airflow's hook lineage collector and for OpenLineage.

URLs are signed, and signatures let whoever reads them fetch the image: none gets further than this module.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow.providers.common.compat.openlineage.facet import OutputDataset
    from airflow.providers.openlineage.extractors import OperatorLineage

_FACTS = ("sha256", "content_type", "width", "height", "duration_seconds", "verified", "veo_task_id")


class FileLineage:
    """
    A task that stores files, and says what they were made of: images in, files out.

    Airflow's collector is told when a file is there. OpenLineage asks when the task has ended: of what the collector
    knows it takes neither URLs nor what is known of the file, so it gets its datasets from here.
    """

    _images: Sequence[str] = ()
    _stored: Sequence[Mapping[str, Any]] = ()

    def report_lineage(self, images: Sequence[str], stored: Mapping[str, Any]) -> None:
        """
        Tell Airflow's hook lineage collector of a file, and keep it for OpenLineage.

        :param images: as they were sent; those that are ``data:`` URIs are nothing that others could know.
        :param stored: what is known of the file.
        """
        from airflow.providers.common.compat.lineage.hook import get_hook_lineage_collector

        bare_images = [bare for image in images if (bare := _without_secrets(image))]
        collector = get_hook_lineage_collector()
        for image in bare_images:
            collector.add_input_asset(context=self, uri=image)
        collector.add_output_asset(context=self, uri=stored["uri"])
        self._images = list(dict.fromkeys([*self._images, *bare_images]))
        self._stored = [*self._stored, stored]

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> OperatorLineage:
        """
        Return the datasets of this task; OpenLineage calls it, and nothing else does.

        Each file has the facets ``outputStatistics`` (its size) and ``veo_file``: checksum, content type, the picture's
        size, duration, whether the file was verified to be whole, and the relay's id.

        :param task_instance: that has ended.
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
    return OutputDataset(
        *_dataset_name(stored["uri"]),
        facets={"veo_file": DatasetFacet().with_additional_properties(**facts)},
        outputFacets={"outputStatistics": OutputStatisticsOutputDatasetFacet(size=stored["bytes"], fileCount=1)},
    )


def _without_secrets(image: str) -> str | None:
    """Return where an image is, without query, user and password; ``None`` if it is nowhere else than here."""
    if not image.lower().startswith(("http://", "https://")):
        return None
    parts = urlsplit(image)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _dataset_name(uri: str) -> tuple[str, str]:
    """Return namespace and name by OpenLineage's naming, which is that of Airflow's own translation of assets."""
    parts = urlsplit(uri)
    if parts.scheme == "file":
        return "file", parts.path
    return f"{parts.scheme}://{parts.netloc}", parts.path.lstrip("/") or "/"
