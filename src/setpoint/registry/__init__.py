"""Bundles in a local OCI image layout: content store, versions, aliases."""

from setpoint.registry.bundle import EVIDENCE, VARIANT_FOLDER, Bundle, BundleFile
from setpoint.registry.layout import digest_of_file
from setpoint.registry.reference import Reference, check_name
from setpoint.registry.registry import Registry
from setpoint.registry.sources import open_model, pack_source

__all__ = [
    "EVIDENCE",
    "VARIANT_FOLDER",
    "Bundle",
    "BundleFile",
    "Reference",
    "Registry",
    "check_name",
    "digest_of_file",
    "open_model",
    "pack_source",
]
