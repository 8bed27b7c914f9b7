"""The product's name and version, for manifests and certificates."""

from importlib.metadata import PackageNotFoundError, version


def product_version() -> str:
    try:
        return f"seo-gen {version('seo-gen')}"
    except PackageNotFoundError:
        return "seo-gen"
