"""Storage for tenants' files in S3 (setting STORAGES). Imported only if S3 is used, since boto3 is slow to import."""

from typing import Any

from botocore.config import Config
from django.conf import settings
from storages.backends.s3 import S3Storage


class ArtifactStorage(S3Storage):  # type: ignore[misc]  # the package has no types
    """The S3 storage of django-storages, with the checksum options from the settings."""

    def get_default_settings(self) -> dict[str, Any]:
        checksums = Config(
            request_checksum_calculation=settings.AWS_REQUEST_CHECKSUM_CALCULATION,
            response_checksum_validation=settings.AWS_RESPONSE_CHECKSUM_VALIDATION,
        )
        return {**super().get_default_settings(), "client_config": checksums}
