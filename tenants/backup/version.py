"""What this product calls itself, in manifests."""

from importlib.metadata import PackageNotFoundError, version


def product_version() -> str:
    try:
        return f"seo-gen {version('seo-gen')}"
    except PackageNotFoundError:
        return "seo-gen"
